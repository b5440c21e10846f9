"""Images without labels beside the labeled ones: which are read, which are left out, and what is kept of them."""

import shutil

import numpy as np
import pytest
from folders import write_image
from PIL import Image

from ganaug.data.cache import load, prepare, resplit, verify_source
from ganaug.data.images import decode, resize
from ganaug.data.unlabeled import UNKNOWN, load_unlabeled, read_unlabeled, save_labels, save_unlabeled
from ganaug.errors import GanaugError
from ganaug.settings import DataSettings


@pytest.fixture
def labeled(make_folder):
    return make_folder({"train/cat": 4, "train/dog": 3, "test/cat": 2, "test/dog": 2})


@pytest.fixture
def heap(make_folder):
    """Six new images, some of them in a folder."""
    folder = make_folder({"": 0}, name="heap")
    for seed in range(100, 106):
        write_image(folder / ("more" if seed % 2 else ".") / f"{seed}.png", seed)
    return folder


def settings_of(heap):
    return DataSettings(image_size=16, unlabeled=heap)


def test_unlabeled_images_are_the_files_and_in_no_split(labeled, heap, tmp_path):
    images, _ = prepare(labeled, settings_of(heap), tmp_path / "run", "cpu")
    found = images.unlabeled
    assert found.images.shape == (6, 3, 16, 16) and found.images.dtype == np.uint8 and found.labels is None
    assert sorted(found.files) == ["100.png", "102.png", "104.png", "more/101.png", "more/103.png", "more/105.png"]
    for image, name in zip(found.images, found.files, strict=True):
        expected = resize(decode((heap / name).read_bytes()).pixels, 16, "crop")
        np.testing.assert_array_equal(image, np.moveaxis(expected, 2, 0))
    assert len(images.labels) == len(images.images) == 11
    assert prepare(labeled, DataSettings(image_size=16), tmp_path / "other", "cpu")[0].unlabeled is None


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_they_have_the_labeled_images_channels(make_folder, heap, tmp_path, mode, channels):
    labeled = make_folder({"cat": 4, "dog": 4}, name=f"labeled-{mode}", mode=mode)
    images, _ = prepare(labeled, settings_of(heap), tmp_path / "run", "cpu")
    assert images.unlabeled.images.shape == (6, channels, 16, 16)


def test_what_shows_a_labeled_image_is_left_out(labeled, heap, tmp_path, caplog):
    shutil.copy(labeled / "test/cat/0.png", heap / "test-image.png")
    image = Image.open(labeled / "train/dog/1.png")
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(heap / "mirrored.png")
    image.point(lambda value: round(0.95 * value)).save(heap / "darker.png")
    with caplog.at_level("INFO", logger="ganaug"):
        images, _ = prepare(labeled, settings_of(heap), tmp_path / "run", "cpu")
    assert len(images.unlabeled.files) == 6 and not any("image" in name for name in images.unlabeled.files)
    assert any("3 of 9 unlabeled images show what a labeled one shows" in message for message in caplog.messages)


def test_flat_images_are_left_out_where_they_are_the_very_same(tmp_path):
    flat = np.full((2, 1, 16, 16), 7, np.uint8)
    flat[1] = 9
    for value in (7, 8):
        Image.fromarray(np.full((16, 16), value, np.uint8)).save(tmp_path / f"{value}.png")
    assert read_unlabeled(tmp_path, flat, "crop")[1] == ["8.png"]


def test_exact_copies_count_once_and_damaged_files_are_named(labeled, heap, tmp_path, caplog):
    shutil.copy(heap / "100.png", heap / "again.png")
    (heap / "broken.png").write_bytes(b"no image")
    images, _ = prepare(labeled, settings_of(heap), tmp_path / "run", "cpu")
    assert len(images.unlabeled.files) == 6
    assert any("1 of 8 files" in message and "broken.png" in message for message in caplog.messages)


def test_a_heap_without_anything_new_is_refused(labeled, make_folder, tmp_path):
    heap = make_folder({"": 0}, name="copies")
    shutil.copy(labeled / "train/cat/0.png", heap / "a.png")
    with pytest.raises(GanaugError, match="no unlabeled image that is readable and new"):
        prepare(labeled, settings_of(heap), tmp_path / "run", "cpu")
    with pytest.raises(GanaugError, match="does not exist"):
        prepare(labeled, settings_of(tmp_path / "nowhere"), tmp_path / "run", "cpu")


def test_labels_are_kept_and_asked_anew_after_another_split(labeled, heap, tmp_path):
    images, _ = prepare(labeled, settings_of(heap), tmp_path / "run", "cpu")
    save_labels(tmp_path / "run", images.unlabeled.files, np.array([1, 0, UNKNOWN, 1, UNKNOWN, 0]))
    found = load(tmp_path / "run").unlabeled
    pixels, labels = found.sure()
    np.testing.assert_array_equal(pixels, images.unlabeled.images[[0, 1, 3, 5]])
    assert labels.tolist() == [1, 0, 1, 0] and found.sure_files() == tuple(found.files[row] for row in (0, 1, 3, 5))
    resplit(tmp_path / "run", tmp_path / "fold", images.splits)
    again = load(tmp_path / "fold").unlabeled
    np.testing.assert_array_equal(again.images, images.unlabeled.images)
    assert again.labels is None and again.files == found.files and not len(again.sure()[0])


def test_a_changed_heap_is_another_one(labeled, heap, tmp_path):
    prepare(labeled, settings_of(heap), tmp_path / "run", "cpu")
    verify_source(labeled, heap, tmp_path / "run")
    with pytest.raises(GanaugError, match="was begun with"):
        verify_source(labeled, None, tmp_path / "run")
    write_image(heap / "new.png", 200)
    with pytest.raises(GanaugError, match="heap is not what"):
        verify_source(labeled, heap, tmp_path / "run")
    assert len(prepare(labeled, settings_of(heap), tmp_path / "run", "cpu")[0].unlabeled.files) == 7


def test_a_damaged_file_is_named(tmp_path):
    save_unlabeled(tmp_path, np.zeros((3, 1, 16, 16), np.uint8), ["a", "b", "c"])
    assert load_unlabeled(tmp_path).labels is None
    np.save(tmp_path / "unlabeled.npy", np.zeros((2, 1, 16, 16), np.uint8))
    with pytest.raises(ValueError, match=r"holds 2 images, unlabeled\.csv names 3"):
        load_unlabeled(tmp_path)
