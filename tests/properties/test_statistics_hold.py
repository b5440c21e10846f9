"""What must be true of the statistics of any study, however its predictions came out."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ganaug.study.statistics import (
    LEVEL,
    METRICS,
    SOURCES,
    Difference,
    class_metric,
    class_of,
    holm,
    least_image_variance,
    mcnemar,
    needed_images,
    needed_repetitions,
    paired_differences,
    resampled_differences,
    single_differences,
    variance_components,
)
from ganaug.study.verdict import judge

MIRRORED = {"helps": "hurts", "hurts": "helps", "equivalent": "equivalent", "inconclusive": "inconclusive"}
ALMOST = {"rel": 1e-6, "abs": 1e-12}
figures = st.floats(-1, 1).map(lambda value: round(value, 6))
probabilities = st.floats(0, 1)


@st.composite
def studies(draw):
    """(truth (N,), arm (R, N), baseline (R, N), K, numbers of GANs or None, groups (N,) or None); classes may be missing."""
    num_classes, repetitions, images = draw(st.integers(2, 4)), draw(st.integers(2, 5)), draw(st.integers(1, 14))
    labels = st.integers(0, num_classes - 1)
    truth = draw(arrays.arrays(np.int64, images, elements=labels))
    arm, baseline = (draw(arrays.arrays(np.int64, (repetitions, images), elements=labels)) for _ in range(2))
    gans = draw(st.none() | st.lists(st.integers(0, 2), min_size=repetitions, max_size=repetitions))
    groups = draw(st.none() | arrays.arrays(np.int64, images, elements=st.integers(0, 3)))
    assume(gans is None or len(set(gans)) > 1)  # a study of one GAN names none
    return truth, arm, baseline, num_classes, gans, groups


def assert_same(found, expected, of=lambda difference: difference):
    """Both say the same of each metric, but for the order of single repetitions."""
    assert found.keys() == expected.keys()
    for metric in found:
        for name in ("mean", "low", "high", "p_value", "of_repetitions", "of_images", "num_units", "image_freedom"):
            mine, other = getattr(found[metric], name), getattr(of(expected[metric]), name)
            assert mine == pytest.approx(other, **ALMOST), (metric, name)
        assert sorted(found[metric].values) == pytest.approx(sorted(of(expected[metric]).values), **ALMOST)


def mirrored(difference):
    return replace(
        difference,
        mean=-difference.mean,
        low=-difference.high,
        high=-difference.low,
        values=[-value for value in difference.values],
    )


@given(studies())
def test_an_interval_is_finite_and_has_the_mean_in_its_middle(study):
    for difference in paired_differences(*study).values():
        assert np.isfinite([difference.low, difference.high, difference.p_value]).all()
        assert difference.low < difference.mean < difference.high
        assert difference.low + difference.high == pytest.approx(2 * difference.mean, **ALMOST)
        assert 0 <= difference.p_value <= 1 and -1 <= difference.mean <= 1
        assert difference.of_repetitions >= 0 < difference.of_images


@given(studies())
def test_an_interval_without_zero_is_a_small_p_value(study):
    for difference in paired_differences(*study).values():
        apart = min(abs(difference.low), abs(difference.high)) > 1e-9
        if apart:
            assert (difference.low > 0 or difference.high < 0) == (difference.p_value < 1 - LEVEL)


@given(studies())
def test_exchanged_arms_turn_the_sign_alone(study):
    truth, arm, baseline, *rest = study
    assert_same(paired_differences(truth, baseline, arm, *rest), paired_differences(*study), mirrored)


@given(studies())
def test_an_arm_does_not_differ_from_itself(study):
    truth, arm, _, *rest = study
    for difference in paired_differences(truth, arm, arm, *rest).values():
        assert difference.mean == 0 and difference.low < 0 < difference.high and difference.p_value == 1
        assert judge(difference.low, difference.high, 0.01) in ("inconclusive", "equivalent")


@given(studies(), st.randoms(use_true_random=False))
def test_neither_the_order_of_images_nor_of_repetitions_counts(study, random):
    truth, arm, baseline, num_classes, gans, groups = study
    rows, columns = list(range(len(arm))), list(range(len(truth)))
    random.shuffle(rows)
    random.shuffle(columns)
    shuffled = paired_differences(
        truth[columns],
        arm[rows][:, columns],
        baseline[rows][:, columns],
        num_classes,
        gans and [gans[row] for row in rows],
        None if groups is None else groups[columns],
    )
    assert_same(shuffled, paired_differences(*study))


@given(studies(), st.permutations(range(4)))
def test_classes_have_no_order(study, order):
    truth, arm, baseline, num_classes, gans, groups = study
    renamed = np.array([number for number in order if number < num_classes])
    found = paired_differences(renamed[truth], renamed[arm], renamed[baseline], num_classes, gans, groups)
    expected = paired_differences(*study)

    def new_name(metric):
        return metric if class_of(metric) is None else class_metric(renamed[class_of(metric)])

    assert_same(found, {new_name(metric): difference for metric, difference in expected.items()})


@given(studies())
def test_groups_and_gans_of_one_are_none(study):
    truth, arm, baseline, num_classes, *_ = study
    alone = paired_differences(truth, arm, baseline, num_classes)
    gans, groups = list(range(len(arm)))[::-1], 7 * np.arange(len(truth))
    assert_same(paired_differences(truth, arm, baseline, num_classes, gans, groups), alone)


@given(studies())
def test_groups_never_narrow_an_interval(study):
    truth, arm, baseline, num_classes, gans, groups = study
    assume(groups is not None)
    alone = paired_differences(truth, arm, baseline, num_classes, gans)
    for metric, difference in paired_differences(*study).items():
        assert difference.of_images >= alone[metric].of_images - 1e-15


@given(studies())
def test_the_same_repetition_twice_with_one_gan_adds_nothing(study):
    truth, arm, baseline, num_classes, gans, groups = study
    gans = list(range(len(arm))) if gans is None else gans
    twice = paired_differences(
        truth, np.repeat(arm, 2, axis=0), np.repeat(baseline, 2, axis=0), num_classes, np.repeat(gans, 2), groups
    )
    for metric, difference in paired_differences(truth, arm, baseline, num_classes, gans, groups).items():
        found = twice[metric]
        assert (found.mean, found.low, found.high) == pytest.approx(
            (difference.mean, difference.low, difference.high), **ALMOST
        )


@given(studies())
def test_the_mean_is_that_of_the_repetitions_of_each_gan(study):
    truth, arm, baseline, num_classes, gans, _ = study
    single = single_differences(truth, arm, baseline, num_classes)
    numbers = np.arange(len(arm)) if gans is None else np.array(gans)
    for metric, difference in paired_differences(*study).items():
        means = [single[metric][numbers == number].mean() for number in set(numbers.tolist())]
        assert difference.mean == pytest.approx(np.mean(means), **ALMOST) and difference.num_units == len(means)
        assert (np.abs(single[metric]) <= 1).all()


@given(
    st.lists(st.lists(figures, min_size=1, max_size=4), min_size=2, max_size=5),
    st.floats(0.01, 2),
    st.lists(st.integers(1, 50), min_size=2, max_size=4),
)
def test_an_interval_over_splits_holds_the_mean_of_their_means(splits, ratio, counts):
    metric, counts = "balanced_accuracy", np.array(counts)
    found = resampled_differences([{metric: np.array(values)} for values in splits], ratio, counts)[metric]
    assert found.mean == pytest.approx(np.mean([np.mean(values) for values in splits]), **ALMOST)
    assert found.low < found.mean < found.high and 0 <= found.p_value <= 1 and found.num_units == len(splits)
    turned = resampled_differences([{metric: -np.array(values)} for values in splits], ratio, counts)[metric]
    assert_same({metric: turned}, {metric: found}, mirrored)
    wider = resampled_differences([{metric: np.array(values)} for values in splits], 2 * ratio, counts)[metric]
    assert wider.high - wider.low > found.high - found.low  # more test for each training image


@given(st.lists(probabilities, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_holm_raises_in_order_and_never_beyond_bonferroni(p_values, random):
    adjusted, number = holm(p_values), len(p_values)
    for raw, found in zip(p_values, adjusted, strict=True):
        assert raw <= found <= min(1, number * raw) + 1e-15
    assert adjusted[int(np.argmin(p_values))] == pytest.approx(min(1, number * min(p_values)))
    by_size = [found for _, found in sorted(zip(p_values, adjusted, strict=True))]
    assert by_size == sorted(adjusted)
    order = list(range(number))
    random.shuffle(order)
    assert holm([p_values[i] for i in order]) == [adjusted[i] for i in order]


@given(st.lists(probabilities, min_size=1, max_size=8), st.data())
def test_holm_never_falls_where_a_p_value_rises(p_values, data):
    place = data.draw(st.integers(0, len(p_values) - 1))
    raised = list(p_values)
    raised[place] = data.draw(st.floats(p_values[place], 1))
    assert all(new >= old - 1e-15 for old, new in zip(holm(p_values), holm(raised), strict=True))


@given(studies())
def test_mcnemar_does_not_depend_on_who_is_called_the_arm(study):
    truth, arm, baseline, *_ = study
    found, turned = mcnemar(truth, arm[0], baseline[0]), mcnemar(truth, baseline[0], arm[0])
    assert (found.arm_only, found.baseline_only, found.p_value) == (
        turned.baseline_only,
        turned.arm_only,
        turned.p_value,
    )
    assert 0 < found.p_value <= 1 and found.arm_only + found.baseline_only <= len(truth)
    right = [(truth == predictions[0]).sum() for predictions in (arm, baseline)]
    assert found.arm_only - found.baseline_only == right[0] - right[1]


@given(
    st.lists(st.tuples(figures, st.tuples(*(st.integers(0, 1) for _ in SOURCES))), min_size=2, max_size=12),
    figures,
    st.sampled_from([0.5, 2.0, 100.0]),
)
def test_variance_components_have_the_unit_squared_and_no_origin(points, shift, scale):
    values, coordinates = np.array([value for value, _ in points]), [place for _, place in points]
    found = variance_components(values, coordinates)
    assert set(found) == set(SOURCES) and all(part is None or part >= 0 for part in found.values())
    moved = variance_components(scale * (values + shift), coordinates)
    for source, part in found.items():
        assert (moved[source] is None) == (part is None)
        if part is not None:
            assert moved[source] == pytest.approx(scale**2 * part, rel=1e-6, abs=1e-9)


@st.composite
def inconclusive(draw):
    mean, units = draw(st.floats(0, 0.05)), draw(st.integers(4, 12))
    of_repetitions, of_images = (draw(st.floats(1e-6, 1e-3)) for _ in range(2))
    return Difference(mean, -1, 1, 0.5, [mean], of_repetitions, of_images, units, draw(st.floats(1, 200)))


@given(inconclusive(), st.floats(0.001, 0.05), st.sampled_from([0.1, 10.0]))
def test_what_is_needed_does_not_depend_on_the_unit(difference, margin, scale):
    other = replace(
        difference,
        mean=scale * difference.mean,
        of_repetitions=scale**2 * difference.of_repetitions,
        of_images=scale**2 * difference.of_images,
    )
    for needed in (needed_repetitions, needed_images):
        assert needed(other, scale * margin) == needed(difference, margin)


@given(inconclusive(), st.floats(0.001, 0.05))
def test_less_variance_never_needs_more(difference, margin):
    quieter = replace(difference, of_repetitions=difference.of_repetitions / 4, of_images=difference.of_images / 4)
    for needed in (needed_repetitions, needed_images):
        before, after = needed(difference, margin), needed(quieter, margin)
        assert before is None or (after is not None and after <= before)


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0.001, 0.2), st.floats(0, 1))
def test_a_verdict_turns_with_the_sign_and_fades_with_the_width(mean, half, margin, more):
    verdict = judge(mean - half, mean + half, margin)
    assert MIRRORED[verdict] == judge(-mean - half, -mean + half, margin)
    wider = judge(mean - half - more, mean + half + more, margin)
    assert wider in {"helps": ("helps", "inconclusive"), "hurts": ("hurts", "inconclusive")}.get(
        verdict, ("helps", "hurts", "equivalent", "inconclusive") if verdict == "equivalent" else ("inconclusive",)
    )


@given(st.lists(st.integers(0, 60), min_size=2, max_size=5).filter(any), st.integers(2, 5))
def test_more_test_images_lower_the_least_variance(counts, times):
    counts = np.array(counts)
    for metric in METRICS:
        assert 0 < least_image_variance(times * counts, metric) < least_image_variance(counts, metric) <= 1 / 3 + 1e-12
