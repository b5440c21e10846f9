"""Synthetic folders as others read them."""

import json

import pandas as pd
import pytest

from ganaug import GanaugError
from ganaug.data.interop import write_dataset_json, write_metadata
from ganaug.data.manifest import Row, manifest_writer, read_manifest
from ganaug.data.source import open_source
from ganaug.reporting.cards import dataset_card
from ganaug.runs import write_text

TABLE = pd.DataFrame({"file": ["a, b/1.png", "ü/2.png"], "class": ["a, b", "ü"]})
GAPS = ("NA", "nan", "null", "None", "007")  # classes that look like no text
NAMES = ("a, b", "never made", "ü")


def write_images(folder, files):
    from PIL import Image

    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16)).save(folder / file)


def test_metadata_is_a_table_of_files_and_labels(tmp_path):
    write_metadata(tmp_path, TABLE)
    found = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [list(row) for row in found] == [["file_name", "label"]] * 2
    assert [list(row.values()) for row in found] == TABLE.to_numpy().tolist()


def test_metadata_has_the_columns_with_a_value_for_every_image(tmp_path):
    more = {
        "kept": [True, True],
        "seed": [3, 4],
        "realism": [0.5, float("nan")],
        "reasons": ["", "by-hand"],
        "source": ["synthetic", "real"],
    }
    write_metadata(tmp_path, TABLE.assign(**more))
    found = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [list(row) for row in found] == [["file_name", "label", "seed", "source"]] * 2
    assert [(row["seed"], row["source"]) for row in found] == [(3, "synthetic"), (4, "real")]


@pytest.mark.parametrize("names", [tuple(TABLE["class"]), GAPS, ("007", "08")])
def test_hugging_face_reads_the_labels(tmp_path, names):
    datasets = pytest.importorskip("datasets")
    seeds = pd.Series(range(2**62, 2**62 + len(names)), dtype="Int64")
    table = pd.DataFrame({"file": [f"{name}/1.png" for name in names], "class": names, "seed": seeds})
    folder = tmp_path / "made"
    write_images(folder, table["file"])
    write_metadata(folder, table)
    write_text(folder / "README.md", dataset_card("heap", names, dict.fromkeys(names, 1), 0, ["seed"], ()))
    given = {"split": "train", "cache_dir": str(tmp_path / "cache")}
    loaded = datasets.load_dataset("imagefolder", data_dir=str(folder), **given)
    assert sorted(loaded["label"]) == sorted(names) and sorted(loaded["seed"]) == seeds.tolist()
    by_card = datasets.load_dataset(str(folder), **given)
    assert by_card.features["label"].names == list(names) and sorted(by_card["label"]) == list(range(len(names)))


@pytest.mark.parametrize("name", GAPS)
def test_a_manifest_keeps_the_name_of_a_class(tmp_path, name):
    with manifest_writer(tmp_path) as write:
        write(Row(file=f"{name}/1.png", class_name=name, source="synthetic", seed=1))
        write(Row(file="", class_name=name, source="synthetic", kept=False, reasons="copy"))
    assert read_manifest(tmp_path, rejected=True)["class"].tolist() == [name, name]


def test_torchvision_reads_the_folders(tmp_path):
    from torchvision.datasets import ImageFolder

    write_images(tmp_path, TABLE["file"])
    write_metadata(tmp_path, TABLE)
    write_dataset_json(tmp_path, TABLE, NAMES)
    assert ImageFolder(tmp_path).classes == ["a, b", "ü"]


def test_stylegan_labels_are_written_and_read_again(tmp_path):
    write_images(tmp_path, TABLE["file"])
    write_dataset_json(tmp_path, TABLE, NAMES)
    assert json.loads((tmp_path / "dataset.json").read_text())["labels"] == [["a, b/1.png", 0], ["ü/2.png", 2]]
    (tmp_path / "a, b/1.png").rename(tmp_path / "ü/1.png")
    found = {file.name: file.class_name for file in open_source(tmp_path).files}
    assert found == {
        "ü/1.png": "ü",
        "ü/2.png": "ü",
    }  # ganaug's own, where the folders rule, also over images moved since


def test_a_stylegan_dataset_without_names_is_read(tmp_path):
    files = ["00000/img00000000.png", "00000/img00000001.png", "00001/img00001000.png"]
    write_images(tmp_path, [*files, "00001/unlabeled.png"])
    labels = [[file, number] for file, number in zip(files, (4, 0, 4), strict=True)]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    source = open_source(tmp_path)
    assert [(file.name, file.class_name) for file in source.files] == [
        (files[1], "0"),
        (files[0], "4"),
        (files[2], "4"),
    ]
    assert source.ignored == ("00001/unlabeled.png",) and not source.empty_classes
    before = source.identity
    labels[0][1] = 0
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert open_source(tmp_path).identity != before


def test_without_labels_the_folders_count(tmp_path):
    write_images(tmp_path, ["cat/1.png", "dog/1.png"])
    (tmp_path / "dataset.json").write_text('{"labels": null}')
    assert open_source(tmp_path).class_names == ("cat", "dog")


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"labels": [["cat/1.png"]]}', '{"labels": [["cat/1.png", 1e999]]}', '{"labels": 7}']
)
def test_a_broken_list_of_labels_is_named(tmp_path, content):
    write_images(tmp_path, ["cat/1.png"])
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(GanaugError, match=r"dataset\.json is not one of the StyleGAN family"):
        open_source(tmp_path)
