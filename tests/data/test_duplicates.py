import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from ganaug.data import duplicates
from ganaug.data.check import check
from ganaug.data.duplicates import crossing_pairs, find_copies, fingerprint, join_groups, near_pairs, new_pairs
from ganaug.data.images import decode
from ganaug.data.source import open_source


def picture(seed, size=64):
    coarse = np.random.default_rng(seed).integers(30, 220, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


def save_jpeg(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, "JPEG", quality=80)
    return decode(buffer.getvalue()).pixels


def scale(pixels, factor):
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels.squeeze()).resize(
        (int(width * factor), int(height * factor)), Image.Resampling.BICUBIC
    )
    return np.asarray(image).reshape(image.height, image.width, -1)


def brighten(pixels, factor):
    return (pixels * factor).clip(0, 255).round().astype(np.uint8)


COPIES = {
    "jpeg": save_jpeg,
    "double": lambda pixels: scale(pixels, 2),
    "half": lambda pixels: scale(pixels, 0.5),
    "brighter": lambda pixels: brighten(pixels, 1.05),
    "darker": lambda pixels: brighten(pixels, 0.95),
}


def are_copies(first, second):
    return len(near_pairs(np.stack([fingerprint(first), fingerprint(second)]))) == 1


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_copies_of_pictures_are_found(copy):
    assert all(are_copies(picture(seed), copy(picture(seed))) for seed in range(20))


def test_different_pictures_are_not_copies():
    assert len(near_pairs(np.stack([fingerprint(picture(seed)) for seed in range(200)]))) == 0


def test_a_small_object_in_the_same_scene_is_no_copy():
    first, second = picture(0), picture(0).copy()
    second[28:36, 28:36] = 255
    assert not are_copies(first, second)


def test_flat_images_are_not_copies_of_each_other():
    rng = np.random.default_rng(0)
    flat = [rng.normal(100, 3, (64, 64, 1)).clip(0, 255).astype(np.uint8) for _ in range(20)]
    flat += [np.full((64, 64, 1), level, np.uint8) for level in (0, 0, 128, 255)]
    assert len(near_pairs(np.stack([fingerprint(pixels) for pixels in flat]))) == 0


def test_pairs_are_found_across_blocks():
    prints = np.stack([fingerprint(picture(seed % 150)) for seed in range(300)])
    assert near_pairs(prints).tolist() == [[index, index + 150] for index in range(150)]


MIRRORED = {
    "as it is": lambda pixels: pixels,
    "horizontally": lambda pixels: pixels[:, ::-1],
    "vertically": lambda pixels: pixels[::-1],
    "both": lambda pixels: pixels[::-1, ::-1],
}


def prints_of(images):
    return np.stack([fingerprint(np.ascontiguousarray(pixels)) for pixels in images])


@pytest.mark.parametrize("mirror", MIRRORED.values(), ids=MIRRORED)
@pytest.mark.parametrize("copy", [lambda pixels: pixels, *COPIES.values()], ids=["same", *COPIES])
def test_copies_are_found_across_two_sets_however_mirrored(copy, mirror):
    known = prints_of(picture(seed) for seed in range(20))
    asked = prints_of(mirror(copy(picture(seed))) for seed in (7, 100, 3, 101))
    assert crossing_pairs(known, asked) == {0: 7, 2: 3}


def test_a_picture_on_its_side_is_another():
    known = prints_of([picture(0)])
    assert crossing_pairs(known, prints_of([np.rot90(picture(0)), picture(0).transpose(1, 0, 2)])) == {}


def test_noise_crosses_with_nothing():
    rng = np.random.default_rng(0)
    noise = prints_of(rng.integers(0, 256, (120, 32, 32, 1), dtype=np.uint8))
    assert crossing_pairs(noise[:60], noise[60:]) == {}
    flat = prints_of(np.full((4, 32, 32, 1), 90, np.uint8))
    assert crossing_pairs(flat, flat) == {}


def test_a_small_object_in_the_same_scene_does_not_cross():
    """One pixel of 256 that differs by a standard deviation: the correlation is still .998."""
    first = prints_of([picture(0)])
    second = first.copy()
    second[0, 7, 7] += 1 / 16
    second /= np.linalg.norm(second)
    assert (first * second).sum() > 0.997
    assert crossing_pairs(first, second[:, :, ::-1]) == {}


@pytest.mark.parametrize("block", [1, 7, 64])
def test_crossing_pairs_are_the_same_in_blocks_of_any_size(block):
    known = prints_of(picture(seed) for seed in range(90))
    asked = prints_of(picture(seed)[:, ::-1] for seed in range(89, 0, -1))
    assert crossing_pairs(known, asked, block=block) == {index: 89 - index for index in range(89)}


