import os
import re
import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from ganaug.data import source as sources
from ganaug.data.check import check
from ganaug.data.source import open_source, open_unlabeled
from ganaug.errors import GanaugError


def describe(source):
    return {(file.name, file.class_name, file.split) for file in source.files}


def test_class_folders(make_folder):
    source = open_source(make_folder({"cat": 2, "dog": 1}))
    assert describe(source) == {("cat/0.png", "cat", None), ("cat/1.png", "cat", None), ("dog/0.png", "dog", None)}
    assert source.class_names == ("cat", "dog")
    assert source.read("dog/0.png").startswith(b"\x89PNG")
    assert not source.has_split("test")


def test_splits_in_any_case_and_spelling(make_folder):
    source = open_source(make_folder({"Train/cat": 1, "VAL/cat": 1, "test/cat": 1, "test/dog": 1}))
    assert {(file.split, file.class_name) for file in source.files} == {
        ("train", "cat"),
        ("valid", "cat"),
        ("test", "cat"),
        ("test", "dog"),
    }
    assert source.has_split("test") and source.has_split("valid")


def test_a_class_may_be_called_train(make_folder):
    source = open_source(make_folder({"train": 2, "car": 2}))
    assert source.class_names == ("car", "train")
    assert all(file.split is None for file in source.files)


@pytest.mark.parametrize("wrapper", ["", "data/", "a/b/"])
def test_a_zip_reads_like_its_folder(make_folder, make_zip, wrapper):
    folder = make_folder({"train/cat": 2, "test/cat": 1})
    packed, plain = open_source(make_zip(folder, wrapper)), open_source(folder)
    assert packed.files == plain.files
    assert packed.read("train/cat/1.png") == plain.read("train/cat/1.png")


def test_a_single_class_is_not_a_wrapper(make_folder):
    assert open_source(make_folder({"cat": 3})).class_names == ("cat",)


def test_a_train_split_alone_is_not_a_wrapper(make_folder):
    assert {file.split for file in open_source(make_folder({"train/cat": 1, "train/dog": 1})).files} == {"train"}


def test_classes_are_in_natural_order(make_folder):
    assert open_source(make_folder({"10": 1, "2": 1, "1": 1, "b": 1})).class_names == ("1", "2", "10", "b")


def test_images_deep_inside_a_class_belong_to_it(make_folder):
    source = open_source(make_folder({"cat": 1, "cat/patient1": 1, "dog": 1}))
    assert ("cat/patient1/0.png", "cat", None) in describe(source)


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".jpeg", ".bmp", ".tif", ".TIFF", ".WebP"])
def test_suffixes(make_folder, suffix):
    assert len(open_source(make_folder({"cat": 1}, suffix=suffix)).files) == 1


def test_clutter_is_passed_over_and_the_rest_is_named(make_folder):
    root = make_folder({"cat": 1, ".hidden": 1, "cat/.thumbs": 1, "__MACOSX/cat": 1})
    for name in ("cat/Thumbs.db", "cat/.DS_Store", "cat/notes.txt", "README.md"):
        (root / name).write_text("x")
    source = open_source(root)
    assert describe(source) == {("cat/0.png", "cat", None)}
    assert source.ignored == ("cat/notes.txt", "README.md")


def test_loose_images_beside_class_folders_are_named(make_folder):
    source = open_source(make_folder({"train/cat": 1, "test/cat": 1, "extra/cat": 1, "train": 1}))
    assert source.ignored == ("extra/cat/0.png", "train/0.png")


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_empty_classes_are_named(make_folder, prefix):
    source = open_source(make_folder({f"{prefix}cat": 1, f"{prefix}dog": 1, f"{prefix}empty": 0}))
    assert source.empty_classes == ("empty",)
    assert source.class_names == ("cat", "dog")


def test_a_class_missing_from_one_split_only_is_not_empty(make_folder):
    assert open_source(make_folder({"train/cat": 1, "test/cat": 0})).empty_classes == ()


def test_a_linked_class_folder_is_followed_once(make_folder, tmp_path):
    root = make_folder({"cat": 1})
    elsewhere = make_folder({"": 2}, name="elsewhere")
    (root / "dog").symlink_to(elsewhere)
    (root / "cat" / "loop").symlink_to(root)
    source = open_source(root)
    assert [file.class_name for file in source.files] == ["cat", "dog", "dog"]


