"""Scores against scikit-learn, and intervals against simulations whose truth is known."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from ganaug.study import statistics
from ganaug.study.statistics import confusion_matrices, least_image_variance, paired_differences, recalls, score


@st.composite
def predictions(draw):
    """(truth, predicted, K) where every class has a test image."""
    num_classes = draw(st.integers(2, 5))
    rest = draw(st.lists(st.integers(0, num_classes - 1), max_size=20))
    truth = np.array([*range(num_classes), *rest])
    predicted = draw(st.lists(st.integers(0, num_classes - 1), min_size=len(truth), max_size=len(truth)))
    return truth, np.array(predicted), num_classes


@given(predictions())
def test_scores_against_scikit_learn(case):
    truth, predicted, num_classes = case
    confusion = confusion_matrices(truth, predicted[None], num_classes)
    labels = list(range(num_classes))
    np.testing.assert_array_equal(confusion[0], metrics.confusion_matrix(truth, predicted, labels=labels))
    found = score(confusion)
    assert found["accuracy"][0] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert found["balanced_accuracy"][0] == pytest.approx(metrics.balanced_accuracy_score(truth, predicted))
    f1 = metrics.f1_score(truth, predicted, labels=labels, average="macro", zero_division=0)
    assert found["macro_f1"][0] == pytest.approx(f1)
    each = metrics.recall_score(truth, predicted, labels=labels, average=None)
    np.testing.assert_allclose(recalls(confusion)[0], each)


@given(predictions(), st.data())
def test_weights_count_images_so_often(case, data):
    truth, predicted, num_classes = case
    times = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(truth), max_size=len(truth))))
    weighted = confusion_matrices(truth, predicted[None], num_classes, times.astype(float))
    repeated = confusion_matrices(np.repeat(truth, times), np.repeat(predicted, times)[None], num_classes)
    np.testing.assert_array_equal(weighted, repeated)


def test_a_class_without_test_images_counts_in_no_mean():
    confusion = confusion_matrices(np.array([0, 0, 1, 1]), np.array([[0, 1, 1, 1]]), 3)
    found = score(confusion)
    assert found["balanced_accuracy"][0] == pytest.approx(0.75)
    assert found["macro_f1"][0] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert recalls(confusion)[0, :2].tolist() == [0.5, 1.0] and np.isnan(recalls(confusion)[0, 2])


def test_several_seeds_at_once():
    truth = np.array([0, 1, 1, 2])
    both = np.array([[0, 1, 1, 2], [0, 0, 0, 0]])
    together = confusion_matrices(truth, both, 3)
    for row, predicted in enumerate(both):
        np.testing.assert_array_equal(together[row], confusion_matrices(truth, predicted[None], 3)[0])
    assert score(together)["accuracy"].tolist() == [1.0, 0.25]


def simulate(rng, shift=0.0, num_seeds=6, num_images=120, num_classes=3, of_seeds=0.4):
    """Truth and predictions of two arms. An image's difficulty is shared by the arms, each seed has its own luck, and the
    arm's logits of being right lie `shift` above the baseline's."""
    truth = np.arange(num_images) % num_classes
    difficulty = rng.normal(0.8, 1.2, num_images)
    arms = []
    for offset in (shift, 0.0):
        luck = rng.normal(0, of_seeds, (num_seeds, 1))
        right = rng.random((num_seeds, num_images)) < 1 / (1 + np.exp(-(difficulty + offset + luck)))
        wrong = (truth + rng.integers(1, num_classes, (num_seeds, num_images))) % num_classes
        arms.append(np.where(right, truth, wrong))
    return truth, *arms


@pytest.fixture
def few_resamples(monkeypatch):
    monkeypatch.setattr(statistics, "NUM_RESAMPLES", 150)


def test_intervals_hold_the_truth_as_often_as_they_say(few_resamples):
    """Two arms of equal worth: the truth is 0. 95 % of the intervals should hold it, and not each by being endless."""
    rng = np.random.default_rng(0)
    found = [paired_differences(*simulate(rng), 3)["balanced_accuracy"] for _ in range(80)]
    held = np.mean([d.low <= 0 <= d.high for d in found])
    widths = np.array([d.high - d.low for d in found])
    assert held >= 0.9  # 0.95 less three standard errors of 80 draws is .88; the intervals err on the wide side
    assert 0.02 < np.median(widths) < 0.3


def test_intervals_find_a_large_effect(few_resamples):
    rng = np.random.default_rng(1)
    found = [paired_differences(*simulate(rng, shift=1.5), 3)["accuracy"] for _ in range(20)]
    assert np.mean([d.low > 0 for d in found]) >= 0.9
    reverse = [paired_differences(*simulate(rng, shift=-1.5), 3)["accuracy"] for _ in range(20)]
    assert np.mean([d.high < 0 for d in reverse]) >= 0.9


def test_more_seeds_and_more_images_narrow_the_interval(few_resamples):
    rng = np.random.default_rng(2)

    def width(**options):
        found = [paired_differences(*simulate(rng, **options), 3)["accuracy"] for _ in range(12)]
        return np.median([d.high - d.low for d in found])

    usual = width()
    assert width(num_seeds=24) < usual < width(num_seeds=2)
    assert width(num_images=480, of_seeds=0.0) < width(num_images=60, of_seeds=0.0)


def test_differences_are_those_of_the_scores():
    truth, arm, baseline = simulate(np.random.default_rng(3))
    found = paired_differences(truth, arm, baseline, 3)
    scores = [score(confusion_matrices(truth, each, 3)) for each in (arm, baseline)]
    assert set(found) == set(statistics.METRICS)
    for metric, difference in found.items():
        np.testing.assert_allclose(difference.values, scores[0][metric] - scores[1][metric])
        assert difference.mean == pytest.approx(np.mean(difference.values))
        assert difference.low < difference.mean < difference.high
        assert difference.mean - difference.low == pytest.approx(difference.high - difference.mean)


def test_swapping_the_arms_turns_the_interval_round():
    truth, arm, baseline = simulate(np.random.default_rng(4), shift=0.5)
    there, back = paired_differences(truth, arm, baseline, 3), paired_differences(truth, baseline, arm, 3)
    for metric in statistics.METRICS:
        assert back[metric].mean == pytest.approx(-there[metric].mean)
        assert back[metric].low == pytest.approx(-there[metric].high)


def test_the_interval_is_repeatable():
    case = simulate(np.random.default_rng(5))
    assert paired_differences(*case, 3) == paired_differences(*case, 3)


def test_the_interval_of_seeds_alone_is_students(few_resamples):
    """Every one of many images of a class is predicted alike, so their draw adds next to nothing: Student's t over the pairs."""
    truth = np.repeat([0, 1], 1000)
    zeros, ones, wrong = np.zeros_like(truth), np.ones_like(truth), 1 - truth
    arm = np.stack([truth, zeros, truth, ones])
    baseline = np.stack([zeros, zeros, wrong, ones])
    found = paired_differences(truth, arm, baseline, 2)["balanced_accuracy"]
    assert found.values == [0.5, 0, 1, 0]
    low, high = stats.t.interval(0.95, 3, loc=0.375, scale=stats.sem(found.values))
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-3), pytest.approx(high, rel=1e-3))


