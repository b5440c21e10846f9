"""The stage `synthesize` on a tiny run: counts, repeatability, real images beside the synthetic ones, and refusals."""

import hashlib
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small import CLASS_NAMES, TRAIN_COUNTS, files_of, with_settings

from ganaug import GanaugError
from ganaug.data.images import decode
from ganaug.data.manifest import read_manifest
from ganaug.gan.member import load_member
from ganaug.gan.training import fit
from ganaug.runs import RunFolder
from ganaug.synthesis import synthesize as stage
from ganaug.synthesis.sample import CHUNK, sample
from ganaug.synthesis.synthesize import synthesize


def make(run, out, with_real=None, **settings):
    synthesize(run, out, recipe={"synthesize": settings}, with_real=with_real, device="cpu")
    return out


def images_of(folder):
    return {name: content for name, content in files_of(folder).items() if name.endswith(".png")}


def test_exact_files_and_counts(tiny_synthetic):
    expected = {f"{name}/synthetic-{i:06d}.png" for name in CLASS_NAMES for i in range(5)}
    others = {
        "manifest.csv",
        "recipe.yaml",
        "curation.json",
        "curation.html",
        "pairs.npz",
        "metadata.jsonl",
        "dataset.json",
        "README.md",
    }
    assert set(files_of(tiny_synthetic)) == expected | others
    for content in images_of(tiny_synthetic).values():
        picture = decode(content)
        assert (picture.width, picture.height, picture.mode) == (16, 16, "L")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, TRAIN_COUNTS),
        ({"per_class": 0}, {"0": 0, "1": 0, "2": 0}),
        ({"target_per_class": 7}, {"0": 0, "1": 1, "2": 2}),
        ({"sampling_strategy": "not-majority"}, {"0": 0, "1": 2, "2": 3}),
        ({"sampling_strategy": "minority"}, {"0": 0, "1": 0, "2": 3}),
        ({"sampling_strategy": {"1": 10}}, {"0": 0, "1": 4, "2": 0}),
        ({"add": {"2": 2}}, {"2": 2}),
        ({"per_class": 3, "classes": ["2", "0"]}, {"0": 3, "2": 3}),
    ],
)
def test_the_counts_asked_for_are_returned_and_written(tiny_run, tmp_path, settings, expected):
    assert synthesize(tiny_run, tmp_path / "out", recipe={"synthesize": settings}) == expected
    found = read_manifest(tmp_path / "out")["class"].value_counts().to_dict()
    assert found == {name: count for name, count in expected.items() if count}
    assert len(images_of(tmp_path / "out")) == sum(expected.values())


def test_the_manifest_tells_where_every_image_comes_from(tiny_run, tiny_synthetic):
    table = read_manifest(tiny_synthetic)
    assert set(table["file"]) == set(images_of(tiny_synthetic))
    assert [file.split("/")[0] for file in table["file"]] == table["class"].tolist()
    assert set(table["source"]) == {"synthetic"} and table["seed"].is_unique
    weights = (tiny_run / "members/joint/generator.safetensors").read_bytes()
    assert set(table["checkpoint"]) == {hashlib.sha256(weights).hexdigest()[:16]}
    assert set(table["truncation"]) == {1.0}
    assert table["class_probability"].between(0, 1).all() and np.isfinite(table["realism"]).all()


def test_an_image_can_be_made_again_from_its_row(tiny_run, tiny_synthetic):
    row = read_manifest(tiny_synthetic).iloc[8]
    networks = load_member(RunFolder(tiny_run), "joint")
    label = CLASS_NAMES.index(row["class"])
    again = sample(*networks, [int(row["seed"])], label, float(row["truncation"]), torch.device("cpu"))
    stored = decode((tiny_synthetic / row["file"]).read_bytes()).pixels[:, :, 0]
    np.testing.assert_allclose(again.images[0, 0].astype(int), stored.astype(int), atol=1)
    assert float(again.realism[0]) == pytest.approx(float(row["realism"]), abs=1e-3)


