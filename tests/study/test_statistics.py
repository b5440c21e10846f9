"""Scores against scikit-learn, tests against SciPy and hand computations, intervals against simulations whose truth is known."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from ganaug.study import statistics
from ganaug.study.analysis import difference_rows
from ganaug.study.statistics import (
    METRICS,
    Difference,
    McNemar,
    class_metric,
    confusion_matrices,
    holm,
    least_image_variance,
    mcnemar,
    needed_images,
    needed_repetitions,
    paired_differences,
    recalls,
    resampled_differences,
    score,
    single_differences,
    variance_components,
)
from ganaug.study.verdict import judge


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


def test_a_class_without_test_images_counts_in_no_mean():
    confusion = confusion_matrices(np.array([0, 0, 1, 1]), np.array([[0, 1, 1, 1]]), 3)
    found = score(confusion)
    assert found["balanced_accuracy"][0] == pytest.approx(0.75)
    assert found["macro_f1"][0] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert recalls(confusion)[0, :2].tolist() == [0.5, 1.0] and np.isnan(recalls(confusion)[0, 2])


def test_several_repetitions_at_once():
    truth = np.array([0, 1, 1, 2])
    both = np.array([[0, 1, 1, 2], [0, 0, 0, 0]])
    together = confusion_matrices(truth, both, 3)
    for row, predicted in enumerate(both):
        np.testing.assert_array_equal(together[row], confusion_matrices(truth, predicted[None], 3)[0])
    assert score(together)["accuracy"].tolist() == [1.0, 0.25]


def simulate(rng, shift=0.0, num_seeds=6, num_images=120, num_classes=3, of_seeds=0.4, of_images=0.0):
    """Truth and predictions of two arms. An image's difficulty is shared by the arms but for `of_images`, each seed has its own
    luck, and the arm's logits of being right lie `shift` above the baseline's."""
    truth = np.arange(num_images) % num_classes
    difficulty = rng.normal(0.8, 1.2, num_images)
    arms = []
    for offset in (shift, 0.0):
        luck = rng.normal(0, of_seeds, (num_seeds, 1)) + rng.normal(0, of_images, num_images)
        right = rng.random((num_seeds, num_images)) < 1 / (1 + np.exp(-(difficulty + offset + luck)))
        wrong = (truth + rng.integers(1, num_classes, (num_seeds, num_images))) % num_classes
        arms.append(np.where(right, truth, wrong))
    return truth, *arms


@pytest.mark.parametrize(
    ("of_seeds", "of_images"), [(0.4, 0.0), (0.0, 0.8), (0.4, 0.8)], ids=["seeds differ", "images differ", "both"]
)
def test_intervals_of_equal_arms_exclude_zero_as_rarely_as_they_say(of_seeds, of_images):
    """Two arms that could be exchanged, so that the truth is 0: one study in twenty may say otherwise."""
    rng, count = np.random.default_rng(0), 200
    cases = (simulate(rng, of_seeds=of_seeds, of_images=of_images, num_images=90) for _ in range(count))
    found = [paired_differences(*case, 3)["balanced_accuracy"] for case in cases]
    excluding = sum(not d.low <= 0 <= d.high for d in found)
    assert stats.binomtest(excluding, count, 0.05).pvalue > 0.001
    significant = sum(d.p_value < 0.05 for d in found)
    assert significant == excluding
    assert 0.02 < np.median([d.high - d.low for d in found]) < 0.3


def test_intervals_of_gans_that_differ_are_honest_only_in_groups():
    """Three GANs of uneven worth, two seeds each: as six independent repetitions they would seem surer than they are."""
    rng, gans = np.random.default_rng(0), np.array([0, 1, 2, 0, 1, 2])
    excluding = {"grouped": 0, "alone": 0}
    for _ in range(120):
        truth = np.arange(90) % 3
        worth = rng.normal(0, 0.8, 3)[gans][:, None] + rng.normal(0, 0.1, (6, 1))
        arms = [
            np.where(rng.random((6, 90)) < 1 / (1 + np.exp(-(0.8 + luck))), truth, (truth + 1) % 3)
            for luck in (worth, 0.0)
        ]
        for name, groups in (("grouped", gans), ("alone", None)):
            found = paired_differences(truth, *arms, 3, groups)["accuracy"]
            excluding[name] += not found.low <= 0 <= found.high
    assert stats.binomtest(excluding["grouped"], 120, 0.05).pvalue > 0.001
    assert (
        excluding["alone"] > 2 * excluding["grouped"] and stats.binomtest(excluding["alone"], 120, 0.05).pvalue < 0.01
    )


def test_intervals_find_a_large_effect():
    rng = np.random.default_rng(1)
    found = [paired_differences(*simulate(rng, shift=1.5), 3)["accuracy"] for _ in range(20)]
    assert np.mean([d.low > 0 for d in found]) >= 0.9
    reverse = [paired_differences(*simulate(rng, shift=-1.5), 3)["accuracy"] for _ in range(20)]
    assert np.mean([d.high < 0 for d in reverse]) >= 0.9


def test_more_repetitions_and_more_images_narrow_the_interval():
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
    matrices = [confusion_matrices(truth, each, 3) for each in (arm, baseline)]
    scores = [score(each) | {class_metric(k): recalls(each)[:, k] for k in range(3)} for each in matrices]
    assert set(found) == {*METRICS, "recall_0", "recall_1", "recall_2"}
    single = single_differences(truth, arm, baseline, 3)
    for metric, difference in found.items():
        np.testing.assert_allclose(difference.values, scores[0][metric] - scores[1][metric], atol=1e-12)
        np.testing.assert_allclose(single[metric], difference.values, atol=1e-12)
        assert difference.mean == pytest.approx(np.mean(difference.values))
        assert difference.low < difference.mean < difference.high
        assert difference.mean - difference.low == pytest.approx(difference.high - difference.mean)
        assert difference.num_units == 6


@given(st.integers(0, 10_000))
@hypothesis_settings(max_examples=25)
def test_p_value_and_interval_say_the_same(seed):
    rng = np.random.default_rng(seed)
    case = simulate(rng, shift=rng.normal(0, 0.6), num_images=30, num_seeds=3)
    for difference in paired_differences(*case, 3).values():
        assert (difference.p_value < 0.05) == (not difference.low <= 0 <= difference.high)
        assert 0 <= difference.p_value <= 1


def test_a_class_without_test_images_has_no_recall_and_counts_in_no_mean():
    truth = np.array([0, 0, 2, 2])
    arm, baseline = np.array([[0, 0, 2, 1], [0, 1, 2, 2]]), np.array([[0, 1, 1, 1], [0, 1, 2, 2]])
    found = paired_differences(truth, arm, baseline, 3)
    assert set(found) == {*METRICS, "recall_0", "recall_2"}
    assert found["balanced_accuracy"].values == pytest.approx([0.5, 0])
    assert found["recall_0"].values == pytest.approx([0.5, 0]) and found["recall_2"].values == pytest.approx([0.5, 0])


def test_swapping_the_arms_turns_the_interval_round():
    truth, arm, baseline = simulate(np.random.default_rng(4), shift=0.5)
    there, back = paired_differences(truth, arm, baseline, 3), paired_differences(truth, baseline, arm, 3)
    for metric in there:
        assert back[metric].mean == pytest.approx(-there[metric].mean)
        assert back[metric].low == pytest.approx(-there[metric].high)
        assert back[metric].p_value == pytest.approx(there[metric].p_value)


def test_the_interval_is_repeatable():
    case = simulate(np.random.default_rng(5), of_images=1.0)
    found = paired_differences(*case, 3)
    assert found == paired_differences(*case, 3)
    order = np.random.default_rng(0).permutation(len(case[0]))  # of the images, which says nothing
    for metric, other in paired_differences(case[0][order], case[1][:, order], case[2][:, order], 3).items():
        assert (other.low, other.high) == pytest.approx((found[metric].low, found[metric].high))


def test_the_interval_of_seeds_alone_is_students():
    """Every one of many images of a class is predicted alike, so their draw adds next to nothing: Student's t over the pairs."""
    truth = np.repeat([0, 1], 1000)
    zeros, ones, wrong = np.zeros_like(truth), np.ones_like(truth), 1 - truth
    arm = np.stack([truth, zeros, truth, ones])
    baseline = np.stack([zeros, zeros, wrong, ones])
    found = paired_differences(truth, arm, baseline, 2)["balanced_accuracy"]
    assert found.values == [0.5, 0, 1, 0]
    low, high = stats.t.interval(0.95, 3, loc=0.375, scale=stats.sem(found.values))
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-3), pytest.approx(high, rel=1e-3))
    assert found.p_value == pytest.approx(stats.ttest_1samp(found.values, 0).pvalue, rel=1e-3)
    assert found.of_repetitions == pytest.approx(stats.sem(found.values) ** 2)


