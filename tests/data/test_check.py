import json
import shutil

import pytest
from PIL import Image

from ganaug.data.check import CheckReport, check, format_report
from ganaug.errors import GanaugError


def problems_of(report):
    return {problem.kind: problem for problem in report.problems}


def test_sound_data(make_folder):
    report = check(make_folder({"train/cat": 10, "train/dog": 12, "test/cat": 4, "test/dog": 5}))
    assert report.classes == {"cat": {"test": 4, "train": 10}, "dog": {"test": 5, "train": 12}}
    assert report.sizes == {"24x24": 31} and report.modes == {"RGB": 31}
    assert (report.problems, report.usable, report.exit_code) == ((), True, 0)


def test_counts_without_a_split(make_folder):
    assert check(make_folder({"cat": 10, "dog": 11})).classes == {"cat": {"all": 10}, "dog": {"all": 11}}


def test_broken_files(make_folder):
    folder = make_folder({"cat": 12, "dog": 10})
    (folder / "cat/0.png").write_bytes((folder / "cat/0.png").read_bytes()[:200])
    (folder / "cat/1.png").write_text("text")
    report = check(folder)
    found = problems_of(report)
    assert found["truncated"].files == ("cat/0.png",)
    assert found["unreadable"].files == ("cat/1.png (not an image)",)
    assert report.classes["cat"] == {"all": 10}
    assert report.exit_code == 1


def test_small_and_empty_classes(make_folder):
    report = check(make_folder({"train/a": 10, "train/b": 9, "train/c": 1, "test/d": 3, "train/e": 0}))
    messages = [problem.message for problem in report.problems]
    assert [problem.kind for problem in report.problems] == ["empty-class", *["small-class"] * 3]
    assert "class e" in messages[0] and "b has 9" in messages[1]
    assert "c has a single training image" in messages[2] and "d has no training image" in messages[3]


def test_copies(make_folder):
    folder = make_folder({"train/a": 10, "train/b": 10, "test/a": 3, "test/b": 3})
    shutil.copy(folder / "train/a/0.png", folder / "train/a/again.png")
    shutil.copy(folder / "train/a/1.png", folder / "test/a/leak.png")
    shutil.copy(folder / "train/a/2.png", folder / "train/b/conflict.png")
    Image.open(folder / "train/b/3.png").save(folder / "test/b/saved.jpg", quality=80)
    found = problems_of(check(folder))
    assert set(found["exact-duplicate"].groups) == {
        ("train/a/0.png", "train/a/again.png"),
        ("test/a/leak.png", "train/a/1.png"),
        ("train/a/2.png", "train/b/conflict.png"),
    }
    assert found["near-duplicate"].groups == (("test/b/saved.jpg", "train/b/3.png"),)
    assert set(found["split-leak"].groups) == {
        ("test/a/leak.png", "train/a/1.png"),
        ("test/b/saved.jpg", "train/b/3.png"),
    }
    assert found["label-conflict"].groups == (("train/a/2.png", "train/b/conflict.png"),)
    assert set(found["label-conflict"].files) == {"train/a/2.png", "train/b/conflict.png"}


@pytest.mark.parametrize(
    ("counts", "named", "meant"),
    [
        ({"parts/dent": 2, "parts/scratch": 2, "result/run/samples": 2, "result/synthetic/dent": 1}, 2, "parts"),
        ({"a": 2, "b": 2, "others/c": 2, "others/d": 2}, 1, "others"),
        ({"a": 2, "parts/train/c": 2, "parts/test/c": 2}, 1, "parts"),
        ({"2023/mill/a": 2, "2024/mill/a": 2}, 0, ""),
        ({"benign/p1/ct": 2, "malignant/p2/ct": 2, "malignant/p3/mr": 2}, 0, ""),
        ({"benign/patient1": 2, "malignant/patient2": 2, "malignant/patient3": 2}, 0, ""),  # alike: folders of patients
        ({"benign": 2, "malignant/patient2": 2, "malignant": 1, "malignant/patient3": 2}, 0, ""),
        ({"train/a/left": 2, "train/a/right": 2, "train/b": 2, "test/a": 1}, 0, ""),
    ],
)
def test_class_folders_that_hold_class_folders(make_folder, counts, named, meant):
    found = problems_of(check(make_folder(counts)))
    assert ("nested-classes" in found) == bool(named)
    if named:
        assert len(found["nested-classes"].files) == named
        assert f"If {meant} alone was meant, give that folder" in found["nested-classes"].message


