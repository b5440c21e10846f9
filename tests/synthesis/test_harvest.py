"""Candidates that the tests reject never become images, counts still hold, and what cannot be filled is said."""

import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch
from small import CLASS_NAMES, files_of

from ganaug import GanaugError, rebuild
from ganaug.data.manifest import read_manifest
from ganaug.recipe import load_recipe
from ganaug.runs import open_run
from ganaug.synthesis import filters, harvest
from ganaug.synthesis.filters import FILTERS
from ganaug.synthesis.harvest import harvest_images, open_member
from ganaug.synthesis.sample import CHUNK, image_seed
from ganaug.synthesis.synthesize import synthesize
from ganaug.synthesis.tally import Tally

ALL = tuple(FILTERS)


def make(run, out, per_class=5, **curation):
    recipe = {"synthesize": {"per_class": per_class}, "curation": {"without": ALL, "keep": 1.0, **curation}}
    return synthesize(run, out, recipe=recipe, device="cpu")


def images_of(folder):
    return {name: content for name, content in files_of(folder).items() if name.endswith(".png")}


@pytest.fixture
def odd_ones_are_copies(monkeypatch):
    """Every second candidate fails the test for copies."""

    def every_second(evidence, limits, passed, kept):
        return np.arange(len(passed)) % 2 == 0

    monkeypatch.setitem(filters.FILTERS, "copy", every_second)
    return tuple(name for name in ALL if name != "copy")


def test_rejected_candidates_are_replaced_and_stay_in_the_manifest(tiny_run, tmp_path, odd_ones_are_copies):
    out = tmp_path / "out"
    assert make(tiny_run, out, per_class=CHUNK, without=odd_ones_are_copies) == dict.fromkeys(CLASS_NAMES, CHUNK)
    assert len(images_of(out)) == CHUNK * len(CLASS_NAMES)
    table = read_manifest(out, rejected=True)
    rejected = table[~table["kept"]]
    assert set(rejected["reasons"]) == {"copy"} and set(rejected["file"]) == {""}
    assert rejected["class"].value_counts().to_dict() == dict.fromkeys(CLASS_NAMES, CHUNK)
    assert rejected["seed"].notna().all() and table["seed"].is_unique
    found = json.loads((out / "curation.json").read_text())
    assert found["classes"]["1"] | {"data_copying": 0} == {
        "real": 6,
        "asked": CHUNK,
        "candidates": 2 * CHUNK,
        "kept": CHUNK,
        "rejected": {"copy": CHUNK},
        "surplus": 0,
        "data_copying": 0,
    }
    assert found["summary"]["rejected"] == {"copy": CHUNK * len(CLASS_NAMES)}


def test_what_is_not_needed_is_surplus(tiny_run, tmp_path):
    make(tiny_run, tmp_path / "out", per_class=3)
    table = read_manifest(tmp_path / "out", rejected=True)
    assert table["reasons"].eq("surplus").sum() == (CHUNK - 3) * len(CLASS_NAMES)
    assert table.loc[table["kept"], "reasons"].eq("").all()


def test_fewer_images_are_the_first_of_more(tiny_run, tmp_path, odd_ones_are_copies):
    make(tiny_run, tmp_path / "few", per_class=7, without=odd_ones_are_copies, keep=0.3)
    make(tiny_run, tmp_path / "many", per_class=CHUNK, without=odd_ones_are_copies, keep=0.3)
    assert images_of(tmp_path / "few").items() < images_of(tmp_path / "many").items()


