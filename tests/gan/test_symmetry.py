"""Which reflections are found harmless, by classifiers of small synthetic sets whose symmetries are known."""

import numpy as np
import pytest
import torch
import yaml
from hurry import with_other
from interruptions import member_of
from small import with_settings

from ganaug.data.images import encode_png
from ganaug.gan import judge, symmetry
from ganaug.gan.symmetry import MIN_IMAGES, safe_reflections, settle_mirror
from ganaug.gan.training import fit
from ganaug.gan.validation import LabeledTensors
from ganaug.recipe import load_recipe

SIDE = 16
DARK, BRIGHT = 60, 190


@pytest.fixture(autouse=True)
def small_judges(monkeypatch):
    """Classifiers that learn what is easy within a second."""
    monkeypatch.setattr(symmetry, "train_judge", with_other(judge.train_judge, judge, NUM_UPDATES=60, BATCH_SIZE=32))


def half(axis, last):
    """A picture that is bright in the first or the last half along an axis."""
    picture = np.full((SIDE, SIDE), DARK)
    picture[(slice(None),) * axis + ((slice(SIDE // 2, None) if last else slice(SIDE // 2)),)] = BRIGHT
    return picture


def stripes(axis):
    return np.where(np.arange(SIDE) // 2 % 2, BRIGHT, DARK)[:, None].repeat(SIDE, 1).swapaxes(0, axis)


TOP, BOTTOM, LEFT, RIGHT = half(0, False), half(0, True), half(1, False), half(1, True)
LEVEL, UPRIGHT = stripes(0), stripes(1)


def draw(pictures, count, seed=0):
    """Images of as many classes as there are pictures, which noise, shifts along both axes and contrast vary."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(pictures)
    images = []
    for label in labels:
        moved = np.roll(pictures[label], rng.integers(-1, 2, 2), (0, 1))
        images.append(np.clip(128 + (moved - 128) * rng.uniform(0.6, 1) + rng.normal(0, 20, (SIDE, SIDE)), 0, 255))
    return LabeledTensors(torch.from_numpy(np.stack(images).astype(np.uint8))[:, None], torch.from_numpy(labels))


def found(pictures, count=60, seed=0):
    return safe_reflections(draw(pictures, count, seed), len(pictures), seed, torch.float32)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("pictures", "mirror"),
    [
        ((LEFT, RIGHT), "vertical"),  # the side is the class
        ((TOP, BOTTOM), "horizontal"),
        ((LEFT, RIGHT, TOP, BOTTOM), "none"),
        ((LEVEL, UPRIGHT), "both"),
        ((LEVEL, UPRIGHT, LEFT, RIGHT), "vertical"),  # two of four classes that would be taken for one another are
    ],
    ids=["sides", "ups and downs", "all four", "stripes", "stripes and sides"],
)
def test_known_symmetries(pictures, mirror, seed):
    assert found(pictures, 80, seed) == mirror


def test_a_few_classes_that_are_broken_are_not_outvoted():
    """Two of sixteen classes are each other's mirror images, all others symmetric."""
    rng = np.random.default_rng(5)
    halves = rng.uniform(DARK, BRIGHT, (14, 4, 2))
    symmetric = np.concatenate([halves, halves[:, :, ::-1]], axis=2).repeat(4, 1).repeat(4, 2)
    assert found((*symmetric, LEVEL, UPRIGHT), 320) in ("horizontal", "both")
    assert found((*symmetric, LEFT, RIGHT), 320) in ("none", "vertical")


@pytest.mark.parametrize(("count", "mirrors"), [(4, ("horizontal", "both")), (20, ("none", "vertical"))])
def test_a_class_too_small_to_tell_has_no_veto(count, mirrors):
    """Two classes that are each other's mirror images, beside two larger ones that are symmetric."""
    data = draw((LEVEL, UPRIGHT, LEFT, RIGHT), 600)
    rows = torch.cat([torch.where(data.labels == k)[0][: 150 if k < 2 else count] for k in range(4)])
    small = LabeledTensors(data.images[rows], data.labels[rows])
    assert safe_reflections(small, 4, 0, torch.float32) in mirrors


def test_too_few_images_allow_nothing():
    assert found((LEVEL, UPRIGHT), MIN_IMAGES) == "both"
    assert found((LEVEL, UPRIGHT), MIN_IMAGES - 1) is None


def test_a_single_class_allows_nothing():
    assert found((LEVEL,)) == "none"


@pytest.mark.parametrize("seed", range(3))
def test_classes_that_nothing_tells_apart_allow_nothing(seed):
    flat = np.full((SIDE, SIDE), 128)
    assert found((flat, flat, flat), 60, seed) is None


@pytest.mark.parametrize(("count", "why"), [(60, "hardly tell the classes apart"), (20, "fewer than 40 images")])
def test_what_cannot_be_known_is_not_called_none(caplog, count, why):
    caplog.set_level("INFO", "ganaug")
    flat = np.full((SIDE, SIDE), 128)
    assert (
        settle_mirror(load_recipe({"fit": {"precision": "fp32"}}), draw((flat, flat), count), 2).data.mirror == "none"
    )
    assert why in caplog.text and "--mirror horizontal (or both)" in caplog.text


def test_classes_of_few_among_many_are_not_taken_for_guessed():
    """Nine in ten images are of one class, as which a classifier that guesses would take all."""
    data = draw((LEFT, RIGHT, TOP, BOTTOM), 400)
    rows = torch.cat([torch.where(data.labels == k)[0][: 100 if k == 0 else 10] for k in range(4)])
    few = LabeledTensors(data.images[rows], data.labels[rows])
    assert safe_reflections(few, 4, 0, torch.float32) is not None
    flat = draw((np.full((SIDE, SIDE), 128),) * 4, 400)
    assert safe_reflections(LabeledTensors(flat.images[rows], flat.labels[rows]), 4, 0, torch.float32) is None


def test_what_is_found_repeats_and_leaves_the_random_numbers_alone():
    data, before = draw((LEFT, RIGHT, LEVEL), 45), torch.random.get_rng_state()
    outcomes = {safe_reflections(data, 3, 5, torch.float32) for _ in range(2)}
    assert len(outcomes) == 1 and torch.equal(torch.random.get_rng_state(), before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{mirror: a folder of images of which that is true}"""
    root = tmp_path_factory.mktemp("symmetric")
    for mirror, pictures in (("vertical", (LEFT, RIGHT)), ("both", (LEVEL, UPRIGHT))):
        for split, count in (("train", 60), ("test", 4)):
            data = draw(pictures, count, seed=count)
            for i, (image, label) in enumerate(zip(data.images.numpy(), data.labels.tolist(), strict=True)):
                folder = root / mirror / split / "ab"[label]
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{i}.png").write_bytes(encode_png(image.transpose(1, 2, 0)))
    return {mirror: root / mirror for mirror in ("vertical", "both")}


SHORT = {"steps": 4}


@pytest.mark.parametrize("mirror", ["vertical", "both"])
def test_fit_settles_the_reflections_and_keeps_them(folders, tmp_path, monkeypatch, caplog, mirror):
    caplog.set_level("INFO", "ganaug")
    run = fit(folders[mirror], tmp_path / "run", recipe=with_settings(fit=SHORT, data={"mirror": "auto"}))
    assert yaml.safe_load((run / "recipe.yaml").read_text())["data"]["mirror"] == mirror
    assert member_of(run)["shape"]["mirror"] == mirror
    assert f"reflections that keep the class: {mirror}" in caplog.text
    monkeypatch.setattr("ganaug.gan.symmetry.safe_reflections", lambda *_: pytest.fail("looked for again"))
    assert load_recipe(run / "recipe.yaml").data.mirror == mirror
    fit(folders[mirror], tmp_path / "again", recipe=run / "recipe.yaml")
    assert fit(folders[mirror], run, recipe=with_settings(fit=SHORT, data={"mirror": "auto"}), resume=True) == run


@pytest.mark.parametrize("asked", ["none", "horizontal"])
def test_what_is_asked_for_is_not_looked_for(folders, tmp_path, monkeypatch, asked):
    monkeypatch.setattr("ganaug.gan.symmetry.safe_reflections", lambda *_: pytest.fail("looked for"))
    run = fit(folders["both"], tmp_path / "run", recipe=with_settings(fit=SHORT, data={"mirror": asked}))
    assert yaml.safe_load((run / "recipe.yaml").read_text())["data"]["mirror"] == asked
    assert member_of(run)["shape"]["mirror"] == asked