def test_one_file_is_spoken_of_as_one(make_folder):
    folder = make_folder({"cat": 12, "dog": 10})
    (folder / "cat/0.png").write_bytes((folder / "cat/0.png").read_bytes()[:200])
    assert problems_of(check(folder))["truncated"].message == "1 file ends too early; copy it again"
    (folder / "cat/1.png").write_bytes((folder / "cat/1.png").read_bytes()[:200])
    assert problems_of(check(folder))["truncated"].message == "2 files end too early; copy them again"
    Image.radial_gradient("L").resize((240, 240)).save(folder / "cat/huge.png")
    assert problems_of(check(folder))["odd-size"].message.startswith("1 file is oblong")


def test_odd_sizes_animations_and_ignored_files(make_folder):
    folder = make_folder({"cat": 10})
    Image.radial_gradient("L").resize((240, 240)).save(folder / "cat/huge.png")
    Image.linear_gradient("L").resize((60, 20)).save(folder / "cat/oblong.png")
    frames = [Image.effect_noise((24, 24), sigma) for sigma in (40, 80)]
    frames[0].save(folder / "cat/moving.webp", save_all=True, append_images=frames[1:])
    (folder / "labels.csv").write_text("x")
    found = problems_of(check(folder))
    assert found["odd-size"].files == ("cat/huge.png (240x240)", "cat/oblong.png (60x20)")
    assert found["animated"].files == ("cat/moving.webp",)
    assert found["ignored-file"].files == ("labels.csv",)


@pytest.mark.parametrize(("readable", "code"), [(0, 2), (1, 2), (2, 1)])
def test_unusable_with_fewer_than_two_readable_images(make_folder, readable, code):
    folder = make_folder({"cat": readable + 1})
    (folder / "cat/0.png").write_text("text")
    report = check(folder)
    assert (report.usable, report.exit_code) == (readable >= 2, code)
    assert "cat/0.png" in format_report(report)


def test_unusable_where_a_class_has_nothing_to_train_on(make_folder):
    folder = make_folder({"cat": 5, "dog": 1})
    (folder / "dog/0.png").write_text("text")
    report = check(folder)
    assert (report.usable, report.exit_code) == (False, 2)
    assert "class dog has no training image" in format_report(report)


def test_check_raises_where_there_is_nothing_to_look_at(tmp_path):
    with pytest.raises(GanaugError, match="does not exist"):
        check(tmp_path / "nowhere")
    (tmp_path / "data.zip").write_bytes(b"PK")
    with pytest.raises(GanaugError, match="damaged zip"):
        check(tmp_path / "data.zip")


def test_the_text_has_the_table_and_the_first_files_of_each_problem(make_folder):
    folder = make_folder({"train/cat": 20, "train/a long name": 15, "test/cat": 3})
    for index in range(12):
        (folder / f"train/cat/note{index}.txt").write_text("x")
    text = format_report(check(folder))
    assert "38 readable images, 2 classes" in text
    assert "class        train  test\n" in text
    assert (
        "cat             20     3\n" in text
        and "a long name     15     0\n" in text
        and "total           35     3" in text
    )
    assert "train/cat/note9.txt" in text and "train/cat/note10.txt" not in text and "and 2 more" in text


def test_json_has_everything_and_reads_back(make_folder):
    folder = make_folder({"cat": 12})
    for index in range(12):
        (folder / f"cat/note{index}.txt").write_text("x")
    shutil.copy(folder / "cat/0.png", folder / "cat/again.png")
    report = check(folder)
    value = json.loads(json.dumps(report.to_json()))
    assert value["exit_code"] == 1
    assert len(next(problem for problem in value["problems"] if problem["kind"] == "ignored-file")["files"]) == 12
    assert CheckReport.from_json(value) == report


def test_names_cannot_steer_a_terminal(make_folder):
    folder = make_folder({"cat\x1b[2J\nx": 2, "dog": 2})
    (folder / "dog/\u202egnp.png").write_text("no image")
    text = format_report(check(folder))
    assert all(line.isprintable() for line in text.splitlines())
    assert "cat\\x1b[2J\\nx" in text and "\\u202egnp.png (not an image)" in text


def test_classes_that_other_systems_cannot_tell_apart_are_named(make_folder):
    found = check(make_folder({"Cat": 2, "cat": 2, "e\u0301": 2, "\u00e9": 2, "dog": 2}))
    messages = [problem.message for problem in found.problems if problem.kind == "case-collision"]
    assert len(messages) == 2 and messages[0].startswith("classes Cat and cat differ")