def test_repetitions_of_one_group_count_as_their_mean():
    truth = np.repeat([0, 1], 1000)
    zeros, ones, wrong = np.zeros_like(truth), np.ones_like(truth), 1 - truth
    arm, baseline = np.stack([truth, zeros, truth, ones]), np.stack([zeros, zeros, wrong, ones])
    found = paired_differences(truth, arm, baseline, 2, groups=[7, 3, 7, 3])["balanced_accuracy"]
    assert found.values == [0.5, 0, 1, 0] and found.num_units == 2
    low, high = stats.t.interval(0.95, 1, loc=0.375, scale=stats.sem([0.75, 0.0]))
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-2), pytest.approx(high, rel=1e-2))


def test_groups_of_uneven_size_count_alike():
    truth, arm, baseline = simulate(np.random.default_rng(7), num_seeds=3)
    found = paired_differences(truth, arm, baseline, 3, groups=[0, 0, 1])["accuracy"]
    assert found.mean == pytest.approx(((found.values[0] + found.values[1]) / 2 + found.values[2]) / 2)


def test_groups_of_one_are_no_groups():
    case = simulate(np.random.default_rng(8))
    assert paired_differences(*case, 3, groups=[5, 4, 3, 2, 1, 0])["accuracy"].low == pytest.approx(
        paired_differences(*case, 3)["accuracy"].low
    )


