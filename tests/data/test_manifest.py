"""manifest.csv keeps every value as it was."""

import pytest

from ganaug import GanaugError
from ganaug.data.manifest import (
    NAME,
    Row,
    locate,
    manifest_writer,
    read_manifest,
    read_rows,
    rewrite_manifest,
    write_parquet,
)

SEEDS = [2**62 + 1234567891, 2**63 - 1, 3]  # not to be found among the floats


def write_manifest(folder, rows):
    with manifest_writer(folder) as write:
        for row in rows:
            write(row)


def rows(real=False):
    given = {"checkpoint": "00123456789", "truncation": 0.7, "realism": -1.25, "class_probability": 0.5}
    made = [Row(f"007/{i}.png", "007", "synthetic", seed=seed, **given) for i, seed in enumerate(SEEDS)]
    return made + ([Row("NA/real.png", "NA", "real", original="train/NA/ü, 1.png")] if real else [])


@pytest.mark.parametrize("real", [False, True])
def test_round_trip(tmp_path, real):
    write_manifest(tmp_path, rows(real))
    table = read_manifest(tmp_path)
    synthetic = table[table["source"] == "synthetic"]
    assert [int(seed) for seed in synthetic["seed"]] == SEEDS
    assert synthetic["class"].tolist() == ["007"] * 3 and synthetic["checkpoint"].tolist() == ["00123456789"] * 3
    assert synthetic[["truncation", "realism", "class_probability"]].to_numpy().tolist() == [[0.7, -1.25, 0.5]] * 3
    if real:
        last = table.iloc[-1]
        assert (last["class"], last["original"]) == ("NA", "train/NA/ü, 1.png")
        assert last[["seed", "truncation", "realism", "class_probability"]].isna().all()


def test_columns(tmp_path):
    write_manifest(tmp_path, rows())
    assert (tmp_path / NAME).read_text().splitlines()[0] == (
        "file,class,source,kept,reasons,seed,checkpoint,truncation,realism,class_probability,"
        "nearest_real,distance,relative_distance,strangeness,original"
    )


def test_rejected_candidates_are_read_only_when_asked_for(tmp_path):
    write_manifest(tmp_path, [*rows(), Row("", "007", "synthetic", kept=False, reasons="copy duplicate", seed=5)])
    assert len(read_manifest(tmp_path)) == 3
    last = read_manifest(tmp_path, rejected=True).iloc[-1]
    assert (last["file"], last["reasons"], bool(last["kept"])) == ("", "copy duplicate", False)


def test_an_interrupted_manifest_is_none(tmp_path):
    with pytest.raises(KeyboardInterrupt), manifest_writer(tmp_path) as write:
        write(rows()[0])
        raise KeyboardInterrupt
    assert not (tmp_path / NAME).exists()


def test_parquet_holds_the_same(tmp_path):
    write_manifest(tmp_path, rows())
    write_parquet(tmp_path)
    import pandas as pd

    assert pd.read_parquet(tmp_path / "manifest.parquet")["seed"].tolist() == SEEDS


def test_an_empty_manifest_is_a_whole_one(tmp_path):
    write_manifest(tmp_path, [])
    assert len(read_manifest(tmp_path)) == 0


def test_missing_and_foreign_manifests_are_refused(tmp_path):
    with pytest.raises(GanaugError, match="no complete synthetic folder"):
        read_manifest(tmp_path)
    (tmp_path / NAME).write_text("image,label\na.png,3\n")
    with pytest.raises(GanaugError, match="lacks the columns class, file, source"):
        read_manifest(tmp_path)
    (tmp_path / NAME).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GanaugError, match="cannot be read"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("word", ["no", "False ", "FAUX"])
def test_other_words_than_true_and_false_are_refused(tmp_path, word):
    (tmp_path / NAME).write_text(f"file,class,source,kept\na/0.png,a,synthetic,{word}\n")
    with pytest.raises(GanaugError, match="expected True or False"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("row", ["a/0.png", "a/0.png,a,", "a/0.png,a,made"])
def test_every_row_says_what_it_is(tmp_path, row):
    (tmp_path / NAME).write_text(f"file,class,source,kept\n{row}\n")
    with pytest.raises(GanaugError, match="expected real or synthetic"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("file", ["../a/0.png", "/a/0.png", "a/../../b.png", "a/0.txt", "a/0\0.png", ""])
def test_an_image_lies_inside_the_folder(tmp_path, file):
    with pytest.raises(GanaugError, match="inside the folder"):
        locate(tmp_path, file)


def test_a_link_that_leads_out_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a").symlink_to(tmp_path)
    with pytest.raises(GanaugError, match="leads out"):
        locate(tmp_path / "folder", "a/0.png")
    assert locate(tmp_path / "folder", "b:c/0.png") == tmp_path / "folder/b:c/0.png"


def test_errors_name_the_manifest(tmp_path):
    with pytest.raises(GanaugError, match=rf"{NAME} cannot be read"):
        rewrite_manifest(tmp_path, {"a.png": False})
    (tmp_path / NAME).write_text("file;class\n")
    for name, told in ((None, str(tmp_path / NAME)), ("that of the zip", "that of the zip")):
        with pytest.raises(GanaugError, match="lacks the columns") as error:
            read_rows(tmp_path / NAME, name)
        assert told in str(error.value)
