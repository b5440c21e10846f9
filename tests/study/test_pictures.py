"""What a study keeps to show of its images."""

import shutil

import numpy as np
import pytest
import torch
from studies import SET_BY_HAND, write_foreign

from ganaug.data.images import decode
from ganaug.data.manifest import read_manifest
from ganaug.gan.member import build_networks
from ganaug.reporting.files import read_study
from ganaug.reporting.page import report
from ganaug.runs import read_json, write_json
from ganaug.study import pictures
from ganaug.study.case import settle_case
from ganaug.study.pictures import choose_evenly, lay_out, nearest_of_other_kind, walk, write_pictures

OF_IMAGES = {"map.npz", "walks.npz", "pairs.npz", "curation.json"}


def groups(each=15, num_groups=3):
    """Features of groups that lie far from one another, and the group of each."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(num_groups), each)
    return (10 * np.eye(num_groups, 8)[labels] + rng.normal(0, 0.3, (len(labels), 8))).astype(np.float32), labels


def test_what_is_alike_lies_together():
    features, labels = groups()
    places = lay_out(features, 0)
    assert places.shape == (45, 2) and places.min() >= 0 and places.max() <= 1
    assert np.ptp(places, axis=0).max() == pytest.approx(1)  # it fills the map
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + 9 * np.eye(45)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    np.testing.assert_array_equal(places, lay_out(features, 0))


@pytest.mark.parametrize("features", [np.zeros((30, 8)), np.ones((1, 8)), groups(2)[0], groups(20)[0][:, :1]])
def test_few_or_equal_images_have_places_too(features):
    places = lay_out(features.astype(np.float32), 0)
    assert places.shape == (len(features), 2) and np.isfinite(places).all() and 0 <= places.min() <= places.max() <= 1


def test_the_nearest_is_of_the_other_kind():
    features, synthetic = np.array([[0.0], [1.0], [5.0], [1.2]]), np.array([False, False, True, True])
    assert nearest_of_other_kind(features, synthetic).tolist() == [3, 3, 1, 1]
    assert nearest_of_other_kind(features, np.zeros(4, bool)).tolist() == [-1] * 4


def test_large_classes_are_thinned():
    labels = np.repeat([0, 1, 3], [50, 3, 9])
    rows = choose_evenly(labels, 4, 5, seed=0)
    assert np.bincount(labels[rows], minlength=4).tolist() == [5, 3, 0, 5] and len(set(rows.tolist())) == 13


def test_a_walk_keeps_the_length_of_its_ends():
    begin, end = torch.eye(6)[:2], torch.eye(6)[2:4]
    noises = walk(begin, end, 5)
    torch.testing.assert_close(noises[:, 0], begin)
    torch.testing.assert_close(noises[:, -1], end)
    torch.testing.assert_close(noises.norm(dim=2), torch.ones(2, 5))
    torch.testing.assert_close(noises[0, 2], (begin[0] + end[0]) / 2**0.5)


def case_of(run, folder, synthetic):
    case = settle_case(run, folder / "study", synthetic, SET_BY_HAND)
    case.folder.mkdir()
    return case


def test_a_study_shows_the_images_that_it_was_given(tiny_run, tiny_synthetic, tmp_path):
    case = case_of(tiny_run, tmp_path, tiny_synthetic)
    write_pictures(case, tiny_synthetic, case.given)
    assert {path.name for path in case.folder.iterdir()} == OF_IMAGES | {"checkpoints.csv"}
    with np.load(case.folder / "map.npz") as shown:
        assert shown["synthetic"].sum() == 15 and (~shown["synthetic"]).sum() == len(case.images.indices("train"))
        assert set(shown["labels"][shown["nearest"]]) <= {0, 1, 2} and shown["images"].shape[1:] == (16, 16, 1)
    with np.load(case.folder / "walks.npz") as walks:
        assert walks["labels"].tolist() == [0, 1, 2] and walks["images"].shape == (3, 2, pictures.STEPS, 16, 16, 1)
        table = read_manifest(tiny_synthetic)
        of_class = table.loc[table["class"] == "1", "file"].tolist()
        for place, step in ((0, 0), (1, -1)):  # the ends of the first walk are the first two images
            pixels = decode((tiny_synthetic / of_class[place]).read_bytes()).pixels
            assert np.abs(walks["images"][1, 0, step].astype(int) - pixels).max() <= 1
    assert read_json(case.folder / "curation.json") == read_json(tiny_synthetic / "curation.json")


def test_a_whole_study_has_them_and_its_page_shows_them(tiny_study, tmp_path):
    study = read_study(tiny_study)
    assert not study.missing and len(study.pairs) == 12
    text = report(tiny_study, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Duality gap" in text and 'id="walk-step"' in text and 'id="map-plot"' in text
    assert "The GAN made 192 candidates" in text and text.count("beside its nearest training image") == 12


def test_images_of_another_tool_have_a_map_alone(tiny_run, tmp_path):
    foreign = write_foreign(tmp_path / "foreign")
    case = case_of(tiny_run, tmp_path, foreign)
    write_pictures(case, foreign, case.given)
    assert {path.name for path in case.folder.iterdir()} == {"map.npz", "checkpoints.csv"}


def test_without_synthetic_images_there_are_the_checkpoints(tiny_run, tiny_synthetic, tmp_path):
    case = case_of(tiny_run, tmp_path, tiny_synthetic)
    write_pictures(case, None, None)
    assert {path.name for path in case.folder.iterdir()} == {"checkpoints.csv"}


def test_no_picture_stops_a_study(tiny_run, tiny_synthetic, tmp_path, monkeypatch, caplog):
    case = case_of(tiny_run, tmp_path, tiny_synthetic)
    monkeypatch.setattr(pictures, "lay_out", lambda features, seed: 1 / 0)
    write_pictures(case, tiny_synthetic, case.given)
    assert {path.name for path in case.folder.iterdir()} == OF_IMAGES - {"map.npz"} | {"checkpoints.csv"}
    assert "ZeroDivisionError: division by zero" in caplog.text


def test_a_generator_that_mixes_images_has_no_walks(tiny_run, tiny_synthetic, tmp_path, monkeypatch):
    shape = read_json(tiny_run / "members/joint/member.json")["shape"] | {"family": "mixing"}
    monkeypatch.setattr(pictures, "open_member", lambda *_: (*build_networks(shape), ""))
    case = case_of(tiny_run, tmp_path, tiny_synthetic)
    assert pictures.make_walks(case, tiny_synthetic) is None


def test_each_class_walks_with_its_own_gan(tiny_run, tiny_synthetic, tmp_path, monkeypatch):
    opened = []
    open_member = pictures.open_member

    def of_joint(folder, name, device):
        opened.append(name)
        return open_member(folder, "joint", device)

    monkeypatch.setattr(pictures, "open_member", of_joint)
    case = case_of(tiny_run, tmp_path, tiny_synthetic)
    case.info["strategy"] = "per-class"
    assert pictures.make_walks(case, tiny_synthetic).labels.tolist() == [0, 1, 2]
    assert opened == ["class-0", "class-1", "class-2"]


def test_no_verdict_waits_for_a_damaged_picture(tiny_run, tiny_synthetic, tmp_path, caplog):
    copy = shutil.copytree(tiny_run, tmp_path / "run")
    path = copy / "members/joint/member.json"
    write_json(path, {key: value for key, value in read_json(path).items() if key != "checkpoints"})
    case = case_of(copy, tmp_path, tiny_synthetic)
    write_pictures(case, tiny_synthetic, case.given)
    assert "the report will show less of the images" in caplog.text
    assert {path.name for path in case.folder.iterdir()} == OF_IMAGES