def test_images_do_not_depend_on_what_else_is_asked_for(tiny_run, tiny_synthetic, tmp_path):
    few = images_of(tiny_synthetic)
    many = images_of(make(tiny_run, tmp_path / "many", per_class=CHUNK + 4, classes=["1"]))
    assert len(many) == CHUNK + 4
    assert {name: many[name] for name in few if name.startswith("1/")} == {
        name: content for name, content in few.items() if name.startswith("1/")
    }
    one = images_of(make(tiny_run, tmp_path / "one", per_class=1, classes=["2"]))
    assert one == {"2/synthetic-000000.png": few["2/synthetic-000000.png"]}
    uneven = images_of(make(tiny_run, tmp_path / "uneven", target_per_class=8))
    assert uneven == {name: few[name] for name in uneven} and len(uneven) == 5


def test_the_same_request_gives_the_same_bytes_and_another_seed_other_images(tiny_run, tiny_synthetic, tmp_path):
    assert files_of(make(tiny_run, tmp_path / "again", per_class=5)) == files_of(tiny_synthetic)
    other = images_of(make(tiny_run, tmp_path / "other", per_class=5, seed=1))
    assert not set(other.values()) & set(images_of(tiny_synthetic).values())


def test_parquet_that_cannot_be_written_is_said_before_any_work(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("ganaug.synthesis.synthesize.write_images", None)  # is not reached
    with pytest.raises(GanaugError, match="needs pyarrow"):
        synthesize(tiny_run, tmp_path / "out", parquet=True)
    assert not (tmp_path / "out").exists()


def test_truncation_draws_images_together(tiny_run, tmp_path):
    def spread(folder):
        pixels = [decode(content).pixels for name, content in images_of(folder).items() if name.startswith("0/")]
        return np.stack(pixels).astype(float).std(axis=0).mean()

    whole = make(tiny_run, tmp_path / "whole", per_class=30)
    narrow = make(tiny_run, tmp_path / "narrow", per_class=30, truncation=0.2)
    assert spread(narrow) < 0.7 * spread(whole)
    assert set(read_manifest(narrow)["truncation"]) == {0.2}
    candidates = (read_manifest(folder, rejected=True)["seed"] for folder in (narrow, whole))
    assert len({frozenset(seeds) for seeds in candidates}) == 1  # from the same noise but for its length


def test_real_training_images_are_copied_byte_for_byte(tiny_run, digits, tiny_synthetic, tmp_path):
    out = make(tiny_run, tmp_path / "out", per_class=5, with_real=digits)
    table = read_manifest(out)
    real = table[table["source"] == "real"]
    assert real["class"].value_counts().to_dict() == TRAIN_COUNTS
    for row in real.itertuples():
        assert (out / row.file).read_bytes() == (digits / row.original).read_bytes()
        assert row.original.startswith("train/")  # never a test image
    assert set(table["file"]) == set(images_of(out))
    synthetic = table[table["source"] == "synthetic"]
    assert synthetic["seed"].tolist() == read_manifest(tiny_synthetic)["seed"].tolist()  # to the last digit
    assert {name: content for name, content in files_of(out).items() if "synthetic-" in name} == images_of(
        tiny_synthetic
    )


def test_real_images_may_come_from_a_zip_of_the_same_files(tiny_run, digits, tmp_path):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for name, content in files_of(digits).items():
            archive.writestr(name, content)
    out = make(tiny_run, tmp_path / "out", per_class=0, with_real=tmp_path / "data.zip")
    assert len(images_of(out)) == sum(TRAIN_COUNTS.values())


@pytest.mark.parametrize("damage", ["change", "remove"])
def test_other_data_is_refused_and_nothing_is_left(tiny_run, digits, tmp_path, damage):
    other = shutil.copytree(digits, tmp_path / "other")
    victim = sorted((other / "train/1").iterdir())[2]
    victim.unlink() if damage == "remove" else victim.write_bytes(sorted((other / "train/0").iterdir())[0].read_bytes())
    with pytest.raises(GanaugError, match=f"train/1/{victim.name} is missing or has changed"):
        make(tiny_run, tmp_path / "out", per_class=2, with_real=other)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_filled_folder_is_refused_and_an_empty_one_used(tiny_run, tiny_synthetic, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("precious")
    for target in (tmp_path / "mine", tmp_path / "mine/notes.txt"):
        with pytest.raises(GanaugError, match="not an empty folder"):
            make(tiny_run, target, per_class=1)
    assert files_of(tmp_path) == {"mine/notes.txt": b"precious"}
    (tmp_path / "empty").mkdir()
    assert files_of(make(tiny_run, tmp_path / "empty", per_class=5)) == files_of(tiny_synthetic)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_nothing_is_left_of_an_interrupted_folder(tiny_run, tiny_synthetic, tmp_path, monkeypatch, error):
    encoded, encode = [], stage.encode_png

    def encode_some(pixels, level):
        encoded.append(pixels)
        if len(encoded) == 8:
            raise error
        return encode(pixels)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "encode_png", encode_some)
        with pytest.raises(error):
            make(tiny_run, tmp_path / "out", per_class=5)
    assert list(tmp_path.iterdir()) == []
    assert files_of(make(tiny_run, tmp_path / "out", per_class=5)) == files_of(tiny_synthetic)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_process_left_does_not_mix_in(tiny_run, tiny_synthetic, tmp_path):
    left = tmp_path / ".out.partial/0"
    left.mkdir(parents=True)
    (left / "synthetic-000099.png").write_bytes(b"half")
    assert files_of(make(tiny_run, tmp_path / "out", per_class=5)) == files_of(tiny_synthetic)


def test_it_works_after_the_data_was_deleted(digits, tmp_path):
    data = shutil.copytree(digits, tmp_path / "data")
    run = fit(data, tmp_path / "run", recipe=with_settings(fit={"steps": 2}))
    shutil.rmtree(data)
    assert len(images_of(make(run, tmp_path / "out", per_class=2))) == 6
    with pytest.raises(GanaugError, match="data"):
        make(run, tmp_path / "second", per_class=2, with_real=data)
    assert not (tmp_path / "second").exists()


def test_the_runs_own_settings_are_the_defaults(digits, tmp_path):
    recipe = with_settings(fit={"steps": 2}, synthesize={"per_class": 3, "classes": ["1"], "seed": 4})
    run = fit(digits, tmp_path / "run", recipe=recipe)
    assert synthesize(run, tmp_path / "own") == {"1": 3}
    assert synthesize(run, tmp_path / "two", recipe={"synthesize": {"per_class": 2}}) == {"1": 2}
    assert images_of(tmp_path / "two").items() <= images_of(tmp_path / "own").items()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per_class": 1, "sampling_strategy": "all"}, "got per_class and sampling_strategy"),
        ({"classes": ["3"]}, "unknown class '3'"),
        ({"truncation": 1.5}, "synthesize.truncation"),
        ({"per_clas": 1}, "did you mean synthesize.per_class"),
    ],
)
def test_wrong_requests_leave_nothing(tiny_run, tmp_path, settings, message):
    with pytest.raises(GanaugError, match=message):
        make(tiny_run, tmp_path / "out", **settings)
    assert list(tmp_path.iterdir()) == []


def test_only_complete_runs(tiny_run, tmp_path):
    with pytest.raises(GanaugError, match="not a run"):
        make(tmp_path, tmp_path / "out", per_class=1)
    damaged = shutil.copytree(tiny_run, tmp_path / "run")
    weights = Path(damaged / "members/joint/generator.safetensors")
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(GanaugError, match=r"generator\.safetensors cannot be loaded"):
        make(damaged, tmp_path / "out", per_class=1)
    assert not (tmp_path / "out").exists()


def test_the_manifest_opens_in_plain_pandas(tiny_synthetic):
    table = pd.read_csv(tiny_synthetic / "manifest.csv")
    assert table["kept"].sum() == 15 and table["seed"].dtype == np.int64


def test_classes_that_a_table_could_take_for_nothing_keep_their_names(tmp_path):
    folder = RunFolder(tmp_path)
    folder.data.mkdir(parents=True)
    (folder.data / "index.csv").write_text(
        "file,class,split,sha256\nNA/1.png,NA,train,12\n007/2.png,007,train,1e5\nNA/3.png,NA,test,3\n"
    )
    found = [(row["class"], row["sha256"]) for row in stage.training_files(folder)]
    assert found == [("NA", "12"), ("007", "1e5")]
