"""No cell of a CSV is a formula, and what is read again is what was written."""

import csv

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganaug.data.interop import write_metadata
from ganaug.data.manifest import Row, manifest_writer, read_manifest, rewrite_manifest
from ganaug.spreadsheet import PATHS, protect, restore, write_csv

FORMULAS = (
    "=1+1",
    "+A1",
    "-A1+1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1+1",
    "=HYPERLINK('http://x')",
    "'=1+1",
    "-1+cmd|' /C calc'!A0",
)


def starts_like_a_formula(cell):
    return len(cell) > 1 and cell[0] in "=+-@\t\r\n" and not cell.lstrip("+-").replace(".", "").isdigit()


@given(st.text() | st.text(alphabet="'=+-@\t\r\n1.e/").map(str), st.sampled_from(["class", *PATHS]))
def test_what_is_protected_is_no_formula_and_is_restored(text, column):
    if column in PATHS and text.startswith("./"):
        return  # no path of ganaug's does
    found = protect(text, column)
    assert restore(found, column) == text
    assert found == text or not starts_like_a_formula(found)


@pytest.mark.parametrize("text", ["-1", "+1.5", "-", "=", "a=b", "-1e-5", "", "1"])
def test_numbers_and_signs_stay(text):
    assert protect(text) == text


def write_rows(folder, names):
    with manifest_writer(folder) as write:
        for name in names:
            write(Row(f"{name}/a.png", name, "synthetic", seed=1, nearest_real=f"{name}/real.png", distance=-0.5))


def test_a_manifest_of_hostile_classes(tmp_path):
    names = [name for name in FORMULAS if "\r" not in name]  # which no class is called
    write_rows(tmp_path, names)
    table = read_manifest(tmp_path)
    assert table["class"].tolist() == names
    assert table["file"].tolist() == [f"{name}/a.png" for name in names]
    assert table["nearest_real"].tolist() == [f"{name}/real.png" for name in names]
    with (tmp_path / "manifest.csv").open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert len(cells) > 20 and not [cell for cell in cells if starts_like_a_formula(cell)]


def test_a_decision_finds_a_file_that_is_protected(tmp_path):
    write_rows(tmp_path, ["=x", "y"])
    rewrite_manifest(tmp_path, {"=x/a.png": False})
    assert read_manifest(tmp_path)["class"].tolist() == ["y"]
    assert read_manifest(tmp_path, rejected=True)["file"].tolist() == ["=x/a.png", "y/a.png"]


def test_tables_are_written_without_formulas(tmp_path):
    table = pd.DataFrame({"class": ["=1+1", "a"], "=A1": [-1.5, 2.0], "file": ["=1+1/a.png", "b.png"]})
    write_csv(table, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "class,'=A1,file\n'=1+1,-1.5,./=1+1/a.png\na,2.0,b.png\n"
    assert table["class"].tolist() == ["=1+1", "a"]


def test_hugging_face_finds_the_files(tmp_path):
    datasets = pytest.importorskip("datasets")
    from folders import write_images

    write_images(tmp_path, {"=1+1": 1, "@b": 1, "-1": 1})
    table = pd.DataFrame({"file": ["=1+1/0.png", "@b/0.png", "-1/0.png"], "class": ["=1+1", "@b", "-1"]})
    write_metadata(tmp_path, table)
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert sorted(loaded["label"]) == ["-1", "=1+1", "@b"]  # as they are: its metadata is no CSV
    assert [image.size for image in loaded["image"]] == [(24, 24)] * 3