def test_unsafe_zip_members_are_named_not_read(tmp_path):
    path = tmp_path / "data.zip"
    link = zipfile.ZipInfo("cat/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("cat/0.png", "../outside.png", "/etc/absolute.png", "C:/windows.png", "cat/../../up.png"):
            archive.writestr(name, b"x")
        archive.writestr(link, "/etc/passwd")
    source = open_source(path)
    assert [file.name for file in source.files] == ["cat/0.png"]
    assert set(source.ignored) == {
        "../outside.png",
        "/etc/absolute.png",
        "C:/windows.png",
        "cat/../../up.png",
        "cat/link.png",
    }


def test_backslashes_in_a_zip_are_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("cat\\0.png", b"x")
    assert [file.name for file in open_source(tmp_path / "data.zip").files] == ["cat/0.png"]


def test_a_damaged_member_is_an_error_of_that_file(make_folder, make_zip):
    path = make_zip(make_folder({"cat": 2}))
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("cat/1.png")
    data = bytearray(path.read_bytes())
    data[member.header_offset + 60] ^= 0xFF
    path.write_bytes(data)
    source = open_source(path)
    source.read("cat/0.png")
    with pytest.raises(GanaugError, match="cannot be read"):
        source.read("cat/1.png")


def test_a_member_that_unpacks_to_too_much_is_an_error_of_that_file(make_folder, make_zip, monkeypatch):
    source = open_source(make_zip(make_folder({"cat": 2}), ""))
    size = len(source.read("cat/0.png"))
    monkeypatch.setattr(sources, "MAX_BYTES", size)
    assert len(source.read("cat/0.png")) == size
    monkeypatch.setattr(sources, "MAX_BYTES", size - 1)
    with pytest.raises(GanaugError, match=f"too large: {size:,} bytes"):
        source.read("cat/0.png")


def test_a_file_that_has_gone_since_is_an_error_of_that_file(make_folder):
    folder = make_folder({"cat": 2})
    source = open_source(folder)
    (folder / "cat/0.png").unlink()
    with pytest.raises(GanaugError, match="cannot be read"):
        source.read("cat/0.png")
    assert source.read("cat/1.png")


def test_a_zip_with_a_password_is_refused(make_folder, make_zip):
    path = make_zip(make_folder({"cat": 1}), "")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1  # the flag of an encrypted member, in the directory at the end
    path.write_bytes(content)
    with pytest.raises(GanaugError, match=r"protected by a password\. Unpack it"):
        open_source(path)


def test_labels_of_images_that_are_not_there_are_refused(make_folder):
    folder = make_folder({"a": 1})
    (folder / "dataset.json").write_text('{"labels": [["a/0.png", 3]]}')
    assert open_source(folder).class_names == ("3",)
    (folder / "dataset.json").write_text('{"labels": [["b/0.png", 3]]}')
    with pytest.raises(GanaugError, match="labels no image that is there"):
        open_source(folder)


def test_unlabeled_images_lie_anywhere_or_are_a_single_file(make_folder, tmp_path):
    folder = make_folder({"": 1, "deep/er": 2, "train/cat": 1})
    (folder / "notes.txt").write_text("")
    found = open_unlabeled(folder)
    assert [file.name for file in found.files] == ["0.png", "deep/er/0.png", "deep/er/1.png", "train/cat/0.png"]
    assert {(file.class_name, file.split) for file in found.files} == {("", None)} and found.class_names == ()
    alone = open_unlabeled(folder / "deep/er/1.png")
    assert [file.name for file in alone.files] == ["1.png"]
    assert alone.read("1.png") == found.read("deep/er/1.png")
    (tmp_path / "none").mkdir()
    with pytest.raises(GanaugError, match="holds no images"):
        open_unlabeled(tmp_path / "none")


def test_identity_changes_with_the_content_only(make_folder, make_zip):
    folder = make_folder({"cat": 2})
    path = make_zip(folder)
    before = open_source(folder).identity, open_source(path).identity
    assert before == (open_source(folder).identity, open_source(path).identity)
    (folder / "cat/0.png").write_bytes((folder / "cat/1.png").read_bytes())
    make_zip(folder)
    after = open_source(folder).identity, open_source(path).identity
    assert before[0] != after[0] and before[1] != after[1]


def test_missing_path(tmp_path):
    with pytest.raises(GanaugError, match="nowhere does not exist\\. "):
        open_source(tmp_path / "nowhere")


def test_a_missing_relative_path_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GanaugError, match=f"the data photos does not exist in {re.escape(str(tmp_path))}\\."):
        open_source("photos")


@pytest.mark.parametrize(
    ("name", "message"), [("data.zip", "a damaged zip"), ("data.tar", "neither a folder nor a zip")]
)
def test_what_is_no_zip(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(GanaugError, match=message):
        open_source(tmp_path / name)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"": 3}, "directly in the root"),
        ({"cat": 0}, "holds no images"),
        ({"train": 2, "test": 2}, "directly in test/, train/"),
    ],
)
def test_layouts_without_classes(make_folder, counts, message):
    with pytest.raises(GanaugError, match=message):
        open_source(make_folder(counts))


@pytest.mark.parametrize(
    ("name", "classes", "files"),
    [("mnist", 10, 5000), ("cifar10", 10, 8000), ("pcb-defects", 6, 3000), ("sign-digits", 10, 2062)],
)
def test_shared_data(shared_data, name, classes, files):
    source = open_source(shared_data / f"{name}.zip")
    assert (len(source.class_names), len(source.files), source.ignored) == (classes, files, ())
    assert source.has_split("test") == (name != "sign-digits")