def test_the_interval_of_images_alone_is_that_of_a_stratified_sample():
    """Every seed predicts alike, so only the draw of the images is left. Var of the mean recall difference: sum var_k / (n_k K^2)."""
    rng = np.random.default_rng(6)
    truth = np.repeat([0, 1], [200, 50])
    arm, baseline = (np.where(rng.random(250) < share, truth, 1 - truth) for share in (0.8, 0.7))
    found = paired_differences(truth, np.tile(arm, (4, 1)), np.tile(baseline, (4, 1)), 2)["balanced_accuracy"]
    gain = (arm == truth).astype(float) - (baseline == truth)
    each = [gain[truth == k].var(ddof=1) / (truth == k).sum() / 4 for k in (0, 1)]
    freedom = sum(each) ** 2 / (each[0] ** 2 / 199 + each[1] ** 2 / 49)  # Welch's and Satterthwaite's
    assert found.values == pytest.approx([found.mean] * 4)
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, freedom) * sum(each) ** 0.5)
    assert found.of_images == pytest.approx(sum(each)) and found.of_repetitions == pytest.approx(0, abs=1e-20)
    assert found.image_freedom == pytest.approx(freedom) and 49 < freedom < 248


def test_the_interval_of_one_classs_images_is_students():
    """Every seed predicts alike, so that a class's recall differs by the mean of its images' differences."""
    rng = np.random.default_rng(10)
    truth = np.repeat([0, 1], [30, 12])
    arm, baseline = (np.where(rng.random(42) < share, truth, 1 - truth) for share in (0.8, 0.5))
    gain = ((arm == truth).astype(float) - (baseline == truth))[truth == 1]
    found = paired_differences(truth, np.tile(arm, (4, 1)), np.tile(baseline, (4, 1)), 2)["recall_1"]
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 11, gain.mean(), stats.sem(gain)))
    assert found.p_value == pytest.approx(stats.ttest_1samp(gain, 0).pvalue) and found.image_freedom == 11


def test_the_variance_of_a_crossed_design_is_counted_once():
    """The accuracy by hand: repetitions, and of each class images less what they have in common with repetitions."""
    truth, arm, baseline = simulate(np.random.default_rng(9), num_seeds=5, num_images=40, num_classes=2, of_images=1.0)
    found = paired_differences(truth, arm, baseline, 2)["accuracy"]
    gain = (arm == truth).astype(float) - (baseline == truth)  # (R, N)

    def of_images(values):
        each = [values[..., truth == k].var(axis=-1, ddof=1) * (truth == k).sum() for k in (0, 1)]
        return np.stack(each) / 40**2  # (2, ...)

    whole = of_images(gain.mean(axis=0))
    common = (of_images(gain).mean(axis=1) - whole) / 4
    parts = whole - common
    expected = parts.sum()
    of_seeds = gain.mean(axis=1).var(ddof=1) / 5
    assert found.of_repetitions == pytest.approx(of_seeds)
    assert found.of_images == pytest.approx(expected) and (common > 0.1 * parts).all() and (parts > 0).all()
    freedom = (of_seeds + expected) ** 2 / (of_seeds**2 / 4 + (parts**2).sum() / 19)  # twenty images of each class
    half = stats.t.ppf(0.975, freedom) * (of_seeds + expected) ** 0.5
    assert found.high - found.mean == pytest.approx(half)


def test_of_few_repetitions_nothing_is_subtracted():
    """Of three, by hand: the images' whole variance, and two degrees of freedom."""
    truth, arm, baseline = simulate(np.random.default_rng(9), num_seeds=3, num_images=40, num_classes=2, of_images=1.0)
    found = paired_differences(truth, arm, baseline, 2)["accuracy"]
    gain = (arm == truth).astype(float) - (baseline == truth)
    of_images = sum(gain.mean(axis=0)[truth == k].var(ddof=1) * 20 for k in (0, 1)) / 40**2
    of_seeds = gain.mean(axis=1).var(ddof=1) / 3
    assert (found.of_repetitions, found.of_images) == (pytest.approx(of_seeds), pytest.approx(of_images))
    half = stats.t.ppf(0.975, statistics.LEAST_UNITS - 2) * (of_seeds + of_images) ** 0.5
    assert found.high - found.mean == pytest.approx(half)


