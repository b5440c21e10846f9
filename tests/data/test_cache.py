import csv
import json
import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from ganaug.data.cache import load, prepare
from ganaug.data.images import decode, resize
from ganaug.errors import GanaugError
from ganaug.settings import DataSettings

SMALL = DataSettings(image_size=16)


def test_prepared_images_are_the_files(make_folder, tmp_path):
    folder = make_folder({"train/cat": 4, "train/dog": 3, "valid/dog": 1, "test/cat": 2}, size=(30, 24))
    images, report = prepare(folder, SMALL, tmp_path / "run", "cpu")
    assert images.images.shape == (10, 3, 16, 16) and images.images.dtype == np.uint8
    assert images.class_names == ("cat", "dog") and (images.image_size, images.channels) == (16, 3)
    assert images.counts("train") == {"cat": 4, "dog": 3}
    assert images.counts("valid") == {"cat": 0, "dog": 1}
    assert images.counts("test") == {"cat": 2, "dog": 0}
    for row, name in enumerate(images.files):
        split, class_name, _ = name.split("/")
        assert (images.splits[row], images.class_names[images.labels[row]]) == (split, class_name)
        expected = resize(decode((folder / name).read_bytes()).pixels, 16, "crop")
        np.testing.assert_array_equal(images.images[row], np.moveaxis(expected, 2, 0))
    pixels, labels = images.subset("test")
    assert pixels.shape == (2, 3, 16, 16) and labels.tolist() == [0, 0]
    assert report.classes["cat"] == {"test": 2, "train": 4, "valid": 0}


