"""Paired differences with intervals, tests and the sources of their variance. Pure functions on arrays; no file, no training.

Predictions are integers (R, N): R repetitions on the same N test images, paired: row r of two arms had the same seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.float32]

NUM_RESAMPLES = 1000
BLOCK = 64  # resamples at a time
LEVEL = 0.95
LEAST_UNITS = 4  # independent repetitions; of fewer, nothing but their own spread is relied on
METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
MOST = 10_000  # repetitions or times as many images that a projection considers


@dataclass(frozen=True)
class Difference:
    """An arm minus its baseline in one metric, as fractions; `low` to `high` is the 95 % interval."""

    mean: float
    low: float
    high: float
    p_value: float  # two-sided, of no difference
    values: list[float]  # of each repetition
    of_repetitions: float  # the part of the mean's variance that more repetitions, or splits, would lower
    of_images: float  # the part that more test images would lower
    num_units: int  # independent repetitions: splits, GANs or seeds
    num_images: int  # test images that the repetitions share; 0 where each split has its own


def confusion_matrices(truth: Labels, predictions: Labels, num_classes: int, weights: Floats | None = None) -> Floats:
    """(R, K, K), rows the truth. `weights` (N,) counts each image so often."""
    weights = np.ones(len(truth)) if weights is None else weights
    cells = truth * num_classes + predictions  # (R, N)
    counts = [np.bincount(row, weights, minlength=num_classes**2) for row in cells]
    return np.asarray(counts, np.float64).reshape(-1, num_classes, num_classes)


def score(confusion: Floats) -> dict[str, Floats]:
    """Confusion matrices (..., K, K) -> the METRICS, each (...). Classes without a test image are left out of the means."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)  # (..., K)
    return _score(hits, confusion.sum(axis=-1), confusion.sum(axis=-2))


def _score(hits: Floats, actual: Floats, predicted: Floats) -> dict[str, Floats]:
    """From images (..., K) of each class that were recognised, that there are, and that were taken for it."""
    present = actual > 0
    recall = np.divide(hits, actual, out=np.zeros_like(hits), where=np.broadcast_to(present, hits.shape))
    either = actual + predicted
    f1 = np.divide(2 * hits, either, out=np.zeros_like(hits), where=either > 0)
    num_present = np.maximum(present.sum(axis=-1), 1)
    return {
        "accuracy": hits.sum(axis=-1) / np.maximum(actual.sum(axis=-1), 1),
        "balanced_accuracy": (recall * present).sum(axis=-1) / num_present,
        "macro_f1": (f1 * present).sum(axis=-1) / num_present,
    }


def recalls(confusion: Floats) -> Floats:
    """(..., K, K) -> (..., K): share of each class's images that were recognised; NaN for a class without any."""
    hits, actual = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1)
    recall: Floats = np.divide(hits, actual, out=np.full_like(hits, np.nan), where=actual > 0)
    return recall


def class_metric(class_index: int) -> str:
    """The name of a class's recall among the metrics of `paired_differences`."""
    return f"recall_{class_index}"