def test_of_several_twins_the_most_similar_one_is_told():
    for place in range(3):
        known = [save_jpeg(picture(0)), brighten(picture(0), 1.05), picture(1)]
        known.insert(place, picture(0)[:, ::-1])
        assert crossing_pairs(prints_of(known), prints_of([picture(0)])) == {0: place}


def test_find_copies_groups_exact_and_near():
    images = [picture(0), picture(1), picture(0), save_jpeg(picture(0)), picture(2), picture(2)]
    contents = ["a", "b", "a", "c", "d", "d"]
    copies = find_copies(contents, np.stack([fingerprint(pixels) for pixels in images]))
    assert copies.exact == ((0, 2), (4, 5))
    assert copies.near == ((0, 2, 3),)
    assert copies.group[0] == copies.group[2] == copies.group[3]
    assert copies.group[4] == copies.group[5]
    assert len(set(copies.group.tolist())) == 3


def test_find_copies_without_any():
    copies = find_copies(["a", "b"], np.stack([fingerprint(picture(0)), fingerprint(picture(1))]))
    assert copies.exact == copies.near == ()
    assert len(set(copies.group.tolist())) == 2


def test_join_groups():
    joined = join_groups(["a", "a", "b", "b", "c"], [1, 2, 2, 3, 4])
    assert len(set(joined[:4].tolist())) == 1 and joined[4] != joined[0]


@pytest.mark.parametrize("name", ["mnist", "pcb-defects", "cifar10", "sign-digits"])
def test_recall_on_real_images(shared_data, name):
    source = open_source(shared_data / f"{name}.zip")
    files = source.files[:: len(source.files) // 40]
    for file in files:
        pixels = decode(source.read(file.name)).pixels
        for copy in ("jpeg", "double", "brighter", "darker"):
            assert are_copies(pixels, COPIES[copy](pixels)), (file.name, copy)


@pytest.mark.parametrize(("name", "pairs"), [("mnist", 0), ("pcb-defects", 5), ("sign-digits", 0)])
def test_next_to_no_false_alarms_on_real_images(shared_data, name, pairs):
    groups = [
        problem.groups for problem in check(shared_data / f"{name}.zip").problems if problem.kind == "near-duplicate"
    ]
    assert sum(map(len, groups)) == pairs


def test_a_mirrored_twin_of_another_class_is_no_copy():
    """An arrow to the left is the mirror image of one to the right; the very same picture is a copy in whatever class."""
    known, asked = prints_of([picture(0), picture(1)]), prints_of([picture(0)[:, ::-1], picture(1)])
    labels = np.array([0, 1])
    assert crossing_pairs(known, asked, (labels, np.array([0, 0]))) == {0: 0, 1: 1}
    assert crossing_pairs(known, asked, (labels, np.array([1, 0]))) == {1: 1}
    assert crossing_pairs(known, asked) == {0: 0, 1: 1}


def test_very_many_images_that_look_alike_are_one_group_in_little_memory():
    alike = fingerprint(picture(0)) + np.random.default_rng(0).normal(0, 1e-4, (2000, 16, 16)).astype(np.float32)
    tracemalloc.start()
    copies = find_copies(range(2001), np.concatenate([alike, fingerprint(picture(1))[None]]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert copies.near == (tuple(range(2000)),)
    assert peak < 60e6  # all pairs, compared at once, would take gigabytes


@pytest.mark.parametrize("kinds", ["different", "alike"])
def test_a_tree_finds_the_pairs_of_the_whole_matrix(monkeypatch, kinds):
    """Among pictures of anything, and among variations of one picture, which are neighbours in every direction."""
    rng = np.random.default_rng(0)
    base = 0.0 if kinds == "different" else 3.0 * rng.normal(size=256)
    flat = base + rng.normal(size=(400, 8)) @ rng.normal(size=(8, 256)) / 3 + 0.05 * rng.normal(size=(400, 256))
    flat[300:340] = flat[:40] + 0.001 * rng.normal(size=(40, 256))
    flat[340:350] = 0.0
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True).clip(1e-9)
    prints = flat.reshape(-1, 16, 16).astype(np.float32)
    expected = near_pairs(prints)
    assert len(expected) >= 40
    monkeypatch.setattr(duplicates, "MANY", 100)
    np.testing.assert_array_equal(near_pairs(prints), expected)
    monkeypatch.setattr(duplicates, "CANDIDATES", 0)  # the tree gives up
    np.testing.assert_array_equal(near_pairs(prints), expected)


def test_new_pairs_are_those_of_all_that_are_not_known(monkeypatch):
    prints = np.stack([fingerprint(picture(seed)) for seed in (1, 2, 3, 2, 4, 3, 4)])
    crossing, among = new_pairs(prints[:3], prints[3:])
    assert crossing.tolist() == [[1, 0], [2, 2]] and among.tolist() == [[1, 3]]
