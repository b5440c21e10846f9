"""Runs, synthetic folders and studies of earlier versions are read by this one: within a major version nothing must be made again.

tests/old/VERSION.zip was made by that version's `fit`, `synthesize` and `compare` from 24 digits; to be small it has one of the
classifiers, none of the trainings' single pieces, and weights but the generator's that have few digits.
"""

import re
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from small import CLASS_NAMES
from tiny import ganaug

import ganaug as package
from ganaug.data.manifest import read_manifest
from ganaug.runs import read_json
from ganaug.study.comparison import read_comparison

ROOT = Path(__file__).parents[1]
VERSIONS = sorted((ROOT / "tests/old").glob("*.zip"))


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda path: path.stem)
def old(request, tmp_path_factory):
    """A folder with run/, synthetic/ and study/, elsewhere than it was made. Nothing may write into it."""
    folder = tmp_path_factory.mktemp("old")
    with zipfile.ZipFile(request.param) as file:
        file.extractall(folder)
    return folder


def test_a_run_still_makes_images(old, tmp_path):
    ganaug("synthesize", old / "run", "--out", tmp_path / "new", "--per-class", 2)
    table = read_manifest(tmp_path / "new")
    assert table["class"].value_counts().to_dict() == dict.fromkeys(CLASS_NAMES, 2)
    assert all((tmp_path / "new" / file).is_file() for file in table["file"])
    before = read_manifest(old / "synthetic").groupby("class").head(2)
    assert table["seed"].tolist() == before["seed"].tolist(), "the first images are those of the same seeds"
    assert table["checkpoint"].tolist() == before["checkpoint"].tolist()


def test_its_images_are_those_that_it_made_then(old, tmp_path):
    """But for the rounding of another processor or another torch."""
    generator = package.Generator.from_run(old / "run", study=old / "study")
    assert tuple(generator.class_names) == CLASS_NAMES
    ganaug("synthesize", old / "run", "--out", tmp_path / "new", "--per-class", 3)
    for file in read_manifest(tmp_path / "new")["file"]:
        new, then = (pixels(folder / file) for folder in (tmp_path / "new", old / "synthetic"))
        assert new.shape == then.shape and np.abs(new - then).max() <= 2


def pixels(path):
    from PIL import Image

    return np.asarray(Image.open(path)).astype(int)


def test_a_report_tells_the_old_verdict(old, tmp_path):
    ganaug("report", old / "study", "--out", tmp_path / "page.html")
    sentence = read_json(old / "study/study.json")["sentence"]
    assert sentence.split(":")[0] in (tmp_path / "page.html").read_text()
    assert read_comparison(old / "study").sentence == sentence
    assert len(read_comparison(old / "study").scores) == 8


def test_a_classifier_still_predicts(old, tmp_path):
    ganaug("export-classifier", old / "study", "--arm", "scratch/real", "--out", tmp_path / "classifier.safetensors")
    found = package.predict(tmp_path / "classifier.safetensors", old / "synthetic")
    assert len(found) == len(read_manifest(old / "synthetic"))


def test_a_synthetic_folder_is_still_a_data_set(old):
    table = read_manifest(old / "synthetic")
    assert table["class"].value_counts().to_dict() == dict.fromkeys(CLASS_NAMES, 3)
    assert (table["source"] == "synthetic").all() and table["nearest_real"].ne("").all()


def test_every_version_with_a_folder_and_the_present_one_are_in_the_changelog():
    told = re.findall(r"^## (\d+\.\d+\.\d+)$", (ROOT / ".github/CHANGELOG.md").read_text(), re.MULTILINE)
    assert {path.stem for path in VERSIONS} | {package.__version__} <= set(told)
    assert told == sorted(told, key=lambda version: [int(part) for part in version.split(".")], reverse=True)
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == package.__version__
