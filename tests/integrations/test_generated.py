"""Synthetic images that are made on the fly, alone and beside real ones."""

import pickle
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from small import CLASS_NAMES, TRAIN_COUNTS
from torch.utils.data import DataLoader

from ganaug import AugmentedDataset, GanaugError, GANReplace, Generator, GeneratorDataset
from ganaug.data.images import decode
from ganaug.data.manifest import read_manifest
from ganaug.synthesis import filters
from ganaug.synthesis.sample import CHUNK


@pytest.fixture(scope="module")
def generator(tiny_run):
    return Generator.from_run(tiny_run)


def pixels_of(dataset):
    """(N, 16, 16) of gray images."""
    return np.stack([np.asarray(dataset.picture(index, "L")) for index in range(len(dataset))])


def written(folder, count=5):
    table = read_manifest(folder)
    files = [file for name in CLASS_NAMES for file in table.loc[table["class"] == name, "file"][:count]]
    return np.stack([decode((folder / file).read_bytes()).pixels[:, :, 0] for file in files])


@pytest.mark.parametrize("curated", [True, False])
def test_its_images_are_those_of_synthesize(tiny_run, tiny_synthetic, curated):
    dataset = GeneratorDataset(tiny_run, per_class=5, curated=curated, device="cpu")
    np.testing.assert_array_equal(pixels_of(dataset), written(tiny_synthetic))
    assert dataset.classes == list(CLASS_NAMES) and dataset.targets == [0] * 5 + [1] * 5 + [2] * 5
    image, label = dataset[-1]
    assert image.shape == (3, 16, 16) and image.dtype == torch.float32 and label == 2


def test_classifiers_that_nobody_asks_are_not_trained(tiny_run, monkeypatch):
    monkeypatch.setattr("ganaug.synthesis.curation.build_curator", None)  # not called
    monkeypatch.setattr("ganaug.synthesis.synthesize.build_curator", None)
    assert len(GeneratorDataset(tiny_run, per_class=CHUNK + 2, device="cpu")) == 3 * (CHUNK + 2)


def test_every_epoch_has_images_of_its_own_and_comes_again(generator):
    dataset = GeneratorDataset(generator, per_class=3, device="cpu")
    first = pixels_of(dataset)
    dataset.set_epoch(1)
    assert all((a != b).any() for a, b in zip(pixels_of(dataset), first, strict=True))
    second = pixels_of(dataset)
    assert (second != pixels_of(GeneratorDataset(generator, per_class=3, seed=1, device="cpu"))).any()
    dataset.set_epoch(0)
    np.testing.assert_array_equal(pixels_of(dataset), first)
    np.testing.assert_array_equal(pixels_of(GeneratorDataset(generator, per_class=3, device="cpu")), first)


def test_counts_of_each_class_and_truncation(generator):
    dataset = GeneratorDataset(generator, per_class={"2": 4, "0": 1, "1": 0}, truncation=0.5, device="cpu")
    assert dataset.targets == [0, 2, 2, 2, 2]
    np.testing.assert_array_equal(pixels_of(dataset)[1:], generator.sample("2", 4, truncation=0.5)[:, 0])


def test_a_saved_generator(generator, tmp_path):
    generator.save_pretrained(tmp_path / "saved")
    dataset = GeneratorDataset(tmp_path / "saved", per_class=2, device="cpu")
    np.testing.assert_array_equal(pixels_of(dataset), pixels_of(GeneratorDataset(generator, per_class=2, device="cpu")))


def few_pass(monkeypatch, count):
    """Of every block of candidates only the first ones pass a test."""
    monkeypatch.setitem(filters.FILTERS, "copy", lambda evidence, *_: np.arange(len(evidence.labels)) < count)


@pytest.fixture
def tested_run(tiny_run, tmp_path):
    """The tiny run, whose images must pass the one test that a test here replaces."""
    import shutil

    run = shutil.copytree(tiny_run, tmp_path / "run")
    recipe = (run / "recipe.yaml").read_text()
    assert "- copy\n" in recipe
    lines = [line for line in recipe.splitlines() if line.strip() != "- copy"]
    (run / "recipe.yaml").write_text("\n".join(lines).replace("max_candidates: 20", "max_candidates: 1"))
    return run


def test_what_passed_is_repeated_where_it_is_too_little(tested_run, monkeypatch):
    few_pass(monkeypatch, 2)  # of each of two blocks
    found = pixels_of(GeneratorDataset(tested_run, per_class=10, device="cpu"))[:10]
    assert len(np.unique(found, axis=0)) == 4
    np.testing.assert_array_equal(found[4:8], found[:4])


