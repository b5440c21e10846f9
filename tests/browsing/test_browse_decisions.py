"""Decisions: what every reader of the folder sees of them, and that none is lost, whatever dies."""

import csv
import json
import os
import signal
import subprocess
import sys

import pandas as pd
import pytest
from PIL import Image
from synthetic_folder import CLASSES, PER_CLASS, write_folder

from ganaug import AugmentedDataset, GanaugError
from ganaug.browsing import decisions
from ganaug.browsing.decisions import decide, open_desk, parcel, settle, summarize
from ganaug.data.manifest import BY_HAND, JOURNAL, NAME, Row, manifest_writer, read_manifest, write_parquet
from ganaug.data.source import open_source

FIRST = 1  # row of the first image; row 0 is a candidate without a file
FILE = "0/synthetic-000000.png"


def contents(folder):
    """{file: bytes} of all images, wherever they lie."""
    table = read_manifest(folder, rejected=True)
    places = {file: (folder / file, parcel(folder, file)) for file in table["file"] if file}
    for both in places.values():
        assert sum(path.is_file() for path in both) == 1
    return {file: next(path for path in both if path.is_file()).read_bytes() for file, both in places.items()}


def everything(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {".browse.lock"}


def test_a_rejected_image_is_used_by_nobody(folder):
    before = contents(folder)
    write_parquet(folder)
    with open_desk(folder) as desk:
        decide(desk, [(FIRST, False)])
        assert summarize(desk) == {"rejected": 1, "kept": 0}
    left = set(before) - {FILE}
    row = read_manifest(folder, rejected=True).set_index("file").loc[FILE]
    assert (bool(row["kept"]), row["reasons"], int(row["seed"])) == (False, BY_HAND, 2**62)
    assert set(read_manifest(folder)["file"]) == left
    assert {file.name for file in open_source(folder).files} == left  # compare --synthetic, audit, fit
    assert set(pd.read_json(folder / "metadata.jsonl", lines=True)["file_name"]) == left
    stylegan = json.loads((folder / "dataset.json").read_text())
    assert {file for file, _ in stylegan["labels"]} == left and stylegan["class_names"] == [*CLASSES, "never made"]
    assert set(pd.read_parquet(folder / "manifest.parquet").query("kept")["file"]) == left
    images = {path for path in folder.rglob("*") if path.suffix.lower() in Image.registered_extensions()}
    assert len(images) == len(left)  # as the StyleGAN family looks for them, in hidden places, too
    assert contents(folder) == before


def test_other_tools_do_not_see_it(folder):
    from torchvision.datasets import ImageFolder

    with open_desk(folder) as desk:
        decide(desk, [(row, False) for row in range(FIRST, FIRST + PER_CLASS - 1)])
        found = ImageFolder(folder)
        assert found.classes == sorted(CLASSES) and len(found) == PER_CLASS + 1
        decide(desk, [(FIRST + PER_CLASS - 1, False)])  # the whole class 0, which torchvision must not number anew
        with pytest.raises(FileNotFoundError, match="no valid file for the classes 0"):
            ImageFolder(folder)


def test_hugging_face_does_not_see_it(folder):
    datasets = pytest.importorskip("datasets")
    with open_desk(folder) as desk:
        decide(desk, [(FIRST, False)])
    cache = folder.parent / "cache"
    loaded = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(cache))
    assert loaded["label"].count("0") == PER_CLASS - 1


def test_the_torch_dataset_does_not_see_it(folder, tmp_path):
    for name in CLASSES:
        (tmp_path / "real" / name).mkdir(parents=True)
        Image.new("L", (16, 16)).save(tmp_path / "real" / name / "a.png")
    with open_desk(folder) as desk:
        decide(desk, [(FIRST, False)])
        during = AugmentedDataset(tmp_path / "real", folder)  # before the manifest is written
        assert FILE not in {os.path.relpath(path, folder) for path, _ in during.samples}
    after = AugmentedDataset(tmp_path / "real", folder)
    assert len(after) == len(during) == 2 + 2 * PER_CLASS - 1


