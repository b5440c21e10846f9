"""Test images that were trained on: which are found, and what is done about them."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganaug.classify.training import Labeled
from ganaug.data.cache import ImageSet
from ganaug.errors import GanaugError
from ganaug.study.leaks import Leak, find_copies_of_tests, find_leaks, refuse_leaks

SIDE = 32


def picture(seed, channels=3):
    """(C, S, S) smooth random blobs, which no two seeds share."""
    coarse = np.random.default_rng(seed).integers(30, 220, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.moveaxis(np.asarray(image), 2, 0)[:channels]


def flat(level, channels=3):
    return np.full((channels, SIDE, SIDE), level, np.uint8)


def as_jpeg(image):
    buffer = io.BytesIO()
    pixels = np.moveaxis(image, 0, 2)
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "JPEG", quality=80)
    decoded = np.asarray(Image.open(io.BytesIO(buffer.getvalue())))
    return np.moveaxis(decoded.reshape(SIDE, SIDE, -1), 2, 0)


COPIES = {
    "identical": lambda image: image,
    "jpeg": as_jpeg,
    "brighter": lambda image: (image * 1.05).clip(0, 255).round().astype(np.uint8),
    "darker": lambda image: (image * 0.95).round().astype(np.uint8),
    "mirrored left to right": lambda image: image[:, :, ::-1],
    "mirrored upside down": lambda image: image[:, ::-1],
    "turned half round": lambda image: image[:, ::-1, ::-1],
    "mirrored and saved": lambda image: as_jpeg(np.ascontiguousarray(image[:, :, ::-1])),
}


def make_set(train, test, others=(), num_classes=1):
    """An image set in mixed order: train-0, test-0, train-1, ..."""
    parts = [("train", train), ("test", test), ("valid", others)]
    rows = [(split, number, image) for split, images in parts for number, image in enumerate(images)]
    rows.sort(key=lambda row: (row[1], row[0]))
    images = np.stack([image for _, _, image in rows])
    return ImageSet(
        images=images,
        labels=np.arange(len(rows)) % num_classes,
        splits=np.array([split for split, _, _ in rows]),
        files=[f"{split}-{number}.png" for split, number, _ in rows],
        groups=[str(number) for number in range(len(rows))],
        class_names=("a", "b"),
        image_size=SIDE,
        channels=images.shape[1],
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_of_a_training_image_is_found_by_name(copy, channels):
    train = [picture(seed, channels) for seed in range(12)]
    test = [picture(seed, channels) for seed in range(100, 110)]
    test[3], test[7] = copy(train[5]), copy(train[11])
    found = find_leaks(make_set(train, test))
    assert found == [Leak("test-3.png", "train-5.png"), Leak("test-7.png", "train-11.png")]


def test_a_mirrored_twin_of_another_class_is_no_leak_but_the_same_picture_is():
    left = picture(0)
    assert find_leaks(make_set([left], [left[:, :, ::-1]], num_classes=2)) == []
    assert len(find_leaks(make_set([left], [left], num_classes=2))) == 1
    assert len(find_leaks(make_set([left], [left[:, :, ::-1]]))) == 1


def test_images_of_the_same_kind_are_no_leak():
    noise = np.random.default_rng(0).integers(0, 256, (40, 1, SIDE, SIDE), dtype=np.uint8)
    assert find_leaks(make_set(list(noise[:20]), list(noise[20:]))) == []
    pictures = [picture(seed) for seed in range(80)]
    assert find_leaks(make_set(pictures[:50], pictures[50:])) == []


def test_copies_within_a_side_are_no_leak():
    assert find_leaks(make_set([picture(0), picture(0), picture(1)], [picture(2), picture(2)])) == []


def test_a_copy_of_a_validation_image_is_a_leak_too():
    """The GAN's checkpoint is chosen by the validation split. What that copies from the training images is nobody's concern."""
    found = find_leaks(make_set([picture(0)], [picture(2), picture(1)], others=[picture(1), picture(0)]))
    assert found == [Leak("test-1.png", "valid-0.png")]
    mirrored = picture(3)[:, :, ::-1]
    assert find_leaks(make_set([picture(0)], [mirrored], others=[picture(3)])) == [Leak("test-0.png", "valid-0.png")]
    assert find_leaks(make_set([picture(0)], [picture(1)], others=[picture(0), picture(0)])) == []


def test_flat_images_leak_where_every_byte_is_the_same():
    """They have no fingerprint, and nearly the same gray is another image."""
    train = [picture(0), flat(128), flat(0)]
    found = find_leaks(make_set(train, [flat(129), flat(0), picture(1), flat(128)]))
    assert found == [Leak("test-1.png", "train-2.png"), Leak("test-3.png", "train-1.png")]


def test_a_test_image_with_several_twins_is_named_once_with_the_most_similar():
    original = picture(0)
    found = find_leaks(make_set([as_jpeg(original), picture(1), original, original[:, :, ::-1]], [original]))
    assert len(found) == 1 and found[0].copy_of in ("train-2.png", "train-3.png")


def test_copies_of_test_images_among_given_ones_are_found():
    test = [picture(seed) for seed in range(5)]
    images = make_set([picture(50)], test)
    stranger = np.stack([picture(60), test[4][:, :, ::-1], as_jpeg(test[1]), picture(50)])
    given = Labeled(stranger, np.zeros(4, np.int64))
    found = find_copies_of_tests(images, given, Path("pool"))
    assert found == [Leak("test-1.png", "an image of pool"), Leak("test-4.png", "an image of pool")]
    assert find_copies_of_tests(images, Labeled(stranger[:1], given.labels[:1]), Path("pool")) == []


def leaks(count):
    return [Leak(f"t{number}.png", f"r{number}.png") for number in range(count)]


@pytest.mark.parametrize("drop", [False, True])
def test_no_leak_is_no_reason(drop):
    assert refuse_leaks([], drop, 10, "data") == frozenset()


def test_leaks_are_refused_with_what_to_do():
    with pytest.raises(GanaugError) as raised:
        refuse_leaks(leaks(2), False, 10, "the/run")
    assert str(raised.value) == (
        "2 of 10 test images of the/run copy images that are trained on (t0.png = r0.png, t1.png = r1.png), so the test would "
        "score what was trained on. Leave them out with --drop-duplicates, or mend the data."
    )


@pytest.mark.parametrize(("count", "more"), [(3, ""), (4, " and 1 more"), (9, " and 6 more")])
def test_a_message_names_three(count, more):
    with pytest.raises(GanaugError, match=re.escape(f"t2.png = r2.png{more}), so")):
        refuse_leaks(leaks(count), False, 10, "run")


def test_leaks_are_left_out_where_that_is_wanted():
    assert refuse_leaks(leaks(9), True, 10, "run") == {f"t{number}.png" for number in range(9)}


@pytest.mark.parametrize("drop", [False, True])
def test_test_images_that_are_all_copies_leave_nothing_to_test(drop):
    said = "nothing is left to test on" if drop else "Leave them out"
    with pytest.raises(GanaugError, match=said):
        refuse_leaks(leaks(4), drop, 4, "run")


def test_a_test_image_that_copies_two_others_counts_once():
    """As it may copy a training image and a given one."""
    twice = [*leaks(2), *(Leak(leak.test, "an image of pool") for leak in leaks(2))]
    assert refuse_leaks(twice, True, 4, "run") == {"t0.png", "t1.png"}
    with pytest.raises(GanaugError, match=r"^2 of 4 .*\(t0\.png = r0\.png, t1\.png = r1\.png\)"):
        refuse_leaks(twice, False, 4, "run")
    with pytest.raises(GanaugError, match=r"^2 of 2 .* nothing is left"):
        refuse_leaks(twice, True, 2, "run")
