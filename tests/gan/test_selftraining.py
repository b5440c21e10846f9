"""What images without labels show, and what a run makes of it."""

import numpy as np
import pytest
import torch
from small import CLASS_NAMES, with_settings

from ganaug.data.cache import load
from ganaug.data.images import encode_png
from ganaug.errors import GanaugError
from ganaug.gan import selftraining, training
from ganaug.gan.selftraining import self_train
from ganaug.gan.shares import split_images
from ganaug.gan.training import fit, refit
from ganaug.gan.validation import LabeledTensors
from ganaug.pipeline import run as run_all
from ganaug.recipe import load_recipe
from ganaug.runs import RunFolder
from ganaug.synthesis.curation import real_images

OPERATIONS = ("color", "translation", "scale", "rotation", "cutout")


def bars(count, seed):
    """Upright (0) and level (1) bars of many places and shades, uint8, with labels."""
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 40, (count, 1, 16, 16), dtype=np.uint8), rng.integers(2, size=count)
    for image, label, place, shade in zip(
        images, labels, rng.integers(2, 12, count), rng.integers(120, 256, count), strict=True
    ):
        (image[0].T if label == 0 else image[0])[place : place + 3] = shade
    return images, labels


@pytest.fixture
def fewer_updates(monkeypatch):
    monkeypatch.setattr(selftraining, "NUM_UPDATES", 150)


def learn(seed=0, **patched):
    images, labels = bars(8, 1)
    labels[:2] = 0, 1
    known = LabeledTensors(torch.from_numpy(images), torch.from_numpy(labels))
    heap, truth = bars(60, 2)
    return self_train(known, torch.from_numpy(heap), 2, "none", seed, torch.float32, OPERATIONS), truth


def test_it_tells_what_unlabeled_images_show(fewer_updates):
    chances, truth = learn()
    assert chances.shape == (60, 2)
    torch.testing.assert_close(chances.sum(dim=1), torch.ones(60))
    assert (chances.argmax(dim=1).numpy() == truth).mean() >= 0.9


def test_unlabeled_images_change_what_is_learned_and_the_seed_repeats_it(fewer_updates, monkeypatch):
    one, other = learn()[0], learn()[0]
    assert torch.equal(one, other) and not torch.equal(one, learn(seed=1)[0])
    monkeypatch.setattr(selftraining, "CONFIDENT", 1.1)  # no answer ever is: the labeled images alone
    assert not torch.equal(one, learn()[0])


@pytest.fixture(scope="module")
def heap(tmp_path_factory):
    """Ten unlabeled digits of each class."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    folder = tmp_path_factory.mktemp("heap")
    for k in range(len(CLASS_NAMES)):
        for number, row in enumerate(np.flatnonzero(scans.target == k)[60:70]):
            pixels = np.round(scans.images[row] * (255 / 16)).astype(np.uint8)
            (folder / f"{k}-{number}.png").write_bytes(encode_png(pixels[:, :, None]))
    return folder


@pytest.fixture(scope="module")
def taught_run(digits, heap, tmp_path_factory):
    """A run whose classifier is sure of every second unlabeled image, and right."""

    def look(labeled, unlabeled, num_classes, *others):
        files = sorted(path.name for path in heap.iterdir())
        assert len(files) == len(unlabeled)
        chances = torch.nn.functional.one_hot(torch.tensor([int(name[0]) for name in files]), num_classes).float()
        chances[1::2] = 1 / num_classes
        return chances

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "self_train", look)
        recipe = with_settings(data={"unlabeled": heap}, fit={"steps": 8})
        return fit(digits, tmp_path_factory.mktemp("runs") / "taught", recipe=recipe)


def test_the_gan_learns_from_those_that_are_sure(taught_run):
    images, recipe = load(taught_run / "data"), load_recipe(taught_run / "recipe.yaml")
    assert np.bincount(images.unlabeled.sure()[1]).tolist() == [5, 5, 5]
    train, held_out = split_images(images, recipe, torch.device("cpu"))
    assert len(train.labels) + len(held_out.labels) == sum(images.counts("train").values()) + 15
    counts = torch.bincount(train.labels) + torch.bincount(held_out.labels)
    assert counts.tolist() == [n + 5 for n in images.counts("train").values()]
    known = {image.numpy().tobytes() for image in train.images}
    assert all(image.tobytes() in known for image in images.unlabeled.sure()[0])


def test_copies_of_them_are_copies(taught_run):
    images = load(taught_run / "data")
    real = real_images(images, load_recipe(taught_run / "recipe.yaml"))
    assert (
        len(real.labels) == len(real.files) == len(real.groups) == len(real.images) == images.counts("train")["0"] + 26
    )
    assert real.files[-15:] == images.unlabeled.sure_files()


def test_another_gan_of_the_same_images_takes_over_their_labels(taught_run, tmp_path):
    run, target = RunFolder(taught_run), RunFolder(tmp_path / "again")
    before = load(run.data)
    refit(run, target, before.splits, 5, "cpu")  # were they learned anew, a thousand updates would show
    assert load(target.data).unlabeled.labels.tolist() == before.unlabeled.labels.tolist()


def test_a_fold_looks_for_itself(taught_run, tmp_path, monkeypatch):
    seen = []

    def look(labeled, unlabeled, num_classes, *others):
        seen.append(len(labeled.labels))
        return torch.full((len(unlabeled), num_classes), 1 / num_classes)

    monkeypatch.setattr(training, "self_train", look)
    run, target = RunFolder(taught_run), RunFolder(tmp_path / "fold")
    splits = load(run.data).splits.copy()
    train = np.flatnonzero(splits == "train")
    splits[splits == "test"], splits[train[::3]] = "", "test"
    refit(run, target, splits, 5, "cpu")
    assert seen == [(splits == "train").sum()]  # the judged images' labels teach nothing
    assert (load(target.data).unlabeled.labels == -1).all()


def test_a_resumed_run_does_not_look_again(taught_run, digits, heap, tmp_path, monkeypatch, caplog):
    import shutil

    shutil.copytree(taught_run, tmp_path / "run")
    info = (tmp_path / "run/run.json").read_text()
    (tmp_path / "run/run.json").write_text(info.replace('"complete": true', '"complete": false'))
    monkeypatch.setattr(training, "self_train", lambda *arguments: pytest.fail("looked again"))
    fit(digits, tmp_path / "run", recipe=with_settings(data={"unlabeled": heap}, fit={"steps": 8}), resume=True)
    assert load(tmp_path / "run/data").unlabeled.labels is not None


def test_a_run_that_stopped_while_it_read_unlabeled_images_begins_anew(digits, heap, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "label_unlabeled", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    recipe = with_settings(data={"unlabeled": heap, "mirror": "none"})
    with pytest.raises(KeyboardInterrupt):
        fit(digits, tmp_path / "run", recipe=recipe)
    assert (tmp_path / "run/data/unlabeled.npy").is_file()
    for name in ("run.json", "recipe.yaml"):
        (tmp_path / "run" / name).unlink(missing_ok=True)
    with pytest.raises(KeyboardInterrupt):  # and not a refusal of the folder
        fit(digits, tmp_path / "run", recipe=recipe)


def test_a_run_inside_the_unlabeled_images_is_refused(digits, heap):
    with pytest.raises(GanaugError, match="where it would be taken for unlabeled images"):
        fit(digits, heap / "run", recipe=with_settings(data={"unlabeled": heap}))
    with pytest.raises(GanaugError, match="where it would be taken for unlabeled images"):
        run_all(digits, heap / "result", recipe=with_settings(data={"unlabeled": heap}))
    assert all(path.is_file() for path in heap.iterdir())