def test_the_interval_of_images_alone_is_that_of_a_stratified_sample():
    """Every seed predicts alike, so only the draw of the images is left. Var of the mean recall difference: sum var_k / (n_k K^2)."""
    rng = np.random.default_rng(6)
    truth = np.repeat([0, 1], [200, 50])
    arm, baseline = (np.where(rng.random(250) < share, truth, 1 - truth) for share in (0.8, 0.7))
    found = paired_differences(truth, np.tile(arm, (4, 1)), np.tile(baseline, (4, 1)), 2)["balanced_accuracy"]
    gain = (arm == truth).astype(float) - (baseline == truth)
    variance = sum(gain[truth == k].var() / (truth == k).sum() / 4 for k in (0, 1))
    assert found.values == pytest.approx([found.mean] * 4)
    assert found.high - found.low == pytest.approx(2 * 1.97 * variance**0.5, rel=0.1)  # 1000 resamples: 2 % of chance


def test_images_that_all_agree_do_not_prove_much():
    """Without any variance the rule of succession is left: of 3 classes of 4 images each, sum 1 / (4 * 6) / 3^2."""
    truth = np.arange(12) % 3
    same = np.stack([truth, truth])
    half = stats.t.ppf(0.975, 11) * (3 / 24 / 9) ** 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for arm, mean in ((same, 1), ((same + 1) % 3, 0)):
            found = paired_differences(truth, arm, (same + 1) % 3, 3)["balanced_accuracy"]
            assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - half, mean + half))


def test_the_least_variance_falls_with_the_images_and_leaves_out_empty_classes():
    assert least_image_variance(np.array([4, 0, 4]), by_class=True) == pytest.approx(2 / 24 / 4)
    limits = [least_image_variance(np.array([n, n]), by_class=True) for n in (1, 10, 100, 1000)]
    assert limits == sorted(limits, reverse=True) and limits[-1] < 1e-6


def test_a_tiny_class_widens_the_mean_over_classes_not_the_accuracy():
    counts = np.array([1000, 5])
    assert least_image_variance(counts, by_class=False) == pytest.approx((1000 / 1002 + 5 / 7) / 1005**2)
    assert least_image_variance(counts, by_class=True) > 1000 * least_image_variance(counts, by_class=False)


def test_one_test_image_and_two_seeds():
    found = paired_differences(np.array([1]), np.array([[1], [0]]), np.array([[0], [0]]), 2)["accuracy"]
    assert found.mean == 0.5 and np.isfinite([found.low, found.high]).all() and found.low < 0 < found.high