def test_index_and_json_describe_the_set(make_folder, tmp_path):
    images, _ = prepare(make_folder({"cat": 5, "dog": 5}), SMALL, tmp_path / "run", "cpu")
    with (tmp_path / "run/index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "class", "label", "split", "group", "sha256", "width", "height"]
    assert [row["file"] for row in rows] == list(images.files)
    info = json.loads((tmp_path / "run/set.json").read_text())
    assert info["class_names"] == ["cat", "dog"] and info["source"] == "data" and info["channels"] == 3


@pytest.mark.parametrize(("modes", "channels"), [(("L",), 1), (("RGB",), 3), (("L", "RGB"), 3)])
def test_one_channel_only_if_all_are_gray(make_folder, tmp_path, modes, channels):
    for mode in modes:
        folder = make_folder({f"{mode} class": 4}, mode=mode)
    assert prepare(folder, SMALL, tmp_path / "run", "cpu")[0].images.shape == (4 * len(modes), channels, 16, 16)


def test_hold_out_without_a_test_split(make_folder, tmp_path):
    folder = make_folder({"cat": 20, "dog": 10})
    images, _ = prepare(folder, SMALL, tmp_path / "run", "cpu")
    assert images.counts("test") == {"cat": 4, "dog": 2}
    assert images.counts("train") == {"cat": 16, "dog": 8}


def test_groups_and_copies_stay_on_one_side(make_folder, tmp_path):
    folder = make_folder({"cat": 30})
    for index in range(0, 10, 2):
        shutil.copy(folder / f"cat/{index}.png", folder / f"cat/{index}copy.png")
        Image.open(folder / f"cat/{index + 1}.png").save(folder / f"cat/{index + 1}saved.jpg", quality=80)
    settings = DataSettings(image_size=16, test_fraction=0.5, group_regex=r"/(\d)")
    for seed in range(5):
        images, _ = prepare(folder, settings.model_copy(update={"seed": seed}), tmp_path / f"run{seed}", "cpu")
        sides = {}
        for name, split in zip(images.files, images.splits, strict=True):
            sides.setdefault(name.split("/")[1][0], set()).add(str(split))
        assert all(len(splits) == 1 for splits in sides.values())
        assert {"train"} in sides.values() and {"test"} in sides.values()


def test_copies_alone_stay_on_one_side(make_folder, tmp_path):
    folder = make_folder({"cat": 12})
    for index in range(12):
        Image.open(folder / f"cat/{index}.png").save(folder / f"cat/{index}.bmp")
    images, _ = prepare(folder, DataSettings(image_size=16, test_fraction=0.5), tmp_path / "run", "cpu")
    split_of = dict(zip(images.files, images.splits, strict=True))
    assert all(split_of[f"cat/{index}.png"] == split_of[f"cat/{index}.bmp"] for index in range(12))
    assert images.counts("test") == {"cat": 12}


def test_limit_draws_from_train_only(make_folder, tmp_path):
    folder = make_folder({"train/cat": 12, "train/dog": 3, "test/cat": 6})
    images, _ = prepare(folder, DataSettings(image_size=16, limit_per_class=5), tmp_path / "run", "cpu")
    assert images.counts("train") == {"cat": 5, "dog": 3}
    assert images.counts("test") == {"cat": 6, "dog": 0}
    assert len(images.files) == 14


def test_every_class_may_have_a_limit_of_its_own(make_folder, tmp_path):
    folder = make_folder({"train/cat": 12, "train/dog": 8, "train/elk": 4, "test/cat": 6})
    limits = DataSettings(image_size=16, limit_per_class={"cat": 7, "dog": 2})
    images, _ = prepare(folder, limits, tmp_path / "run", "cpu")
    assert images.counts("train") == {"cat": 7, "dog": 2, "elk": 4}
    cats = {file for file, split in zip(images.files, images.splits, strict=True) if split == "train" and "cat" in file}
    alike, _ = prepare(folder, DataSettings(image_size=16, limit_per_class=7), tmp_path / "alike", "cpu")
    assert cats <= set(alike.files)
    with pytest.raises(GanaugError, match=r"'dgo' is not a class of the data: did you mean dog\?"):
        prepare(folder, DataSettings(image_size=16, limit_per_class={"dgo": 2}), tmp_path / "other", "cpu")


def test_held_out_images_do_not_depend_on_the_limit(make_folder, tmp_path):
    folder = make_folder({"cat": 20})
    tests = []
    for limit in (None, 3, 8):
        images, _ = prepare(folder, DataSettings(image_size=16, limit_per_class=limit), tmp_path / f"run{limit}", "cpu")
        tests.append({images.files[index] for index in images.indices("test")})
    assert tests[0] == tests[1] == tests[2]


@pytest.mark.parametrize(
    ("side", "device", "expected"),
    [
        (8, "cpu", 16),
        (30, "cpu", 32),
        (100, "cpu", 32),
        (100, "cuda", 128),
        (600, "cuda", 128),
        (20, "cuda", 16),
        (24, "cuda", 32),
    ],
)
def test_auto_image_size(make_folder, tmp_path, caplog, side, device, expected):
    caplog.set_level(logging.INFO, "ganaug")
    folder = make_folder({"cat": 3}, size=(side + 9, side))
    images, _ = prepare(folder, DataSettings(), tmp_path / "run", device)
    assert images.image_size == expected
    assert f"image size {expected}, " in caplog.text
    assert ("unless --image-size says more" in caplog.text) == ((side, device) in ((100, "cpu"), (600, "cuda")))


@pytest.mark.parametrize(("device", "words"), [("cpu", "on a CPU unless"), ("cuda", "on a GPU unless")])
def test_a_lowered_image_size_says_what_is_lost(make_folder, tmp_path, caplog, device, words):
    caplog.set_level(logging.INFO, "ganaug")
    prepare(make_folder({"cat": 2}, size=(600, 269)), DataSettings(), tmp_path / "run", device)
    lost = "smaller than 8 of those" if device == "cpu" else "smaller than 2 of those"
    assert words in caplog.text and lost in caplog.text


def test_unreadable_files_are_left_out_with_a_warning(make_folder, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "ganaug")
    folder = make_folder({"cat": 12})
    (folder / "cat/3.png").write_text("text")
    images, _ = prepare(folder, SMALL, tmp_path / "run", "cpu")
    assert "cat/3.png" not in images.files and len(images.files) == 11
    assert "cat/3.png" in caplog.text


def test_unusable_data_is_refused_with_its_problems(make_folder, tmp_path):
    folder = make_folder({"cat": 2})
    (folder / "cat/0.png").write_text("text")
    with pytest.raises(GanaugError, match=r"cannot be used:\n(.|\n)*cat/0\.png"):
        prepare(folder, SMALL, tmp_path / "run", "cpu")
    assert not (tmp_path / "run/set.json").exists()


def test_a_class_without_training_images_is_refused(make_folder, tmp_path):
    with pytest.raises(GanaugError, match=r"(?s)cannot be used.*class dog has no training image"):
        prepare(make_folder({"train/cat": 3, "test/cat": 2, "test/dog": 2}), SMALL, tmp_path / "run", "cpu")


def test_the_same_request_is_loaded_and_another_prepared_again(make_folder, tmp_path, monkeypatch):
    folder = make_folder({"cat": 5, "dog": 5})
    first, report = prepare(folder, SMALL, tmp_path / "run", "cpu")
    monkeypatch.setattr("ganaug.data.cache.scan", lambda *_: pytest.fail("scanned again"))
    again, same_report = prepare(folder, SMALL, tmp_path / "run", "cpu")
    assert same_report == report and list(again.files) == list(first.files)
    monkeypatch.undo()
    pixels = first.images[0].copy()
    assert prepare(folder, DataSettings(image_size=32), tmp_path / "run", "cpu")[0].image_size == 32
    (folder / "cat/0.png").unlink()
    assert len(prepare(folder, SMALL, tmp_path / "run", "cpu")[0].files) == 9
    np.testing.assert_array_equal(first.images[0], pixels)  # what was mapped is not overwritten in place


def test_an_interrupted_write_is_no_prepared_set(make_folder, tmp_path):
    folder = make_folder({"cat": 5})
    prepare(folder, SMALL, tmp_path / "run", "cpu")
    (tmp_path / "run/set.json").unlink()
    with pytest.raises(GanaugError, match=r"set\.json"):
        load(tmp_path / "run")
    assert len(prepare(folder, SMALL, tmp_path / "run", "cpu")[0].files) == 5


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x" * 40)])
@pytest.mark.parametrize("name", ["images.npy", "index.csv"])
def test_damaged_sets_are_named(make_folder, tmp_path, name, damage):
    prepare(make_folder({"cat": 5}), SMALL, tmp_path / "run", "cpu")
    damage(tmp_path / "run" / name)
    with pytest.raises(GanaugError, match="Delete the folder"):
        load(tmp_path / "run")


def test_low_shot_on_shared_data(shared_data, tmp_path):
    settings = DataSettings(limit_per_class=20, group_regex=r"(group\d+)")
    images, _ = prepare(shared_data / "pcb-defects.zip", settings, tmp_path / "run", "cpu")
    assert set(images.counts("train").values()) == {20} and set(images.counts("test").values()) == {200}
    assert images.images.shape == (6 * 220, 1, 32, 32)


@pytest.mark.parametrize(
    "damage", [lambda text: text.replace("group,", "", 1), lambda text: text[: text.rindex(",", 0, -30)] + "\n"]
)
def test_an_index_without_a_column_or_with_a_row_cut_off_is_damaged(make_folder, tmp_path, damage):
    prepare(make_folder({"cat": 4, "dog": 3}), SMALL, tmp_path / "run", "cpu")
    index = tmp_path / "run/index.csv"
    index.write_text(damage(index.read_text()))
    with pytest.raises(GanaugError, match="cannot be read"):
        load(tmp_path / "run")


def test_the_files_of_two_sets_are_alike_or_not(make_folder, tmp_path):
    one, other = (
        prepare(make_folder({"train/cat": count, "test/cat": 1}), SMALL, tmp_path / f"run-{count}", "cpu")[0].files
        for count in (2, 3)
    )
    assert one == list(one) and one != other and one != list(one)[::-1]
