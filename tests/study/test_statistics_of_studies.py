"""Resampled splits, tests, sources of variance and what would settle a verdict; on arrays."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from ganaug.settings import CompareSettings
from ganaug.study.analysis import Evidence, difference_rows
from ganaug.study.arms import BASELINE, MIXED
from ganaug.study.design import settle_plan
from ganaug.study.record import may_guess, remarks
from ganaug.study.statistics import (
    METRICS,
    Difference,
    McNemar,
    confusion_matrices,
    guessing_limit,
    holm,
    mcnemar,
    needed_images,
    needed_repetitions,
    paired_differences,
    resampled_differences,
    score,
    variance_components,
)
from ganaug.study.verdict import judge

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


def test_one_guesser_in_twenty_passes_the_limit():
    """Of unequal classes, one of them without a test image."""
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 3], [60, 25, 40])
    guesses = rng.integers(0, 4, (4000, len(truth)))
    guesses[guesses == 2] = 3  # whatever it prefers
    reached = score(confusion_matrices(truth, guesses, 4))["balanced_accuracy"]
    assert 0.03 < (reached > guessing_limit(truth)).mean() < 0.07
    assert guessing_limit(np.repeat(truth, 100)) == pytest.approx(1 / 3, abs=0.02)
    assert guessing_limit(truth) < 0.5


def test_a_baseline_that_guesses_is_told_from_one_that_learned():
    """Of two splits, of which one alone would be no evidence."""
    plan = settle_plan(CompareSettings(preset="thorough", seeds=2, gans=1, splits=2), own_test=False, given_pool=False)
    truth = np.tile(np.arange(3), 20)
    right, guessed = np.eye(3)[truth], np.eye(3)[np.roll(truth, 7) % 3]

    def evidence_of(*splits):
        found = {(BASELINE, r): SimpleNamespace(probabilities=splits[r.split]) for r in plan.repetitions()}
        return Evidence(found, [truth, truth], truth, [60, 60], (), [], 0, None, {})

    assert may_guess(plan, evidence_of(guessed, guessed))
    assert not may_guess(plan, evidence_of(right, guessed))
    assert not may_guess(plan, evidence_of(right, right))


@pytest.mark.parametrize(
    ("converged", "said"),
    [
        ({BASELINE: False}, " The baseline had not converged."),
        ({BASELINE: False, MIXED: True}, " The baseline had not converged."),
        ({BASELINE: True, MIXED: False}, " Not all arms had converged."),
        ({BASELINE: False, MIXED: False}, " Not all arms had converged."),
        ({BASELINE: True}, ""),
        ({}, ""),
    ],
)
def test_the_verdict_names_what_had_not_converged(converged, said):
    choices = (
        SimpleNamespace(converged=converged, worth_mixing=None),
        SimpleNamespace(converged={}, worth_mixing=None),
    )
    plan = SimpleNamespace(arms=(BASELINE, MIXED), preset="standard")
    assert remarks(plan, SimpleNamespace(choices=choices), "inconclusive") == said