def test_links_out_of_the_folder_are_named_and_followed(make_folder):
    root, elsewhere = make_folder({"cat": 1}), make_folder({"": 1}, name="elsewhere")
    (root / "dog").symlink_to(elsewhere)
    (root / "cat/linked.png").symlink_to(elsewhere / "0.png")
    (root / "cat/again.png").symlink_to(root / "cat/0.png")
    source = open_source(root)
    assert {file.name for file in source.files} == {"cat/0.png", "cat/again.png", "cat/linked.png", "dog/0.png"}
    assert set(source.outside_links) == {f"dog -> {elsewhere}", f"cat/linked.png -> {elsewhere / '0.png'}"}


def test_a_link_to_what_holds_the_folder_is_not_followed(make_folder):
    root = make_folder({"cat": 1, "../secret": 1})
    (root / "cat/all").symlink_to("/")
    (root / "up").symlink_to(root.parent)
    (root / "cat/lost.png").symlink_to(root / "nothing")
    source = open_source(root)
    assert [file.name for file in source.files] == ["cat/0.png"]
    assert source.ignored == (
        "cat/all (a link to /, which holds this folder)",
        "cat/lost.png (a link to nothing)",
        f"up (a link to {root.parent}, which holds this folder)",
    )


@pytest.mark.skipif(os.name == "nt", reason="names are always Unicode there")
def test_names_that_are_no_text_are_named_as_far_as_they_can_be(make_folder):
    root = make_folder({"cat": 1})
    shutil.copy(root / "cat/0.png", os.fsencode(root) + b"/cat/\xff.png")
    assert open_source(root).ignored == ("cat/\\udcff.png (its name is not valid UTF-8, or has a carriage return)",)


@pytest.mark.parametrize("name", ["a\nb", "日本 語", " ", "-rf", "$(rm -rf ~)", "<b>", "%s", "a" * 200, "con"])
def test_unusual_names_are_names(make_folder, name):
    root = make_folder({name: 1, "cat": 1})
    (root / name / "0.png").rename(root / name / f"{name}.png")
    source = open_source(root)
    assert name in source.class_names and source.read(f"{name}/{name}.png").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "message"),
    [("manifest.csv", "ganaug writes a file"), ("README.md", "ganaug writes a file"), ("a" * 201, "more than 200")],
)
def test_classes_that_could_have_no_folder_are_refused(make_folder, name, message):
    with pytest.raises(GanaugError, match=message):
        open_source(make_folder({name: 1, "cat": 1}))


def test_an_endless_file_is_not_read(make_folder):
    root = make_folder({"cat": 1})
    with (root / "cat/endless.png").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(GanaugError, match="too large: 1,099,511,627,776 bytes, at most 256 MiB"):
        open_source(root).read("cat/endless.png")


@pytest.mark.parametrize("part", ["n" * 300, "/".join("d" * 100)])
def test_names_in_a_zip_that_no_disk_could_hold_are_named(tmp_path, part):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("cat/0.png", b"x")
        archive.writestr(f"{part}/1.png", b"x")
    source = open_source(tmp_path / "data.zip")
    assert [file.name for file in source.files] == ["cat/0.png"] and source.ignored[0].startswith(part[:100])


@pytest.mark.parametrize(
    ("whole", "too_long"), [("n" * 255, "n" * 256), ("ü" * 127 + "n", "ü" * 128), ("d/" * 62, "d/" * 64)]
)
def test_names_are_as_long_as_file_systems_allow(tmp_path, whole, too_long):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("dog/0.png", b"x")
        for part in (whole, too_long):
            archive.writestr(f"cat/{part.rstrip('/')}/1.png", b"x")
    source = open_source(tmp_path / "data.zip")
    assert [file.name for file in source.files] == [f"cat/{whole.rstrip('/')}/1.png", "dog/0.png"]
    assert len(source.ignored) == 1


def test_natural_order_of_very_long_numbers(make_folder):
    names = [f"{digits}" for digits in ("9" * 199, "1" + "0" * 199)]
    assert open_source(make_folder(dict.fromkeys(reversed(names), 1))).class_names == tuple(names)


def test_empty_files_are_not_opened(make_folder, monkeypatch):
    """Those of /proc are of size 0, whatever they hold; the log of the kernel has no end."""
    folder = make_folder({"cat": 2})
    (folder / "cat/endless.png").touch()
    monkeypatch.setattr(Path, "open", lambda *given, **more: pytest.fail("opened"))
    source = open_source(folder)
    for method in (source.read, source.open):
        with pytest.raises(GanaugError, match="empty file"):
            method("cat/endless.png")


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="a file of Linux")
def test_links_to_files_of_the_kernel_are_unreadable(make_folder):
    folder = make_folder({"cat": 3})
    (folder / "cat/log.png").symlink_to("/proc/kmsg")
    (folder / "cat/memory.png").symlink_to("/proc/self/pagemap")
    (folder / "cat/device.png").symlink_to("/dev/zero")
    problems = {problem.kind: problem.files for problem in check(folder).problems}
    assert problems["unreadable"] == ("cat/log.png (empty file)", "cat/memory.png (empty file)")
    assert "cat/device.png (no file)" in problems["ignored-file"]