def test_keep_limits_what_a_block_gives(tiny_run, tmp_path):
    make(tiny_run, tmp_path / "out", per_class=CHUNK // 2, keep=0.25)
    found = json.loads((tmp_path / "out/curation.json").read_text())
    assert {values["candidates"] for values in found["classes"].values()} == {2 * CHUNK}


def test_a_class_that_cannot_be_filled_says_so_and_ends(tiny_run, tmp_path, monkeypatch, caplog):
    def none_of_class_1(evidence, limits, passed, kept):
        return evidence.labels != 1

    monkeypatch.setitem(filters.FILTERS, "wrong-class", none_of_class_1)
    without = tuple(name for name in ALL if name != "wrong-class")
    with caplog.at_level(logging.WARNING, "ganaug"):
        made = make(tiny_run, tmp_path / "out", per_class=40, without=without, max_candidates=3)
    assert made == {"0": 40, "1": 0, "2": 40}
    (said,) = [record.message for record in caplog.records]
    assert "class 1: 0 of 40 images; 128 candidates were made and 0% kept (rejected as wrong-class 100%)" in said
    assert "--no-filter" in said
    assert not any(name.startswith("1/") for name in images_of(tmp_path / "out"))


def test_a_class_of_which_nothing_passes_any_filter_ends(tiny_run, tmp_path, monkeypatch):
    """With all filters on, the one for duplicates too, which then has nothing to compare."""
    monkeypatch.setitem(filters.FILTERS, "wrong-class", lambda evidence, *_: np.zeros(len(evidence.labels), bool))
    made = make(tiny_run, tmp_path / "out", per_class=3, without=(), max_candidates=2)
    assert made == dict.fromkeys(CLASS_NAMES, 0)
    assert not [path for path in (tmp_path / "out").iterdir() if path.is_dir()]  # ImageFolder refuses empty ones


def test_the_surest_are_kept_and_those_that_come_first_where_all_are(tiny_run, tmp_path):
    make(tiny_run, tmp_path / "chosen", per_class=5, keep=0.5)
    make(tiny_run, tmp_path / "all", per_class=5, keep=1.0)
    chosen, every = (read_manifest(tmp_path / name, rejected=True) for name in ("chosen", "all"))
    for name in CLASS_NAMES:
        of_class = every[every["class"] == name]
        in_order = [image_seed(0, CLASS_NAMES.index(name), number) for number in range(5)]
        assert of_class.loc[of_class["kept"], "seed"].tolist() == in_order
        mine = chosen[chosen["class"] == name]
        assert mine.loc[mine["kept"], "class_probability"].min() >= mine["class_probability"].median()


def test_keeping_too_few_is_said(tiny_run, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "ganaug"):
        make(tiny_run, tmp_path / "out", per_class=50, keep=0.02, max_candidates=2)
    assert "curation.keep takes too few" in caplog.text


def test_the_tests_tell_the_nearest_training_image_of_every_candidate(tiny_run, tmp_path):
    make(tiny_run, tmp_path / "out")
    table = read_manifest(tmp_path / "out", rejected=True)
    index = pd.read_csv(tiny_run / "data/index.csv", dtype=str)
    assert set(table["nearest_real"]) <= set(index.loc[index["split"] == "train", "file"])
    assert table["distance"].between(0, 2).all() and table["relative_distance"].between(0, 1.01).all()
    assert table["class_probability"].between(0, 1).all() and (table["strangeness"] > 0).all()


def test_the_judges_are_trained_once_and_kept_in_the_run(tiny_run, tmp_path, monkeypatch):
    make(tiny_run, tmp_path / "first")
    assert (tiny_run / "curation/referees.json").is_file()
    monkeypatch.setattr("ganaug.synthesis.referees.train_judge", None)  # not called again
    make(tiny_run, tmp_path / "second")
    assert files_of(tmp_path / "first") == files_of(tmp_path / "second")


def test_duplicates_of_what_was_kept_long_ago_are_found(tiny_run, tmp_path, monkeypatch):
    one = np.zeros((16, 16), np.float32)
    one[3:7] = 1
    monkeypatch.setattr("ganaug.synthesis.curation.fingerprint", lambda pixels: (one - one.mean()) / one.std() / 16)
    without = tuple(name for name in ALL if name != "duplicate")
    made = make(tiny_run, tmp_path / "out", per_class=3, without=without, max_candidates=2)
    assert made == dict.fromkeys(CLASS_NAMES, 1)


def test_the_page_shows_the_closest_pairs(tiny_run, tmp_path):
    make(tiny_run, tmp_path / "out")
    page = (tmp_path / "out/curation.html").read_text()
    assert page.count("<figure>") == 6 * len(CLASS_NAMES) and "Closest pairs" in page
    assert "15 of 192 images were kept" in page


# again from the manifest


def test_rebuilding_gives_the_same_bytes(tiny_run, tmp_path, odd_ones_are_copies):
    make(tiny_run, tmp_path / "out", per_class=CHUNK + 3, without=odd_ones_are_copies)
    made = rebuild(tiny_run, tmp_path / "out/manifest.csv", tmp_path / "again", device="cpu")
    assert made == dict.fromkeys(CLASS_NAMES, CHUNK + 3)
    for name in ("metadata.jsonl", "dataset.json", "manifest.csv", *images_of(tmp_path / "out")):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name


def test_rebuilding_leaves_real_images_out(tiny_run, digits, tmp_path):
    recipe = {"synthesize": {"per_class": 2}}
    synthesize(tiny_run, tmp_path / "out", recipe=recipe, with_real=digits, device="cpu")
    assert sum(rebuild(tiny_run, tmp_path / "out", tmp_path / "again", device="cpu").values()) == 6
    assert set(read_manifest(tmp_path / "again")["source"]) == {"synthetic"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0/synthetic-000001.png", "../escaped.png", "names the file '../escaped.png'"),
        ("0/synthetic-000001.png", "1/synthetic-000001.png", "expected 0/<file>"),
        ("0/synthetic-000001.png", "0/synthetic-000001.bmp", "expected 0/<file>.png"),
        ("0/synthetic-000001.png", "0/synthetic-000001.webp", "expected 0/<file>.png"),
        ("seed,", "seeds,", "lacks seed"),
        ("checkpoint", "check", "lacks checkpoint"),
    ],
)
def test_manifests_of_others_are_refused(tiny_run, tiny_synthetic, tmp_path, old, new, message):
    changed = (tiny_synthetic / "manifest.csv").read_text().replace(old, new, 1)
    (tmp_path / "manifest.csv").write_text(changed)
    with pytest.raises(GanaugError, match=message):
        rebuild(tiny_run, tmp_path / "manifest.csv", tmp_path / "again", device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.csv"]


def test_another_generators_manifest_is_refused(tiny_run, tiny_synthetic, tmp_path):
    table = pd.read_csv(tiny_synthetic / "manifest.csv", dtype=str, keep_default_na=False)
    table.assign(checkpoint="0123456789abcdef").to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(GanaugError, match="was written by the generator 0123456789abcdef"):
        rebuild(tiny_run, tmp_path / "manifest.csv", tmp_path / "again", device="cpu")


@pytest.mark.parametrize("how", ["raw", "tested", "again", "for training"])
def test_networks_are_loaded_once_for_all_classes(tiny_run, tiny_synthetic, tmp_path, monkeypatch, how):
    loaded = []
    monkeypatch.setattr(harvest, "open_member", lambda *given: loaded.append(given[1]) or open_member(*given))
    if how == "again":
        rebuild(tiny_run, tiny_synthetic, tmp_path / "out", device="cpu")
    elif how == "for training":
        folder, info = open_run(tiny_run)
        tallies, recipe = [Tally(name, 1) for name in CLASS_NAMES], load_recipe(folder.recipe)
        made = harvest_images(folder, info["strategy"], CLASS_NAMES, pytest.fail, tallies, recipe, torch.device("cpu"))
        assert [name for name, _ in made] == list(CLASS_NAMES)
    else:
        recipe = {"synthesize": {"per_class": 1}}
        synthesize(tiny_run, tmp_path / "out", recipe=recipe, raw=how == "raw", device="cpu")
    assert loaded == ["joint"]