def paired_differences(
    truth: Labels, arm: Labels, baseline: Labels, num_classes: int, groups: Sequence[int] | None = None, seed: int = 0
) -> dict[str, Difference]:
    """The mean paired difference and its interval, for each of METRICS and the recall of each class with test images.

    A hierarchical paired bootstrap over repetitions and test images, which cross: every repetition judges every image. The
    images are resampled within each class (Efron & Tibshirani, 1993, chapter 6); what resampling the repetitions gives is known
    in closed form, their variance. Both contain the part that repetition and image have in common, which is subtracted once, as
    for rows and columns that cross (Owen, 2007, The pigeonhole bootstrap, https://arxiv.org/abs/0712.1111). Student's t with the
    degrees of freedom of Welch (1947) and Satterthwaite (1946) makes few repetitions give wide intervals. Test images on which
    the arms always agree do not prove that all images are so: see `least_image_variance`.

    `groups` (R,): repetitions with equal numbers, of one GAN, are not independent; their mean counts as one.
    """
    numbers = np.arange(len(arm)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    units = np.eye(numbers.max() + 1)[numbers]  # (R, U)
    units = units / units.sum(axis=0)
    counts = np.bincount(truth, minlength=num_classes)
    taken = (_one_hot(arm, num_classes), _one_hot(baseline, num_classes))
    observed = _metric_differences(np.ones((1, len(truth)), np.float32), *taken, truth, counts)
    rng = np.random.default_rng(seed)
    parts: list[dict[str, Floats]] = []
    for start in range(0, NUM_RESAMPLES, BLOCK):
        weights = _resample(truth, counts, min(BLOCK, NUM_RESAMPLES - start), rng)
        drawn = _metric_differences(weights, *taken, truth, counts)
        parts.append({metric: values @ units for metric, values in drawn.items()})
    found = {}
    for metric, values in observed.items():
        resampled = np.concatenate([part[metric] for part in parts])  # (NUM_RESAMPLES, U)
        floor = least_image_variance(counts, metric)
        found[metric] = _crossed_interval(values[0], values[0] @ units, resampled, len(truth), floor)
    return found


def _one_hot(predictions: Labels, num_classes: int) -> Counts:
    """(N, R, K): the class each image was taken for."""
    return np.eye(num_classes, dtype=np.float32)[predictions.T]


def _resample(truth: Labels, counts: Labels, number: int, rng: np.random.Generator) -> Counts:
    """(number, N): how often each image is drawn, as many of each class as there are."""
    weights = np.zeros((number, len(truth)), np.float32)
    for k in np.flatnonzero(counts):
        rows = np.flatnonzero(truth == k)
        weights[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=number)
    return weights


def _metric_differences(
    weights: Counts, arm: Counts, baseline: Counts, truth: Labels, counts: Labels
) -> dict[str, Floats]:
    """Weights (B, N) of the images and the predictions (N, R, K) of two arms -> each metric's differences (B, R).

    Counts of single precision are exact up to 2^24 images.
    """
    scores = []
    for taken in (arm, baseline):
        recognised = np.zeros((len(weights), *taken.shape[1:]))
        assigned = np.zeros_like(recognised)
        for k in np.flatnonzero(counts):
            rows = np.flatnonzero(truth == k)
            of_class = (weights[:, rows] @ taken[rows].reshape(len(rows), -1)).reshape(recognised.shape)
            recognised[:, :, k] = of_class[:, :, k]
            assigned += of_class
        actual = np.broadcast_to(counts.astype(np.float64), recognised.shape)
        recall = {class_metric(int(k)): recognised[:, :, k] / counts[k] for k in np.flatnonzero(counts)}
        scores.append(_score(recognised, actual, assigned) | recall)
    return {metric: scores[0][metric] - scores[1][metric] for metric in scores[0]}


def least_image_variance(counts: Labels, metric: str) -> float:
    """Lower limit of the variance that the draw of the test images gives a mean of `metric`.

    `counts`: test images of each class. By Laplace's rule of succession the next of n images is one on which the arms differ with
    a probability of at least 1 / (n + 2), whatever the others have shown; a bootstrap of images that agree would say 0.
    """
    if metric.startswith("recall_"):
        counts = counts[[int(metric.removeprefix("recall_"))]]
    present = counts[counts > 0]
    of_each = 1 / (len(present) * present) if metric != "accuracy" else np.full(len(present), 1 / present.sum())
    return float((of_each**2 * present).sum() / (present.sum() + 2))


def _crossed_interval(
    values: Floats, units: Floats, resampled: Floats, num_images: int, least_of_images: float
) -> Difference:
    """`values` (R,), their means `units` (U,) over what belongs together, and those `resampled` (B, U) with other test images."""
    number = len(units)
    of_units = float(units.var(ddof=1)) / number
    of_images = float(resampled.mean(axis=1).var(ddof=1))
    alone = float(
        resampled.var(axis=0, ddof=1).mean()
    )  # of one unit: what its images have, in common with others and not
    common = max(0.0, alone - of_images) / (number - 1)  # counted in both of the above
    if number >= LEAST_UNITS:  # of fewer it is not known well enough
        of_images -= common
    return _student(values, float(units.mean()), of_units, max(of_images, least_of_images), number, num_images)


def resampled_differences(
    per_split: Sequence[Mapping[str, Floats]], test_to_train: float, counts: Labels
) -> dict[str, Difference]:
    """The mean difference over resampled splits, from the differences of each metric in each split's repetitions.

    The training sets of the splits overlap, so their variance tells too little; the correction of Nadeau & Bengio (2003,
    https://doi.org/10.1023/A:1024068626366), equation 9, adds the ratio of test to training images. `counts`: test images of each
    class in a split; see `least_image_variance`.
    """
    number = len(per_split)
    found = {}
    for metric in per_split[0]:
        if not all(metric in split for split in per_split):
            continue  # a class without a test image in some split
        means = np.array([split[metric].mean() for split in per_split])
        spread = max(float(means.var(ddof=1)), least_image_variance(counts, metric))
        values = np.concatenate([split[metric] for split in per_split])
        found[metric] = _student(values, float(means.mean()), spread / number, test_to_train * spread, number, 0)
    return found


def _student(
    values: Floats, mean: float, of_repetitions: float, of_images: float, number: int, num_images: int
) -> Difference:
    freedom = _freedom(of_repetitions, of_images, number, num_images)
    error = (of_repetitions + of_images) ** 0.5
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    p_value = 2 * float(stats.t.sf(abs(mean) / error, freedom))
    return Difference(
        mean, mean - half, mean + half, p_value, values.tolist(), of_repetitions, of_images, number, num_images
    )


def _freedom(of_repetitions: float, of_images: float, number: int, num_images: int) -> float:
    """Degrees of freedom of the sum of both variances: Satterthwaite's, or of few repetitions and of splits their number less one."""
    if number < LEAST_UNITS or not num_images:
        return number - 1
    whole = (of_repetitions + of_images) ** 2
    return whole / (of_repetitions**2 / (number - 1) + of_images**2 / max(1, num_images - 1))


def single_differences(truth: Labels, arm: Labels, baseline: Labels, num_classes: int) -> dict[str, Floats]:
    """The difference (R,) of each repetition, in the metrics of `paired_differences`."""
    counts = np.bincount(truth, minlength=num_classes)
    taken = (_one_hot(arm, num_classes), _one_hot(baseline, num_classes))
    observed = _metric_differences(np.ones((1, len(truth)), np.float32), *taken, truth, counts)
    return {metric: values[0] for metric, values in observed.items()}


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the same order: Holm (1979), https://www.jstor.org/stable/4615733

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    raised = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raised))
    return [float(value) for value in adjusted]


