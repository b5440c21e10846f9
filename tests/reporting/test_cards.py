"""The card of a folder of synthetic images, and what Hugging Face makes of the folder with it."""

import socket

import pandas as pd
import pytest
import torch
from PIL import Image
from small import CLASS_NAMES, TRAIN_COUNTS

from ganaug import AugmentedDataset
from ganaug.data.manifest import Row, manifest_writer, read_manifest
from ganaug.synthesis.synthesize import finish_folder, synthesize

COLUMNS = [
    "source",
    "seed",
    "checkpoint",
    "truncation",
    "realism",
    "class_probability",
    "nearest_real",
    "distance",
    "relative_distance",
    "strangeness",
]


@pytest.fixture
def load(tmp_path, monkeypatch):
    """`load(folder)`: the images with their columns as a table, read as "imagefolder" and by the folder alone; no network is reached."""
    datasets = pytest.importorskip("datasets")
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket.socket, "connect", None)

    def read(folder, by_folder_alone):
        call = {"path": str(folder)} if by_folder_alone else {"path": "imagefolder", "data_dir": str(folder)}
        found = datasets.load_dataset(**call, split="train", cache_dir=str(tmp_path / "cache"))
        return found, pd.DataFrame({name: found[name] for name in found.column_names})

    return read


@pytest.mark.parametrize("by_folder_alone", [True, False])
def test_hugging_face_reads_classes_and_columns(tiny_synthetic, load, by_folder_alone):
    manifest = read_manifest(tiny_synthetic)
    found, table = load(tiny_synthetic, by_folder_alone)
    assert found.column_names == ["image", "label", *COLUMNS]
    labels = (
        [CLASS_NAMES[label] for label in table["label"]] if by_folder_alone else table["label"].astype(str).tolist()
    )
    assert labels == manifest["class"].tolist()
    for name in COLUMNS:
        assert table[name].astype(manifest[name].dtype).tolist() == manifest[name].tolist(), name
    for image, file in zip(table["image"], manifest["file"], strict=True):
        assert image.tobytes() == Image.open(tiny_synthetic / file).tobytes()


def test_the_folder_alone_can_be_wrapped(tiny_synthetic, load):
    found, _ = load(tiny_synthetic, True)
    dataset = AugmentedDataset(found, tiny_synthetic, ratio=1)
    assert dataset.classes == list(CLASS_NAMES) and len(dataset) == 30
    assert torch.equal(dataset[0][0], dataset[15][0])


def test_awkward_names_and_numbers_are_read_as_they_are(tmp_path, load):
    """Classes called 007, 1e5 and test; a checkpoint that looks like a number."""
    folder = tmp_path / "out"
    folder.mkdir()
    names = ["007", "1e5", "test"]
    with manifest_writer(folder) as write:
        for number, name in enumerate(names):
            (folder / name).mkdir()
            Image.new("L", (4, 4), number).save(folder / name / "0.png")
            write(Row(f"{name}/0.png", name, "synthetic", seed=2**62 + number, checkpoint="12345678e1234567"))
    finish_folder(folder, {"class_names": names, "source": "here/data"}, parquet=False)
    found, table = load(folder, True)
    assert found.features["label"].names == names and table["label"].tolist() == [0, 1, 2]
    assert table["seed"].tolist() == [2**62 + number for number in range(3)]
    assert set(table["checkpoint"]) == {"12345678e1234567"}


@pytest.mark.parametrize("by_folder_alone", [True, False])
def test_with_real_images_only_what_all_images_have(tiny_run, digits, tmp_path, load, by_folder_alone):
    synthesize(tiny_run, tmp_path / "out", recipe={"synthesize": {"per_class": 2}}, with_real=digits, device="cpu")
    found, table = load(tmp_path / "out", by_folder_alone)
    assert found.column_names == ["image", "label", "source"]
    assert table["source"].value_counts().to_dict() == {"real": sum(TRAIN_COUNTS.values()), "synthetic": 6}
    text = (tmp_path / "out/README.md").read_text()
    assert f"25 images in 3 classes, {sum(TRAIN_COUNTS.values())} of them real" in text and "| seed |" not in text


def test_the_card_counts_and_names_no_path(tiny_synthetic, digits):
    text = (tiny_synthetic / "README.md").read_text()
    assert "# Synthetic images of data\n" in text and "15 images in 3 classes, made with" in text
    for name in CLASS_NAMES:
        assert f"| {name} | 5 |" in text
    assert "curation.html" in text and "n<1K" in text and str(digits.parent) not in text


def test_nothing_made(tiny_run, tmp_path):
    synthesize(tiny_run, tmp_path / "out", recipe={"synthesize": {"per_class": 0}}, device="cpu")
    text = (tmp_path / "out/README.md").read_text()
    assert "0 images in 0 classes" in text and "curation.html" not in text
