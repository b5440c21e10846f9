"""The images held out to judge a training by: never trained on, never of the test split, groups whole."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interruptions import member_of
from small import with_settings

from ganaug import load_recipe
from ganaug.data.cache import ImageSet, load
from ganaug.data.images import encode_png, to_float, to_uint8
from ganaug.gan import steps, training
from ganaug.gan.shares import MIN_TO_HOLD_OUT, split_images, training_data
from ganaug.gan.strategies import STRATEGIES
from ganaug.gan.training import fit
from ganaug.gan.validation import LabeledTensors, Reference, validate


def make_set(labels, groups, splits=None):
    """Image i has every pixel i; its group is named by a number."""
    count = len(labels)
    return ImageSet(
        images=np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 1, 16, 16)),
        labels=np.array(labels, np.int64),
        splits=np.array(splits or ["train"] * count),
        files=[f"{i}.png" for i in range(count)],
        groups=[str(group) for group in groups],
        class_names=tuple("abc"),
        image_size=16,
        channels=1,
    )


def split_of(images, seed=0, validation=0.2):
    """Rows of `images` that are trained on, and those held out."""
    recipe = load_recipe({"fit": {"seed": seed, "validation": validation}})
    parts = split_images(images, recipe, torch.device("cpu"))
    rows = [part.images[:, 0, 0, 0].tolist() for part in parts]
    for part, numbers in zip(parts, rows, strict=True):
        assert part.labels.tolist() == images.labels[numbers].tolist()
    return rows


def test_a_share_of_every_class_is_held_out_at_random():
    images = make_set([0] * 40 + [1] * 20 + [2] * 10, range(70))
    train, held_out = split_of(images)
    assert sorted(train + held_out) == list(range(70))
    assert Counter(images.labels[held_out].tolist()) == {0: 8, 1: 4, 2: 2}
    assert split_of(images) == [train, held_out]
    assert split_of(images, seed=1)[1] != held_out
    assert len(split_of(images, validation=0.5)[1]) == 35
    assert split_of(images, validation=0.0) == [list(range(70)), []]


def test_small_classes_keep_all_their_images():
    counts = (MIN_TO_HOLD_OUT - 1, MIN_TO_HOLD_OUT, 1)
    images = make_set(np.repeat([0, 1, 2], counts), range(sum(counts)))
    train, held_out = split_of(images)
    assert images.labels[held_out].tolist() == [1]
    assert Counter(images.labels[train].tolist()) == {0: counts[0], 1: counts[1] - 1, 2: 1}


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.booleans()), min_size=6, max_size=60),
    st.integers(0, 3),
    st.sampled_from([0.1, 0.3, 0.6]),
)
def test_groups_stay_together_and_the_test_stays_out(rows, seed, validation):
    """Whatever the classes, groups and splits: each class, too, keeps an image to train on."""
    labels, groups, is_test = zip(*rows, strict=True)
    splits = ["test" if test else "train" for test in is_test]
    images = make_set(labels, groups, splits)
    train, held_out = split_of(images, seed, validation)
    assert sorted(train + held_out) == [i for i, split in enumerate(splits) if split == "train"]
    assert not {groups[i] for i in train} & {groups[i] for i in held_out}
    assert {labels[i] for i in train} == {labels[i] for i in train + held_out}


def test_the_datas_own_validation_split_is_used_whole_and_alone():
    splits = ["train"] * 20 + ["valid"] * 4 + ["test"] * 6
    images = make_set([0, 1] * 15, range(30), splits)
    for validation in (0.2, 0.0):
        assert split_of(images, validation=validation) == [list(range(20)), [20, 21, 22, 23]]


def test_a_member_gets_the_held_out_images_of_its_classes():
    images = make_set([0] * 10 + [1] * 10 + [2] * 2, range(22))
    split = split_images(images, load_recipe(), torch.device("cpu"))
    for member in STRATEGIES["per-class"](3):
        data = training_data(split, member, "none")
        held_out = split[1].images[split[1].labels == member.classes[0]]
        if len(held_out):
            assert torch.equal(data.held_out[0], held_out) and set(data.held_out[1].tolist()) == {0}
        else:
            assert data.held_out is None and member.classes == (2,)
    special = STRATEGIES["specialised"](3)[2]
    assert set(training_data(split, special, "none").held_out[1].tolist()) == {1}  # the label that the trunk gave it


def pictures(images):
    return {image.numpy().tobytes() for image in images}


@pytest.fixture
def seen(monkeypatch):
    """What the networks and the judge are trained on, filled while a training runs."""
    found, discriminator_step, train_judge = (
        {"real": set(), "judge": set()},
        steps.discriminator_step,
        training.train_judge,
    )

    def noting_step(state, real, *arguments):
        found["real"] |= pictures(to_uint8(real))
        return discriminator_step(state, real, *arguments)

    def noting_judge(images, *arguments):
        found["judge"] |= pictures(images)
        return train_judge(images, *arguments)

    monkeypatch.setattr(steps, "discriminator_step", noting_step)
    monkeypatch.setattr(training, "train_judge", noting_judge)
    return found


def test_nothing_that_is_held_out_or_tested_is_trained_on(digits, tmp_path, seen):
    recipe = with_settings(fit={"validation": 0.3, "batch_size": 16, "augment": ()}, data={"mirror": "none"})
    run = fit(digits, tmp_path / "run", recipe=recipe)
    images = load(run / "data")
    train, held_out = split_images(images, load_recipe(run / "recipe.yaml"), torch.device("cpu"))
    tested = pictures(torch.from_numpy(images.subset("test")[0]))
    assert len(pictures(held_out.images)) >= 3 and len(tested) > 0
    assert seen["judge"] == pictures(train.images) and len(seen["real"]) > len(train.images) / 2
    assert seen["real"] <= pictures(train.images)
    assert not pictures(train.images) & (pictures(held_out.images) | tested)
    assert not pictures(held_out.images) & tested
    assert len(member_of(run)["checkpoints"][-1]["scores"]) == len(held_out.images)


def test_a_validation_folder_judges_the_training(tmp_path, seen):
    """Every image of train/ is trained on, none of valid/."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("valid", 3), ("test", 2)):
        for name in "ab":
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (16, 16, 1), dtype=np.uint8)
                (tmp_path / "data" / split / name / f"{i}.png").write_bytes(encode_png(pixels))
    recipe = with_settings(fit={"steps": 30, "batch_size": 16, "augment": ()}, data={"mirror": "none"})
    run = fit(tmp_path / "data", tmp_path / "run", recipe=recipe)
    images = load(run / "data")
    train, valid = (pictures(torch.from_numpy(images.subset(split)[0])) for split in ("train", "valid"))
    assert (len(train), len(valid)) == (12, 6)
    assert seen["real"] == seen["judge"] == train
    assert {len(checkpoint["scores"]) for checkpoint in member_of(run)["checkpoints"]} == {6}


def test_held_out_copies_of_training_images_do_not_hide_a_generator_that_copies(recwarn):
    """Those of class a lie at no distance, which must not spoil the measure of class b."""
    pixels = torch.randint(256, (24, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(2).repeat_interleave(8)
    train = LabeledTensors(pixels[:16], labels)
    held_out = LabeledTensors(torch.cat([pixels[:8], pixels[16:]]), labels)

    def copy(noise, asked):
        return to_float(train.images[8 * asked + torch.arange(len(asked)) % 8])

    copy.latent_size = 4
    judge = training.train_judge(train.images, labels, 2, "none", 0, torch.float32)
    checkpoint = validate(copy, Reference(judge, train, held_out), (0, 1), (0, 1), 1, 0.0)
    assert checkpoint.copies >= 0.5
    assert not [warning for warning in recwarn if "divide" in str(warning.message)]