@dataclass(frozen=True)
class McNemar:
    """Of the images that one ensemble alone gets right."""

    arm_only: int
    baseline_only: int
    p_value: float


def mcnemar(truth: Labels, arm: Labels, baseline: Labels) -> McNemar:
    """McNemar's exact test (1947, https://doi.org/10.1007/BF02295996) on the predictions (N,) of two classifiers."""
    right, other = arm == truth, baseline == truth
    won, lost = int((right & ~other).sum()), int((other & ~right).sum())
    p_value = float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return McNemar(won, lost, p_value)


SOURCES = ("split", "gan", "draw", "seed")


def variance_components(values: Floats, coordinates: Sequence[tuple[int, int, int, int]]) -> dict[str, float | None]:
    """The variance that each of SOURCES gives a single difference; None where it was not varied by itself.

    `coordinates`: (split, GAN of the split, draw of the GAN, seed) of each of `values`. Half of the mean squared difference of two
    values that share all but some sources is the sum of these sources' variances: estimates without bias, of no model; those
    under 0 are 0.
    """
    table = np.asarray(coordinates)  # (n, 4)
    one, other = np.triu_indices(len(values), 1)
    half = 0.5 * (values[one] - values[other]) ** 2
    same = table[one] == table[other]  # (pairs, 4)
    found: dict[str, float | None] = dict.fromkeys(SOURCES)

    def mean(mask: npt.NDArray[np.bool_]) -> float | None:
        return float(half[mask].mean()) if mask.any() else None

    split, gan, draw, seed = same.T
    found["seed"] = mean(split & gan & draw & ~seed)
    found["draw"] = mean(split & gan & ~draw & seed)
    other_gan = mean(split & ~gan & seed)  # other images, too
    if other_gan is not None and found["draw"] is not None:
        found["gan"] = max(0.0, other_gan - found["draw"])
    other_split, within = mean(~split), (found["seed"], found["draw"], found["gan"])
    if other_split is not None and all(part is not None for part in within):
        found["split"] = max(0.0, other_split - sum(part for part in within if part is not None))
    return found


def needed_repetitions(difference: Difference, margin: float) -> int | None:
    """Independent repetitions after which the interval would no longer be inconclusive, were the mean and variances as they are;
    None if the test images do not allow it. `margin`: the region of practical equivalence. Exact up to 50, then to 2 %."""
    each = difference.of_repetitions * difference.num_units
    for number in _growing(difference.num_units):
        if _settles(difference, each / number, difference.of_images, number, difference.num_images, margin):
            return number
    return None


def needed_images(difference: Difference, margin: float) -> float | None:
    """How many times as many test images would do so; None if the repetitions do not allow it, or if splits have their own."""
    if not difference.num_images:
        return None
    for percent in _growing(100):
        times = percent / 100
        images = round(difference.num_images * times)
        of_images = difference.of_images / times
        if _settles(difference, difference.of_repetitions, of_images, difference.num_units, images, margin):
            return times
    return None


def _growing(start: int) -> list[int]:
    steps = np.arange(0, int(np.log(MOST) / np.log(1.02)))
    return sorted({int(np.ceil(start * 1.02**step)) for step in steps})


def _settles(
    difference: Difference, of_repetitions: float, of_images: float, number: int, num_images: int, margin: float
) -> bool:
    freedom = _freedom(of_repetitions, of_images, number, num_images)
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * (of_repetitions + of_images) ** 0.5
    return bool(abs(difference.mean) > half or abs(difference.mean) + half < margin)