def test_keeping_again_brings_everything_back(folder):
    before, images = (folder / NAME).read_bytes(), contents(folder)
    others = {name: (folder / name).read_bytes() for name in ("metadata.jsonl", "dataset.json")}
    with open_desk(folder) as desk:
        decide(desk, [(row, False) for row in range(FIRST, FIRST + PER_CLASS)])
    assert not any((folder / "0").iterdir())  # but there: without it, torchvision would number the other classes anew
    with open_desk(folder) as desk:
        decide(desk, [(row, True) for row in range(FIRST, FIRST + PER_CLASS)])
        assert summarize(desk) == {"rejected": 0, "kept": PER_CLASS}
    assert (folder / NAME).read_bytes() == before and contents(folder) == images
    assert {name: (folder / name).read_bytes() for name in others} == others
    assert not any(name.startswith(".") for name in everything(folder))


def test_other_columns_and_values_stay_as_they_are_written(folder):
    with (folder / NAME).open(newline="") as file:
        rows = list(csv.reader(file))
    for number, row in enumerate(rows):
        row.append("mine" if number == 0 else f"1.2300, {number}\n")
    with (folder / NAME).open("w", newline="", encoding="utf-8-sig") as file:  # as spreadsheets save
        csv.writer(file).writerows(rows)
    with open_desk(folder) as desk:
        decide(desk, [(FIRST, False)])
    with (folder / NAME).open(newline="") as file:
        found = list(csv.reader(file))
    rows[FIRST + 1][3:5] = ["False", BY_HAND]
    assert found == rows


def test_what_filters_said_stays(folder):
    """An image that a filter rejected and that is there all the same may be kept, and rejected again."""
    file = "0/doubtful.png"
    rows = [Row(file, "0", "synthetic", kept=False, reasons="outlier duplicate")]
    Image.new("L", (8, 8)).save(folder / file)
    with manifest_writer(folder) as write:
        write(rows[0])
    reasons = []
    for kept in (True, False):
        with open_desk(folder) as desk:
            decide(desk, [(0, kept)])
        row = read_manifest(folder, rejected=True).iloc[0]
        reasons.append((bool(row["kept"]), row["reasons"]))
    assert reasons == [(True, "outlier duplicate"), (False, f"outlier duplicate {BY_HAND}")]


def test_a_manifest_without_verdicts_gets_them(folder):
    (folder / NAME).write_text(f"file,class,source\n{FILE},0,synthetic\n")
    with open_desk(folder) as desk:
        decide(desk, [(0, False)])
    assert (folder / NAME).read_text() == f"file,class,source,kept,reasons\n{FILE},0,synthetic,False,{BY_HAND}\n"


# What dies

