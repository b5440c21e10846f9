"""Folds, limits and the choice that spreads."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hurry import with_other
from hypothesis import given
from hypothesis import strategies as st

from ganaug import GanaugError
from ganaug.gan import judge
from ganaug.sessions import Busy
from ganaug.settings import CurationSettings
from ganaug.synthesis import curation
from ganaug.synthesis import referees as stage
from ganaug.synthesis.curation import RealImages, build_curator, choose_spread, examine_candidates
from ganaug.synthesis.filters import near_enough
from ganaug.synthesis.referees import NUM_FOLDS, assign_folds, load_referees, save_referees, train_referees

CPU = torch.device("cpu")


def bars(per_class, seed=0, size=16):
    """Two classes (n, 1, size, size), labels (n,): a bright bar that stands, or lies, among dark blots."""
    rng = np.random.default_rng(seed)
    blots = rng.integers(0, 130, (2 * per_class, 1, size // 4, size // 4)).astype(np.uint8)
    images = blots.repeat(4, axis=2).repeat(4, axis=3)
    labels = np.arange(2 * per_class) % 2
    for image, label in zip(images, labels, strict=True):
        at, thick = int(rng.integers(2, size - 5)), int(rng.integers(2, 5))
        (image[0, :, at : at + thick] if label else image[0, at : at + thick, :])[...] = rng.integers(180, 255)
    return images, labels


def real_bars(per_class, groups=None):
    images, labels = bars(per_class)
    groups = np.array([str(i) for i in range(len(labels))] if groups is None else groups)
    return RealImages(
        images, labels, groups, tuple(f"{i}.png" for i in range(len(labels))), ("lying", "standing"), "none"
    )


@pytest.fixture(scope="module", autouse=True)
def trained_judges():
    """Elsewhere judges are hardly trained; here it matters what they say."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "train_judge", with_other(judge.train_judge, judge, NUM_UPDATES=100))
        yield


@pytest.fixture(scope="module")
def curator():
    return build_curator(real_bars(20), CurationSettings(), 0, CPU)


