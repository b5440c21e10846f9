"""Test images that belong together, say of one person or one board: their groups are what is independent."""

import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from studies import SET_BY_HAND, pieces_of

from ganaug.runs import read_json
from ganaug.study.arms import BASELINE, MIXED
from ganaug.study.compare import compare
from ganaug.study.statistics import METRICS, paired_differences

NUM_CLASSES = 3


def simulate(rng, sizes, of_groups=0.0, num_seeds=6):
    """(truth, arm, baseline, groups): the arm is better or worse in each whole group, and no better in the mean of all groups."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    truth = rng.integers(NUM_CLASSES, size=len(groups))
    worth = rng.normal(0, of_groups, len(sizes))[groups] if of_groups else np.zeros(len(groups))
    arms = [
        np.where(rng.random((num_seeds, len(groups))) < 0.7 + gain, truth, (truth + 1) % NUM_CLASSES)
        for gain in (np.clip(worth, -0.3, 0.3), 0.0)
    ]
    return truth, *arms, groups


@pytest.mark.parametrize(
    "sizes",
    [[60] * 8, [25] * 20, [200, 40, 40, 40, 40, 40, 40, 40]],
    ids=["eight groups", "twenty groups", "one large group"],
)
def test_intervals_hold_the_truth_though_groups_differ(sizes):
    """One by one, the images seem to know much more than they do."""
    rng = np.random.default_rng(0)
    missed, num_studies = {"grouped": 0, "alone": 0}, 150
    for _ in range(num_studies):
        truth, arm, baseline, groups = simulate(rng, sizes, of_groups=0.1)
        for name, of in (("grouped", groups), ("alone", None)):
            found = paired_differences(truth, arm, baseline, NUM_CLASSES, groups=of)["accuracy"]
            missed[name] += not found.low <= 0 <= found.high
    assert stats.binomtest(missed["grouped"], num_studies, 0.05).pvalue > 0.001
    assert missed["alone"] > 0.2 * num_studies > 2 * missed["grouped"]


def test_groups_of_single_images_change_nothing():
    truth, arm, baseline, _ = simulate(np.random.default_rng(1), [1] * 90)
    usual = paired_differences(truth, arm, baseline, NUM_CLASSES)
    assert (
        paired_differences(truth, arm, baseline, NUM_CLASSES, groups=np.random.default_rng(2).permutation(90)) == usual
    )


def test_a_single_group_says_nothing_of_others():
    truth, arm, baseline, groups = simulate(np.random.default_rng(3), [90])
    usual = paired_differences(truth, arm, baseline, NUM_CLASSES)
    assert paired_differences(truth, arm, baseline, NUM_CLASSES, groups=groups) == usual


def test_groups_only_widen_the_interval():
    for seed in range(20):
        truth, arm, baseline, groups = simulate(np.random.default_rng(seed), [10] * 9)
        usual = paired_differences(truth, arm, baseline, NUM_CLASSES)
        found = paired_differences(truth, arm, baseline, NUM_CLASSES, groups=groups)
        for metric in METRICS:
            assert found[metric].mean == usual[metric].mean
            assert found[metric].high - found[metric].low >= usual[metric].high - usual[metric].low


def test_the_variance_of_even_groups_is_that_of_their_means():
    """Of one class, every repetition alike: Student's t over the groups."""
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(6), 30)
    truth = np.zeros(180, np.int64)
    arm = np.where(rng.random(180) < rng.random(6)[groups], 0, 1)
    baseline = np.ones(180, np.int64)
    found = paired_differences(truth, np.tile(arm, (3, 1)), np.tile(baseline, (3, 1)), 2, groups=groups)["accuracy"]
    means = np.array([(arm == 0)[groups == g].mean() for g in range(6)])
    assert found.of_images == pytest.approx(stats.sem(means) ** 2)
    assert found.image_freedom == pytest.approx(5)


def test_a_class_is_judged_by_the_groups_that_have_it():
    truth, arm, baseline, groups = simulate(np.random.default_rng(5), [30] * 10)
    groups = np.where(truth == 0, groups % 2, groups)  # the images of the first class are of two groups alone
    found = paired_differences(truth, arm, baseline, NUM_CLASSES, groups=groups)
    assert found["recall_0"].image_freedom == pytest.approx(1, abs=0.1) and found["recall_1"].image_freedom > 7


def test_a_study_counts_the_groups_of_its_data(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    index = pd.read_csv(run / "data/index.csv", dtype=str, keep_default_na=False)
    test = index["split"] == "test"
    index.loc[test, "group"] = [f"board {number % 3}" for number in range(test.sum())]
    index.to_csv(run / "data/index.csv", index=False)
    study = compare(run, tmp_path / "study", recipe=SET_BY_HAND)
    notes = read_json(study.folder / "study.json")["notes"]
    said = (
        f"The {test.sum()} test images are of 3 groups, which count as one each: fewer than 10 hardly tell of others."
    )
    assert said in notes
    predictions = [pieces_of(study.folder, arm) for arm in (MIXED, BASELINE)]
    arms = [np.stack([of[seed].argmax(axis=1) for seed in sorted(of)]) for of in predictions]
    groups, truth = np.arange(test.sum()) % 3, index.loc[test, "label"].astype(int).to_numpy()
    expected = paired_differences(truth, *arms, 3, groups=groups)["balanced_accuracy"]
    row = study.differences.query("arm == @MIXED and metric == 'balanced_accuracy'").iloc[0]
    assert (row["low"], row["high"]) == (pytest.approx(expected.low), pytest.approx(expected.high))