KILLED = """
import os, signal, sys
from pathlib import Path
from ganaug.browsing import decisions
with decisions.open_desk(Path(sys.argv[1])) as desk:
    if sys.argv[2] == "before the manifest":
        decisions.settle = lambda desk: None
    elif sys.argv[2] == "in the manifest":
        def rewrite(folder, found, real=decisions.rewrite_manifest):
            os.replace = Path.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
            real(folder, found)
        decisions.rewrite_manifest = rewrite
    elif sys.argv[2] == "before the journal is emptied":
        os.truncate = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
    elif sys.argv[2] == "before the last file":
        def move(folder, file, kept, real=decisions.move):
            if file.endswith("3.png"):
                os.kill(os.getpid(), signal.SIGKILL)
            real(folder, file, kept)
        decisions.move = move
    for row in (1, 2, 3, 4, 2):
        decisions.decide(desk, [(row, row == 4)])
        print(row, flush=True)
    decisions.decide(desk, [(2, True), (4, False)])
    print("2 kept", flush=True)
    while True:
        signal.pause()
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize(
    "moment", ["before the manifest", "in the manifest", "before the journal is emptied", "before the last file"]
)
def test_what_was_acknowledged_outlives_a_kill(folder, moment):
    before = contents(folder)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), moment], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    said = [process.stdout.readline().strip()]
    while said[-1] not in ("", "2 kept"):
        said.append(process.stdout.readline().strip())
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    acknowledged = {}
    for word in said:
        if word == "2 kept":
            acknowledged |= {2: True, 4: False}
        elif word:
            acknowledged[int(word)] = int(word) == 4
    assert acknowledged and (moment != "before the manifest" or said[-1] == "2 kept")
    # It may die between the writing of the last decision and its word.
    expected = [acknowledged, acknowledged | {2: True, 4: False}] if said.count("2") == 2 else [acknowledged]
    readable = read_manifest(folder, rejected=True)  # before anything is completed
    assert {row: bool(readable["kept"][row]) for row in acknowledged} in expected
    with open_desk(folder) as desk:
        found = {row: desk.entries[row].kept for row in acknowledged}
    assert found in expected
    table = read_manifest(folder, rejected=True)
    assert {row: bool(table["kept"][row]) for row in acknowledged} == found
    assert contents(folder) == before
    kept = set(read_manifest(folder)["file"])
    assert (
        {file.name for file in open_source(folder).files}
        == kept
        == set(pd.read_json(folder / "metadata.jsonl", lines=True)["file_name"])
    )
    assert not {name for name in everything(folder) if name.endswith(".tmp") or name == JOURNAL}


def test_half_a_line_in_the_journal_was_not_promised(folder):
    (folder / JOURNAL).write_bytes(json.dumps({"file": FILE, "kept": False}).encode() + b'\n{"file": "0/syn')
    with open_desk(folder) as desk:
        assert [row for row, entry in desk.entries.items() if not entry.kept] == [FIRST]
        decide(desk, [(FIRST + 1, False)])
    assert len(read_manifest(folder)) == 2 * PER_CLASS - 2


def test_a_damaged_journal_is_named(folder):
    (folder / JOURNAL).write_bytes(b"what?\n")
    with pytest.raises(GanaugError, match=r"\.decisions\.jsonl is damaged"), open_desk(folder):
        pass


def test_a_full_disk_makes_no_decision(folder, monkeypatch):
    with open_desk(folder) as desk:
        decide(desk, [(FIRST, False)])

        def refuse(file):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(decisions.os, "fsync", refuse)
            with pytest.raises(GanaugError, match=r"No space left on device.*has not been made"):
                decide(desk, [(FIRST + 1, False)])
        assert (folder / desk.entries[FIRST + 1].file).is_file() and desk.entries[FIRST + 1].kept
        decide(desk, [(FIRST + 2, False)])
    assert len(read_manifest(folder)) == 2 * PER_CLASS - 2


def test_a_decision_that_cannot_be_carried_out_is_withdrawn(folder):
    with open_desk(folder) as desk:
        (folder / desk.entries[FIRST + 1].file).unlink()
        with pytest.raises(GanaugError, match="cannot be rejected: its file is gone"):
            decide(desk, [(FIRST, False), (FIRST + 1, False), (FIRST + 2, False)])
        assert [desk.entries[FIRST + i].kept for i in range(3)] == [False, True, False]  # the others are made
    table = read_manifest(folder, rejected=True)
    assert table["kept"][FIRST : FIRST + 3].tolist() == [False, True, False]


def test_a_journal_that_was_removed_meanwhile_is_written_anew(folder, monkeypatch):
    monkeypatch.setattr(decisions, "settle", lambda desk: None)  # the writer is not at it yet
    with open_desk(folder) as desk:
        decide(desk, [(FIRST, False)])
        (folder / JOURNAL).unlink()
        decide(desk, [(FIRST + 1, False)])
        assert read_manifest(folder, rejected=True)["kept"][FIRST : FIRST + 2].tolist() == [False, False]
        (folder / JOURNAL).unlink()
        monkeypatch.undo()
        settle(desk)
    assert read_manifest(folder, rejected=True)["kept"][FIRST : FIRST + 2].tolist() == [False, False]


def test_a_manifest_that_cannot_be_written_loses_nothing(folder, monkeypatch):
    def refuse(folder, decisions):
        raise OSError(28, "No space left on device")

    with (
        monkeypatch.context() as patch,
        pytest.raises(GanaugError, match=r"cannot be written.*safe in \.decisions"),
        open_desk(folder) as desk,
    ):
        patch.setattr(decisions, "rewrite_manifest", refuse)
        decide(desk, [(FIRST, False)])
        with pytest.raises(GanaugError):
            settle(desk)
    assert FILE not in set(read_manifest(folder)["file"])
    with open_desk(folder):
        pass
    assert "False,by-hand" in (folder / NAME).read_text() and not (folder / JOURNAL).exists()


# What is refused


def test_two_at_once_are_refused(folder):
    code = (
        "import sys; from ganaug.browsing.decisions import open_desk\nwith open_desk(sys.argv[1]): print('open', flush=True);"
        " sys.stdin.read()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "open\n"
    with pytest.raises(GanaugError, match="is being browsed already"), open_desk(folder):
        pass
    first.kill()  # its lock ends with it
    first.communicate(timeout=20)
    with open_desk(folder):
        pass


def test_a_folder_without_manifest_is_refused_and_left_alone(tmp_path):
    with pytest.raises(GanaugError, match=r"has no manifest\.csv"), open_desk(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "file",
    [
        "../secret.png",
        "/etc/secret.png",
        "0/../../secret.png",
        "./0/a.png",
        "0//a.png",
        NAME,
    ],
)
def test_files_elsewhere_are_refused(folder, tmp_path, file):
    Image.new("L", (8, 8)).save(tmp_path / "secret.png")
    with manifest_writer(folder) as write:
        write(Row(file, "0", "synthetic"))
    with pytest.raises(GanaugError, match="expected the path of an image inside the folder"), open_desk(folder):
        pass


@pytest.mark.parametrize("whole_class", [False, True])
def test_links_that_lead_out_are_refused(folder, tmp_path, whole_class):
    (tmp_path / "elsewhere").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "elsewhere/a.png")
    link, target = ("out", "elsewhere") if whole_class else ("0/a.png", "elsewhere/a.png")
    (folder / link).symlink_to(tmp_path / target)
    with manifest_writer(folder) as write:
        write(Row("out/a.png" if whole_class else "0/a.png", "0", "synthetic"))
    with pytest.raises(GanaugError, match="is a link or lies behind one"), open_desk(folder):
        pass
    assert (tmp_path / "elsewhere/a.png").is_file()


def test_a_journal_that_is_a_link_is_not_followed(folder, tmp_path):
    (tmp_path / "precious").write_text('{"file": "x", "kept": true}\n')
    (folder / JOURNAL).symlink_to(tmp_path / "precious")
    with pytest.raises(GanaugError, match="is a link"), open_desk(folder):
        pass
    assert (tmp_path / "precious").read_text()


def test_lists_for_other_tools_that_were_changed_or_removed(folder):
    (folder / "metadata.jsonl").unlink()
    (folder / "dataset.json").write_text('{"labels": [], "class_names": ["other"]}')
    with open_desk(folder) as desk:
        decide(desk, [(FIRST, False)])
    assert not (folder / "metadata.jsonl").exists()
    assert json.loads((folder / "dataset.json").read_text())["class_names"] == ["other", *CLASSES]
    foreign = '{"labels": [["0/synthetic-000000.png", 3]]}'
    (folder / "dataset.json").write_text(foreign)
    with open_desk(folder) as desk:
        decide(desk, [(FIRST + 1, False)])
    assert (folder / "dataset.json").read_text() == foreign


def test_the_same_file_twice_is_refused(folder):
    with manifest_writer(folder) as write:
        write(Row(FILE, "0", "synthetic"))
        write(Row(FILE, "1", "synthetic"))
    with pytest.raises(GanaugError, match="twice"), open_desk(folder):
        pass


def test_an_image_that_lies_there_twice_is_overwritten_by_nobody(folder):
    with open_desk(folder) as desk:
        decide(desk, [(FIRST, False)])
    (folder / FILE).write_bytes(b"another one")
    with pytest.raises(GanaugError, match="lies there twice"), open_desk(folder):
        pass
    assert (folder / FILE).read_bytes() == b"another one" and parcel(folder, FILE).is_file()


def test_rebuilding_leaves_rejected_ones_out(tiny_run, tmp_path):
    from small import TINY

    from ganaug import rebuild, synthesize

    synthesize(tiny_run, tmp_path / "made", recipe={**TINY, "synthesize": {"per_class": 2}}, device="cpu")
    with open_desk(tmp_path / "made") as desk:
        decide(desk, [(min(desk.entries), False)])
    assert sum(rebuild(tiny_run, tmp_path / "made", tmp_path / "again", device="cpu").values()) == 5
    assert len(open_source(tmp_path / "again").files) == len(read_manifest(tmp_path / "again")) == 5


def test_folders_are_alike_for_whoever_reads_on(tmp_path):
    """Looking without deciding changes nothing."""
    folder = write_folder(tmp_path / "looked at")
    before = {name: (folder / name).read_bytes() for name in everything(folder)}
    with open_desk(folder):
        pass
    assert {name: (folder / name).read_bytes() for name in everything(folder)} == before