def test_the_variance_of_the_images_is_that_of_real_resamples():
    """A bootstrap of the images within each class, with the n / (n - 1) that it lacks: exact but for F1, which is no mean."""
    rng, sizes, number = np.random.default_rng(11), np.array([150, 90, 40]), 3000
    truth = np.repeat([0, 1, 2], sizes)
    shares = (np.array([0.9, 0.8, 0.6]), np.array([0.8, 0.7, 0.6]))
    arms = [
        np.where(rng.random((3, 280)) < share[truth], truth, (truth + rng.integers(1, 3, (3, 280))) % 3)
        for share in shares
    ]
    drawn = [np.flatnonzero(truth == k)[rng.integers(0, n, (number, n))] for k, n in enumerate(sizes)]
    found = {metric: np.empty(number) for metric in (*METRICS, "recall_2")}
    for resample, rows in enumerate(zip(*drawn, strict=True)):
        chosen = np.concatenate(rows)
        one = single_differences(truth[chosen], arms[0][:, chosen], arms[1][:, chosen], 3)
        for metric, values in found.items():
            values[resample] = one[metric].mean()  # over the repetitions, which are those of the study
    influences = [statistics._influences(truth, predictions, 3) for predictions in arms]
    differences = paired_differences(truth, *arms, 3)  # of so few repetitions that nothing is subtracted
    for metric, values in found.items():
        each = influences[0][metric] - influences[1][metric]
        parts, freedoms = statistics._image_variances(each, truth, sizes, metric)
        mine = sizes if metric != "recall_2" else sizes[2:]
        assert differences[metric].of_images == pytest.approx(parts.sum())
        np.testing.assert_array_equal(freedoms, mine - 1)
        expected = (parts * (mine - 1) / mine).sum()
        chance = 4 * (2 / number) ** 0.5  # four standard errors of a variance of normal values
        assert values.var(ddof=1) == pytest.approx(expected, rel=0.12 if metric == "macro_f1" else chance), metric


@given(predictions(), st.integers(0, 1000))
@hypothesis_settings(max_examples=50)
def test_influences_are_derivatives(case, seed):
    """By the weight of an image, but for what is the same for its whole class, against scikit-learn's weighted scores."""
    truth, predicted, num_classes = case
    labels, step = list(range(num_classes)), 1e-5
    image = int(np.random.default_rng(seed).integers(len(truth)))
    mine = np.flatnonzero(truth == truth[image])
    found = statistics._influences(truth, predicted[None], num_classes)

    def moved(score_of, towards):
        weights = np.ones(len(truth))
        weights[mine] -= towards * step / len(mine)  # the class stays as large, as where images are drawn within it
        weights[image] += towards * step
        return score_of(weights)

    def macro_f1(weights):
        return metrics.f1_score(
            truth, predicted, labels=labels, average="macro", zero_division=0, sample_weight=weights
        )

    def accuracy(weights):
        return metrics.accuracy_score(truth, predicted, sample_weight=weights)

    def recall(weights):
        each = metrics.recall_score(truth, predicted, labels=labels, average=None, sample_weight=weights)
        return each[truth[image]]

    own = class_metric(int(truth[image]))
    for metric, score_of in (("macro_f1", macro_f1), ("accuracy", accuracy), (own, recall)):
        slope = (moved(score_of, 1) - moved(score_of, -1)) / (2 * step)
        influence = found[metric][0]
        assert slope == pytest.approx(influence[image] - influence[mine].mean(), abs=1e-5), metric


def test_class_metrics_are_told_from_others():
    assert [statistics.class_of(class_metric(k)) for k in (0, 7, 12)] == [0, 7, 12]
    assert all(statistics.class_of(metric) is None for metric in METRICS)


def studies_of_shared_images(sizes, count, rng):
    """Studies of equal arms where each image suits one of them, in all six repetitions alike, so that the images are what counts."""
    truth = np.repeat(np.arange(len(sizes)), sizes)
    for _ in range(count):
        hardness, advantage = rng.normal(0.8, 1, len(truth)), rng.normal(0, 4, len(truth))
        arms = []
        for sign in (0.5, -0.5):
            logits = hardness + sign * advantage + rng.normal(0, 0.1, (6, 1))
            wrong = (truth + rng.integers(1, len(sizes), (6, len(truth)))) % len(sizes)
            arms.append(np.where(rng.random((6, len(truth))) < 1 / (1 + np.exp(-logits)), truth, wrong))
        yield truth, *arms


@pytest.mark.parametrize(
    "sizes", [(2, 60, 60), (5, 60, 60), (20,) * 10], ids=["a class of two", "a class of few", "ten of twenty"]
)
def test_intervals_hold_the_truth_though_a_class_has_few_test_images(sizes):
    """Of five images 91 % of the intervals hold it (1,000 studies): Student's t for what can only be -1, 0 or 1."""
    count, asked = 300, ("balanced_accuracy", "recall_0", "macro_f1", "accuracy")
    held = dict.fromkeys(asked, 0)
    for case in studies_of_shared_images(sizes, count, np.random.default_rng(0)):
        found = paired_differences(*case, len(sizes))
        for metric in asked:
            held[metric] += found[metric].low <= 0 <= found[metric].high
    assert all(number >= 0.9 * count for number in held.values()), held


def test_a_class_of_one_test_image_gives_finite_intervals():
    """What its image adds is as uncertain as that of the other classes' images is: to the accuracy next to nothing."""
    cases = zip(
        *(studies_of_shared_images(s, 20, np.random.default_rng(1)) for s in ((1, 60, 60), (60, 60))), strict=True
    )
    for small, without in cases:
        found, usual = paired_differences(*small, 3), paired_differences(*without, 2)
        assert set(found) == {*METRICS, *map(class_metric, range(3))}
        for difference in found.values():
            assert np.isfinite([difference.low, difference.high, difference.p_value]).all()
            assert difference.low < difference.mean < difference.high and difference.of_images > 0
        assert found["balanced_accuracy"].of_images > 5 * usual["balanced_accuracy"].of_images
        assert found["accuracy"].of_images < 2 * usual["accuracy"].of_images
        assert found["recall_0"].of_images >= least_image_variance(np.array([1, 60, 60]), "recall_0") == 1 / 3