@pytest.mark.parametrize("counts", [(10, 10), (50, 7), (5, 1), (1, 1), (30,)])
def test_folds_spread_every_class(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    folds = assign_folds(labels, np.array([str(i) for i in range(len(labels))]), 0)
    assert folds.shape == labels.shape
    for k, count in enumerate(counts):
        shares = np.bincount(folds[labels == k], minlength=int(folds.max()) + 1)
        assert shares.max() - shares.min() <= 1 and shares.sum() == count


def test_groups_are_not_torn_where_there_are_enough():
    labels = np.tile([0, 1], 60)
    groups = np.array([str(i // 6) for i in range(120)])
    folds = assign_folds(labels, groups, 0)
    assert len(set(folds)) == NUM_FOLDS
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    few = np.array([str(i // 60) for i in range(120)])  # two groups alone
    assert len(set(assign_folds(labels, few, 0))) == NUM_FOLDS


def test_no_referee_has_seen_its_fold(monkeypatch):
    real, seen = real_bars(10), []

    def record(images, labels, *_):
        seen.append(images.clone())
        return stage.Judge(2, 16, 1).eval()

    monkeypatch.setattr(stage, "train_judge", record)
    found = train_referees(real.images, real.labels, real.groups, 2, "none", (), 0, CPU, torch.float32)
    assert len(found.judges) == len(seen) == NUM_FOLDS
    for fold, images in enumerate(seen):
        assert np.array_equal(images.numpy(), real.images[found.folds != fold])


def test_a_real_image_is_as_strange_as_it_is_to_those_that_have_not_seen_it(curator):
    """Against distances by hand, in units of the referee's usual one."""
    folds = curator.referees.folds
    opinions = stage.ask(curator.referees, curator.real.images)
    indexes, strangeness, scales = curation._neighbourhoods(curator.referees, opinions)
    for fold, features in enumerate(opinions.features):
        unseen = folds == fold
        assert indexes[fold].n_samples_fit_ == (~unseen).sum() > 0
        distances = np.linalg.norm(features[unseen][:, None] - features[~unseen][None], axis=2).min(axis=1)
        assert scales[fold] == pytest.approx(np.median(distances), rel=1e-4)
        np.testing.assert_allclose(strangeness[unseen], distances / scales[fold], rtol=1e-3)


def test_a_single_referee_measures_against_the_nearest_other(curator):
    alone = replace(curator.referees, judges=curator.referees.judges[:1], folds=np.zeros(40, np.int64))
    opinions = stage.ask(alone, curator.real.images)
    _, strangeness, scales = curation._neighbourhoods(alone, opinions)
    apart = np.linalg.norm(opinions.features[0][:, None] - opinions.features[0][None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert scales[0] == pytest.approx(np.median(apart.min(axis=1)), rel=1e-3)
    np.testing.assert_allclose(strangeness, apart.min(axis=1) / scales[0], rtol=1e-2, atol=1e-3)


def test_referees_are_stored_and_loaded(curator, tmp_path):
    save_referees(tmp_path / "kept", curator.referees)
    again = load_referees(tmp_path / "kept", 40, 2, 16, 1, CPU)
    assert again.folds.tolist() == curator.referees.folds.tolist()
    images = bars(3, seed=5)[0]
    before, after = (stage.ask(found, images) for found in (curator.referees, again))
    np.testing.assert_allclose(after.probabilities, before.probabilities, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"folds": None},
        {"folds": [[0]] * 40},
        {"folds": [0] * 39},
        {"folds": [*[0] * 39, "1"]},
        {"folds": [*[0] * 39, 10**40]},
        {"folds": [*[0] * 39, -1]},
        {"folds": {"0": 1}},
        {"weights": 3},
        {"weights": []},
        {"weights": {}},
    ],
)
def test_damaged_referees_are_named(curator, tmp_path, changes):
    save_referees(tmp_path / "kept", curator.referees)
    path = tmp_path / "kept/referees.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(GanaugError, match=r"kept is damaged\. Delete it: it is made anew"):
        load_referees(tmp_path / "kept", 40, 2, 16, 1, CPU)


def test_referees_that_another_process_is_storing_are_used_unsaved(curator, tmp_path, monkeypatch):
    def held(store, referees):
        raise Busy("another process is at work")

    monkeypatch.setattr(curation, "train_referees", lambda *_: curator.referees)
    monkeypatch.setattr(curation, "save_referees", held)
    assert curation.find_referees(curator.real, 0, CPU, tmp_path) is curator.referees
    save_referees(tmp_path / "kept", curator.referees)
    found = curation.find_referees(curator.real, 0, CPU, tmp_path / "kept")
    assert found is not curator.referees and found.folds.tolist() == curator.referees.folds.tolist()


def test_other_real_images_pass_and_wrong_classes_and_copies_do_not(curator):
    images, labels = bars(40, seed=1)
    sound = examine_candidates(curator, images, labels, None)
    assert (sound.class_probability >= curator.limits.class_probability[labels]).mean() >= 0.9
    assert (sound.strangeness <= curator.limits.strangeness[labels]).mean() >= 0.9
    moved = examine_candidates(curator, images, 1 - labels, None)
    assert (moved.class_probability < curator.limits.class_probability[1 - labels]).mean() >= 0.9
    copied = examine_candidates(curator, curator.real.images, curator.real.labels, None)
    assert copied.nearest.tolist() == list(range(40)) and (copied.relative < 0.01).all()


def test_what_resembles_nothing_real_is_an_outlier(curator):
    boards = np.tile(np.kron([[0, 255], [255, 0]], np.ones((1, 1))), (10, 1, 8, 8)).astype(np.uint8)
    flat = np.full((10, 1, 16, 16), 90, np.uint8)
    for images in (boards, flat):
        evidence = examine_candidates(curator, images, np.zeros(10, int), None)
        assert not near_enough(evidence, curator.limits, np.ones(10, bool), np.empty((0, 16, 16))).any()


def test_a_class_of_few_images_is_not_judged_by_those_that_lack_them():
    images, labels = bars(20)
    kept = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:2]])
    whole = real_bars(20)
    real = RealImages(
        images[kept], labels[kept], whole.groups[kept], tuple(whole.files[i] for i in kept), whole.class_names, "none"
    )
    found = build_curator(real, CurationSettings(), 0, CPU)
    assert found.limits.class_probability[1] == 0 < found.limits.class_probability[0]


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 60))
def test_the_choice_keeps_to_what_passed_and_to_the_number(cells, most):
    passed = [i for i in range(len(cells)) if i % 3]
    shares, taken = np.array([0.4, 0.3, 0.2, 0.1]), np.zeros(4, int)
    chosen = choose_spread(np.array(cells, int), passed, shares, taken, most)
    assert len(chosen) == len(set(chosen)) == min(most, len(passed)) and set(chosen) <= set(passed)
    assert taken.tolist() == [sum(cells[i] == cell for i in chosen) for cell in range(4)]
    again = choose_spread(np.array(cells, int), passed, shares, np.zeros(4, int), most // 2)
    assert chosen[: len(again)] == again  # fewer are the first of more


def test_the_choice_spreads_like_the_real_images():
    cells = np.array([0] * 90 + [1] * 10)
    taken = np.zeros(2, int)
    choose_spread(cells, list(range(100)), np.array([0.5, 0.5]), taken, 20)
    assert taken.tolist() == [10, 10]
    choose_spread(cells, list(range(100)), np.array([0.5, 0.5]), taken, 30)  # the second cell has no more than it has
    assert taken.sum() == 50 and taken[1] == 20