def test_a_class_of_which_nothing_passes(tested_run, monkeypatch):
    few_pass(monkeypatch, 0)
    with pytest.raises(GanaugError, match=r"class 0: 0 of 3 images.*rejected as copy.*curated=False"):
        GeneratorDataset(tested_run, per_class=3, device="cpu")


# beside real images


def test_beside_real_images_in_every_epoch(tiny_run, digits, generator):
    made = GeneratorDataset(generator, per_class=6, device="cpu")
    dataset = AugmentedDataset(
        digits, made, ratio=0.5, mode="L", transform=lambda image: np.asarray(image.resize((16, 16)))
    )
    num_real = sum(TRAIN_COUNTS.values())
    assert [dataset.targets[num_real:].count(label) for label in range(3)] == [4, 3, 3]  # of 8, 6 and 5 real ones
    rows = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14]

    def shown():
        return np.stack([dataset[index][0] for index in range(num_real, len(dataset))])

    np.testing.assert_array_equal(shown(), pixels_of(made)[rows])
    first = shown()
    dataset.set_epoch(2)
    assert (shown() != first).any(axis=(1, 2)).all()
    np.testing.assert_array_equal(shown(), pixels_of(made)[rows])


def test_workers_see_the_images_of_the_next_epoch(generator):
    dataset = GeneratorDataset(generator, per_class=4, device="cpu")
    loader = DataLoader(dataset, batch_size=4, num_workers=2, persistent_workers=True)
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        found = torch.cat([images for images, _ in loader])
        assert torch.equal(found, torch.stack([dataset[index][0] for index in range(12)]))


def test_a_spawned_worker_has_the_images_and_not_the_networks(generator):
    dataset = GeneratorDataset(generator, per_class=4, device="cpu")
    copy = ForkingPickler.loads(ForkingPickler.dumps(dataset))
    dataset.set_epoch(1)
    np.testing.assert_array_equal(pixels_of(copy), pixels_of(dataset))
    with pytest.raises(GanaugError, match="set_epoch must be called on the GeneratorDataset that was made"):
        copy.set_epoch(2)
    assert len(pickle.dumps(generator)) > len(pickle.dumps(dataset))


def test_in_a_pipeline_of_albumentations(generator):
    transform = GANReplace(GeneratorDataset(generator, per_class=4, device="cpu"), p=1)
    found = transform(image=np.zeros((16, 16), np.uint8), label="1")["image"]
    assert found.tobytes() in {image.tobytes() for image in generator.sample("1", 4)[:, 0]}
    import albumentations as A

    with pytest.raises(GanaugError, match="cannot be serialised: expected a folder"):
        A.to_dict(transform)
    assert "GANReplace" in repr(transform)


def test_the_users_own_generator_stays_as_it_is(tiny_run):
    mine = Generator.from_run(tiny_run).train()
    GeneratorDataset(mine, per_class=1, device="cpu")
    assert mine.training


# refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_class": -1}, "per_class must be a whole number, 0 or more"),
        ({"per_class": {"0": 1.5}}, r"per_class must be a whole number, 0 or more; got \{'0': 1\.5\}"),
        ({"per_class": 0}, "asks for no image at all"),
        ({"per_class": {"7": 3}}, "unknown class '7'"),
        ({"seed": -2}, "seed must be 0 or more; got -2"),
        ({"truncation": 3}, "truncation above 0, up to 1"),
        ({"curated": True}, "has no training images to test its own by"),
    ],
)
def test_impossible_requests(generator, options, message):
    with pytest.raises(GanaugError, match=message):
        GeneratorDataset(generator, **options)


def test_what_is_neither_a_run_nor_a_generator(tmp_path):
    with pytest.raises(GanaugError, match="is neither a run nor a saved generator"):
        GeneratorDataset(tmp_path)
    with pytest.raises(GanaugError, match="is not a run"):
        GeneratorDataset(tmp_path, curated=True)
    with pytest.raises(GanaugError, match="got int"):
        GeneratorDataset(5)


def test_other_classes_than_the_real_ones(generator, tmp_path):
    from folders import write_images

    real = write_images(tmp_path / "real", {"0": 2, "1": 2})
    with pytest.raises(GanaugError, match="the generator has classes that the real images do not have: 2"):
        AugmentedDataset(real, GeneratorDataset(generator, per_class=1, device="cpu"), transform=np.asarray)