def test_the_image_of_a_class_of_one_has_the_variance_of_the_others():
    """By hand: recalls that differ by 0 or 1 on the images of two classes of four and six."""
    truth = np.repeat([0, 1, 2], [4, 6, 1])
    right = np.array([1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1], bool)
    arm, baseline = np.tile(np.where(right, truth, (truth + 1) % 3), (2, 1)), np.tile((truth + 1) % 3, (2, 1))
    found = paired_differences(truth, arm, baseline, 3)
    pooled = (4 * 0.25 * 0.75 + 6 * 0.25) / (3 + 5)
    recall = (0.25 * 0.75 / 3 + 0.25 / 5 + pooled) / 3**2
    assert found["balanced_accuracy"].of_images == pytest.approx(recall)
    accuracy = (4 * (4 / 3) * 0.25 * 0.75 + 6 * (6 / 5) * 0.25 + pooled) / 11**2
    assert found["accuracy"].of_images == pytest.approx(accuracy)


def test_images_that_all_agree_do_not_prove_much():
    """Without any variance the rule of succession is left: of 12 images in 3 classes, each weighs 1 / 12 and differs with a
    probability of 1 / 14."""
    truth = np.arange(12) % 3
    same = np.stack([truth] * 4)
    half = stats.t.ppf(0.975, 9) * (12 / 12**2 / 14) ** 0.5  # three of each class
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for arm, mean in ((same, 1), ((same + 1) % 3, 0)):
            found = paired_differences(truth, arm, (same + 1) % 3, 3)["balanced_accuracy"]
            assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - half, mean + half))
            assert judge(found.low, found.high, 0.01) == ("helps" if mean else "inconclusive")


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1"])
def test_the_least_variance_falls_with_the_images_and_leaves_out_empty_classes(metric):
    assert least_image_variance(np.array([4, 0, 4]), metric) == pytest.approx(8 * (1 / 8) ** 2 / 10)
    limits = [least_image_variance(np.array([n, n]), metric) for n in (1, 10, 100, 1000)]
    assert limits == sorted(limits, reverse=True) and limits[-1] < 1e-6


def test_the_least_variance_of_one_class_is_its_own():
    counts = np.array([1000, 5, 0])
    assert least_image_variance(counts, "recall_1") == pytest.approx(1 / 5 / 7)
    assert least_image_variance(counts, "recall_0") == pytest.approx(1 / 1000 / 1002)


def test_a_tiny_class_widens_the_mean_over_classes_not_the_accuracy():
    counts = np.array([1000, 5])
    assert least_image_variance(counts, "accuracy") == pytest.approx(1 / 1005 / 1007)
    assert least_image_variance(counts, "balanced_accuracy") == pytest.approx((1000 / 2000**2 + 5 / 10**2) / 1007)
    assert least_image_variance(np.array([30, 30]), "accuracy") == pytest.approx(
        least_image_variance(np.array([30, 30]), "balanced_accuracy")
    )


@given(st.lists(st.integers(0, 50), min_size=2, max_size=6).filter(any))
def test_the_least_variance_is_that_of_differences_of_such_a_probability(counts):
    """Against the sum over images of weight^2 p, with the weight that an image has in the metric and p = 1 / (n + 2)."""
    counts = np.array(counts)
    labels = np.repeat(np.arange(len(counts)), counts)
    weight = 1 / (np.count_nonzero(counts) * counts[labels])
    for metric, each in (("accuracy", np.full(len(labels), 1 / len(labels))), ("balanced_accuracy", weight)):
        assert least_image_variance(counts, metric) == pytest.approx((each**2).sum() / (len(labels) + 2))


def test_one_test_image_and_two_repetitions():
    found = paired_differences(np.array([1]), np.array([[1], [0]]), np.array([[0], [0]]), 2)["accuracy"]
    assert found.mean == 0.5 and np.isfinite([found.low, found.high]).all() and found.low < 0 < found.high


MANY = np.array([10**6, 10**6])  # test images of each class, so that their draw adds nothing


def test_splits_that_agree_do_not_prove_that_all_do():
    splits = [{"accuracy": np.zeros(4)}] * 5
    few, more = (resampled_differences(splits, 0.25, np.array([n, n]))["accuracy"] for n in (10, 1000))
    variance = 1 / 20 / 22 * (1 / 5 + 0.25)  # one of twenty-two images, and the correction
    assert few.high == pytest.approx(stats.t.ppf(0.975, 4) * variance**0.5) and few.p_value == 1
    assert 0 < more.high < few.high


