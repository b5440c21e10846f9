"""Synthetic folders as others read them."""

import json

import pandas as pd
import pytest

from ganaug import GanaugError
from ganaug.data.interop import write_dataset_json, write_metadata
from ganaug.data.source import open_source

TABLE = pd.DataFrame({"file": ["a, b/1.png", "ü/2.png"], "class": ["a, b", "ü"]})
NAMES = ("a, b", "never made", "ü")


def write_images(folder, files):
    from PIL import Image

    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16)).save(folder / file)


def test_metadata_is_a_table_of_files_and_labels(tmp_path):
    write_metadata(tmp_path, TABLE)
    found = pd.read_csv(tmp_path / "metadata.csv")
    assert found.columns.tolist() == ["file_name", "label"]
    assert found.to_numpy().tolist() == TABLE.to_numpy().tolist()


def test_metadata_has_the_columns_with_a_value_for_every_image(tmp_path):
    more = {
        "kept": [True, True],
        "seed": [3, 4],
        "realism": [0.5, float("nan")],
        "reasons": ["", "by-hand"],
        "source": ["synthetic", "real"],
    }
    write_metadata(tmp_path, TABLE.assign(**more))
    found = pd.read_csv(tmp_path / "metadata.csv")
    assert found.columns.tolist() == ["file_name", "label", "seed", "source"]
    assert found["seed"].tolist() == [3, 4] and found["source"].tolist() == ["synthetic", "real"]


def test_hugging_face_reads_the_labels(tmp_path):
    datasets = pytest.importorskip("datasets")
    write_images(tmp_path, TABLE["file"])
    write_metadata(tmp_path, TABLE)
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert sorted(loaded["label"]) == sorted(TABLE["class"])


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
