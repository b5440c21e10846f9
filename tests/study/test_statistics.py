"""Scores against scikit-learn, tests against SciPy and hand computations, intervals against simulations whose truth is known."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from ganaug.study import statistics
from ganaug.study.statistics import (
    METRICS,
    class_metric,
    confusion_matrices,
    least_image_variance,
    paired_differences,
    recalls,
    score,
    single_differences,
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
    found = paired_differences(truth, arm, baseline, 2, gans=[7, 3, 7, 3])["balanced_accuracy"]
    assert found.values == [0.5, 0, 1, 0] and found.num_units == 2
    low, high = stats.t.interval(0.95, 1, loc=0.375, scale=stats.sem([0.75, 0.0]))
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-2), pytest.approx(high, rel=1e-2))


def test_groups_of_uneven_size_count_alike():
    truth, arm, baseline = simulate(np.random.default_rng(7), num_seeds=3)
    found = paired_differences(truth, arm, baseline, 3, gans=[0, 0, 1])["accuracy"]
    assert found.mean == pytest.approx(((found.values[0] + found.values[1]) / 2 + found.values[2]) / 2)


def test_groups_of_one_are_no_groups():
    case = simulate(np.random.default_rng(8))
    assert paired_differences(*case, 3, gans=[5, 4, 3, 2, 1, 0])["accuracy"].low == pytest.approx(
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