def test_the_corrected_interval_by_hand():
    """Splits with means .04, .02 and .06: variance .0004, times (1/3 + 1/4) of Nadeau and Bengio, two degrees of freedom."""
    splits = [np.array(values) for values in ([0.03, 0.05], [0.02, 0.02], [0.04, 0.08])]
    found = resampled_differences([{"accuracy": values} for values in splits], 0.25, MANY)["accuracy"]
    error = (0.0004 * (1 / 3 + 0.25)) ** 0.5
    assert found.mean == pytest.approx(0.04)
    assert found.high - found.mean == pytest.approx(4.302653 * error, rel=1e-6) == found.mean - found.low
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.04 / error, 2))
    assert found.of_repetitions == pytest.approx(0.0004 / 3) and found.of_images == pytest.approx(0.0004 / 4)
    assert found.num_units == 3
    assert found.values == [0.03, 0.05, 0.02, 0.02, 0.04, 0.08]


def test_the_correction_widens_the_plain_interval():
    rng = np.random.default_rng(0)
    means = rng.normal(0.01, 0.02, 5)
    splits = [{"accuracy": np.array([mean])} for mean in means]
    plain, corrected = (resampled_differences(splits, ratio, MANY)["accuracy"] for ratio in (0.0, 0.25))
    assert (plain.low, plain.high) == pytest.approx(stats.t.interval(0.95, 4, means.mean(), stats.sem(means)))
    assert corrected.high - corrected.mean == pytest.approx(1.5 * (plain.high - plain.mean))  # sqrt(1 + 5 / 4)


def test_the_corrected_interval_holds_the_truth_where_the_plain_one_does_not():
    """Splits of one data set share its luck: with a correlation of test / (test + train) between their differences, Nadeau and
    Bengio's correction is exact."""
    rng, count, share = np.random.default_rng(1), 400, 0.2
    held = {0.25: 0, 0.0: 0}  # test to train
    for _ in range(count):
        splits = rng.normal() * share**0.5 + rng.normal(size=5) * (1 - share) ** 0.5
        for ratio in held:
            found = resampled_differences([{"accuracy": np.array([value])} for value in splits], ratio, MANY)[
                "accuracy"
            ]
            held[ratio] += found.low <= 0 <= found.high
    assert stats.binomtest(held[0.25], count, 0.95).pvalue > 0.001
    assert stats.binomtest(held[0.0], count, 0.95).pvalue < 0.001


def test_a_class_that_some_split_does_not_test_is_left_out():
    splits = [{"accuracy": np.zeros(2), "recall_1": np.ones(2)}, {"accuracy": np.ones(2)}]
    assert set(resampled_differences(splits, 0.25, MANY)) == {"accuracy"}
    assert set(resampled_differences(splits[::-1], 0.25, MANY)) == {"accuracy"}


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.5, 0.001, 0.9]) == pytest.approx([1.0, 0.003, 1.0])
    assert holm([0.2]) == [0.2] and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms())
def test_holm_keeps_the_order_and_lies_between_the_raw_and_bonferroni(p_values, random):
    adjusted = holm(p_values)
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
    assert all(p <= found <= min(1, p * len(p_values)) + 1e-12 for p, found in zip(p_values, adjusted, strict=True))
    assert min(adjusted) == pytest.approx(min(1, len(p_values) * min(p_values)))
    shuffled = list(range(len(p_values)))
    random.shuffle(shuffled)
    assert holm([p_values[i] for i in shuffled]) == pytest.approx([adjusted[i] for i in shuffled])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_rejects_what_the_stepwise_test_rejects(p_values):
    """Holm (1979): in order of their p-values, each is compared to .05 by the number that are left, until one is not rejected."""
    assume(all(abs(p * k - 0.05) > 1e-9 for p in p_values for k in range(1, 7)))
    rejected = set()
    for step, index in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[index] >= 0.05 / (len(p_values) - step):
            break
        rejected.add(int(index))
    assert {i for i, p in enumerate(holm(p_values)) if p < 0.05} == rejected


def test_mcnemar_by_hand():
    """Eight images that the arm alone gets right and two that the baseline alone does: 2 (1 + 10 + 45) / 2^10."""
    truth = np.zeros(20, np.int64)
    arm, baseline = np.ones((2, 20), np.int64)
    arm[:8] = baseline[8:10] = 0
    arm[10:15] = baseline[10:15] = 0  # both
    assert mcnemar(truth, arm, baseline) == McNemar(8, 2, pytest.approx(112 / 1024))
    assert mcnemar(truth, baseline, arm) == McNemar(2, 8, pytest.approx(112 / 1024))
    assert mcnemar(truth, arm, arm) == McNemar(0, 0, 1.0)


@given(st.integers(0, 12), st.integers(0, 12))
def test_mcnemar_is_the_binomial_test_of_those_that_differ(won, lost):
    assume(won + lost > 0)
    truth = np.arange(won + lost + 5) % 3
    wrong = (truth + 1) % 3
    rows = np.arange(len(truth))
    arm = np.where((rows >= won) & (rows < won + lost), wrong, truth)
    baseline = np.where(rows < won, wrong, truth)
    found = mcnemar(truth, arm, baseline)
    assert (found.arm_only, found.baseline_only) == (won, lost)
    tail = stats.binom.cdf(min(won, lost), won + lost, 0.5)
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))


def nested_design(splits=4, gans=2, seeds=4):
    """Repetitions and, of each, one with another draw and one with the next one's seed, as a study has them."""
    found = []
    for split in range(splits):
        mine = [(split, n % gans, n // gans, split * seeds + n) for n in range(seeds)]
        found += mine
        for here, after in zip(mine, mine[1:] + mine[:1], strict=True):
            found += [(*here[:2], seeds, here[3]), (*here[:3], after[3])]
    return found


def drawn_values(rng, coordinates, deviations):
    """A sum of one effect for each split, for each GAN of it, for each draw of that, and for each seed."""
    effects = {}
    total = np.zeros(len(coordinates))
    for row, (split, gan, draw, seed) in enumerate(coordinates):
        keys = (split,), (split, gan), (split, gan, draw), ("seed", seed)
        for key, deviation in zip(keys, deviations, strict=True):
            total[row] += effects.setdefault((len(key), key), rng.normal(0, deviation))
    return total


def test_components_of_variance_are_right_in_the_mean():
    """Many studies with known variances of split, GAN, draw and seed. Negative estimates of the middle two are set to 0, so that
    these are large enough to be rare."""
    rng, coordinates, count = np.random.default_rng(0), nested_design(splits=6, gans=2, seeds=8), 400
    deviations = {"split": 2.0, "gan": 1.0, "draw": 0.4, "seed": 0.5}
    found = [
        variance_components(drawn_values(rng, coordinates, tuple(deviations.values())), coordinates)
        for _ in range(count)
    ]
    for source, deviation in deviations.items():
        values = np.array([each[source] for each in found])
        error = values.std() / count**0.5
        assert values.mean() == pytest.approx(deviation**2, abs=3.5 * error), source
        assert error < 0.1 * deviation**2


def test_components_of_sources_that_do_nothing_are_nothing():
    coordinates = nested_design(splits=1, gans=4, seeds=4)
    rng = np.random.default_rng(1)
    of_seeds = variance_components(drawn_values(rng, coordinates, (0, 0, 0, 1.0)), coordinates)
    assert of_seeds["seed"] > 0.01 and of_seeds["draw"] == 0 and of_seeds["gan"] == pytest.approx(0, abs=1e-12)
    of_gans = variance_components(drawn_values(rng, coordinates, (0, 1.0, 0, 0)), coordinates)
    assert of_gans["gan"] > 0.01 and of_gans["draw"] == of_gans["seed"] == 0


def test_components_of_two_values_by_hand():
    """Half the squared difference; None for what was not varied by itself."""
    for source, coordinates in {
        "seed": [(0, 0, 0, 0), (0, 0, 0, 1)],
        "draw": [(0, 0, 0, 0), (0, 0, 1, 0)],
    }.items():
        found = variance_components(np.array([0.3, 0.1]), coordinates)
        assert found == {**dict.fromkeys(("split", "gan", "draw", "seed")), source: pytest.approx(0.02)}
    both = variance_components(np.array([0.3, 0.1]), [(0, 0, 0, 0), (0, 0, 1, 1)])
    assert set(both.values()) == {None}
    alone = variance_components(np.array([0.3]), [(0, 0, 0, 0)])
    assert set(alone.values()) == {None}


def test_components_of_a_small_design_by_hand():
    coordinates = [(0, 0, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0, 1, 0, 0), (1, 0, 0, 2)]
    values = np.array([0.0, 0.2, 0.4, 0.6, 1.0])
    found = variance_components(values, coordinates)
    assert found["draw"] == pytest.approx(0.02) and found["seed"] == pytest.approx(0.08)
    other_gan = (0.6**2 + 0.4**2) / 2 / 2  # against both draws of the first GAN with the same seed
    assert found["gan"] == pytest.approx(other_gan - 0.02)
    other_split = sum((1 - value) ** 2 for value in values[:4]) / 2 / 4
    assert found["split"] == pytest.approx(other_split - 0.02 - 0.08 - found["gan"])


def test_a_component_that_comes_out_negative_is_nothing():
    coordinates = [(0, 0, 0, 0), (0, 0, 1, 0), (0, 1, 0, 0)]
    found = variance_components(np.array([0.0, 1.0, 0.5]), coordinates)
    assert found["draw"] == 0.5 and found["gan"] == 0.0


FREEDOM = 499.0  # of the images


def a_difference(mean, of_repetitions, of_images=0.0, num_units=6):
    return Difference(mean, 0.0, 0.0, 1.0, [], of_repetitions, of_images, num_units, FREEDOM)


def is_settled(mean, of_repetitions, of_images, number, margin, image_freedom=FREEDOM):
    """With the degrees of freedom of Welch and Satterthwaite, or of fewer than four repetitions their number less one."""
    variance = of_repetitions + of_images
    freedom = variance**2 / (of_repetitions**2 / (number - 1) + of_images**2 / image_freedom)
    half = stats.t.ppf(0.975, freedom if number >= 4 else number - 1) * variance**0.5
    return judge(mean - half, mean + half, margin) != "inconclusive"


@given(
    st.floats(-0.1, 0.1), st.floats(1e-6, 1e-3), st.floats(0, 1e-3), st.integers(2, 12), st.sampled_from([0.0, 0.01])
)
def test_so_many_repetitions_settle_it_and_fewer_do_not(mean, of_repetitions, of_images, num_units, margin):
    difference = a_difference(mean, of_repetitions, of_images, num_units)
    number = needed_repetitions(difference, margin)

    def settled_by(count):
        return is_settled(mean, of_repetitions * num_units / count, of_images, count, margin)

    if number is None:
        assert not settled_by(9_000)
        return
    assert number >= num_units and settled_by(number)
    fewer = number - 1 if number <= 50 else int(number / 1.03)  # beyond, steps of 2 %
    assert fewer < num_units or not settled_by(fewer)


@given(
    st.floats(-0.1, 0.1), st.floats(0, 1e-4), st.floats(1e-6, 1e-3), st.integers(2, 12), st.sampled_from([0.0, 0.01])
)
def test_so_many_times_the_test_images_settle_it_and_fewer_do_not(mean, of_repetitions, of_images, num_units, margin):
    times = needed_images(a_difference(mean, of_repetitions, of_images, num_units), margin)

    def settled_by(times):
        return is_settled(mean, of_repetitions, of_images / times, num_units, margin, FREEDOM * times)

    if times is None:
        assert not settled_by(90)
        return
    assert times >= 1 and settled_by(times)
    fewer = times / 1.03 - 0.01  # in steps of 2 %, at least of a hundredth
    assert fewer < 1 or not settled_by(fewer)


def test_more_images_do_not_settle_what_splits_of_their_own_have_measured():
    assert needed_images(replace(a_difference(0.02, 1e-5, of_images=4e-4), image_freedom=0), 0.0) is None
    splits = [{"accuracy": np.array([value])} for value in (0.01, 0.02, 0.06)]
    found = resampled_differences(splits, 0.25, MANY)["accuracy"]
    assert found.image_freedom == 0 and needed_images(found, 0.0) is None and needed_repetitions(found, 0.0) > 3


def test_few_repetitions_have_few_degrees_of_freedom():
    """Three repetitions of arms that differ by chance alone: the images, which they share, lend them no certainty."""
    rng, count, excluded = np.random.default_rng(3), 400, 0
    truth = np.repeat([0, 1], 100)
    for _ in range(count):
        arms = [np.where(rng.random((3, 200)) < 0.9, truth, 1 - truth) for _ in range(2)]
        found = paired_differences(truth, *arms, 2)["accuracy"]
        excluded += found.low > 0 or found.high < 0
    assert excluded / count < 0.06


def test_needed_repetitions_by_hand():
    """A mean of .02 whose repetitions deviate by .03: from 12 on, t .03 / sqrt(n) is below .02."""
    difference = a_difference(0.02, 0.03**2 / 6)
    assert stats.t.ppf(0.975, 11) * 0.03 / 12**0.5 < 0.02 < stats.t.ppf(0.975, 10) * 0.03 / 11**0.5
    assert needed_repetitions(difference, 0.0) == 12
    assert needed_repetitions(replace(difference, mean=-0.02), 0.0) == 12


def test_what_the_other_source_forbids_is_told_by_none():
    of_images = a_difference(0.02, 1e-5, of_images=4e-4)
    assert needed_repetitions(of_images, 0.0) is None and needed_images(of_images, 0.0) > 1
    of_repetitions = a_difference(0.02, 4e-4, of_images=1e-5)
    assert needed_images(of_repetitions, 0.0) is None and needed_repetitions(of_repetitions, 0.0) > 6
    nothing = a_difference(0.0, 1e-4)
    assert needed_repetitions(nothing, 0.0) is None  # no number shows that there is exactly nothing
    assert needed_repetitions(nothing, 0.01) > 6  # but that there is next to nothing


def test_holm_spares_the_question_that_was_decided_beforehand_in_its_metric_alone():
    sure, unsure = replace(a_difference(0.02, 1e-4), low=0.001, high=0.039), replace(a_difference(0.0, 1e-4), low=-0.02)
    sure, unsure = replace(sure, p_value=0.04), replace(unsure, high=0.02, p_value=0.9)
    pairs = (("a", "base"), ("b", "base"))
    found = {pair: dict.fromkeys(METRICS, sure) for pair in pairs}
    rows = difference_rows(found, pairs[0], 0.0)
    assert len(rows) == 6 and all(row["p_holm"] == pytest.approx(0.08) for row in rows)
    verdicts = {(row["arm"], row["metric"]): row["verdict"] for row in rows}
    assert verdicts.pop(("a", "balanced_accuracy")) == "helps" and set(verdicts.values()) == {"inconclusive"}
    surer = {pair: dict.fromkeys(METRICS, replace(sure, p_value=0.02)) for pair in pairs}
    assert {row["verdict"] for row in difference_rows(surer, pairs[0], 0.0)} == {"helps"}
    assert {row["verdict"] for row in difference_rows({pairs[0]: found[pairs[0]]}, pairs[0], 0.0)} == {"helps"}
    nothing = {pair: dict.fromkeys(METRICS, unsure) for pair in pairs}
    assert {row["verdict"] for row in difference_rows(nothing, pairs[0], 0.05)} == {"equivalent"}
