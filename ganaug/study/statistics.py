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

LEVEL = 0.95
FEW_OF_CLASS = 4  # test images
LEAST_UNITS = 4  # independent repetitions; of fewer, nothing but their own spread is relied on
METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
ROUNDING = (
    1e-9  # what it leaves of nothing must not choose the degrees of freedom: they would hang on the images' order
)
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
    image_freedom: float  # degrees of freedom of that part; 0 where each split has its own test images


def confusion_matrices(truth: Labels, predictions: Labels, num_classes: int) -> Floats:
    """(R, K, K), rows the truth."""
    cells = truth * num_classes + predictions  # (R, N)
    counts = [np.bincount(row, minlength=num_classes**2) for row in cells]
    return np.asarray(counts, np.float64).reshape(-1, num_classes, num_classes)


def score(confusion: Floats) -> dict[str, Floats]:
    """Confusion matrices (..., K, K) -> the METRICS, each (...). Classes without a test image are left out of the means."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)  # (..., K)
    actual, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    present = actual > 0
    recall = np.divide(hits, actual, out=np.zeros_like(hits), where=present)
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


def guessing_limit(truth: Labels, level: float = 0.05) -> float:
    """The balanced accuracy on test images (N,) of these classes that a classifier which guesses reaches with probability `level`, by
    the normal approximation. Repeated guesses share their test images, so that a mean of several is held to the same limit."""
    counts = np.bincount(truth)
    counts, share = counts[counts > 0], 1 / np.count_nonzero(counts)
    variance = share**3 * (1 - share) * (1 / counts).sum()  # of the mean of the classes' recalls
    return float(share + stats.norm.isf(level) * variance**0.5)


def class_metric(class_index: int) -> str:
    """The name of a class's recall among the metrics of `paired_differences`."""
    return f"recall_{class_index}"


def class_of(metric: str) -> int | None:
    """Inverts `class_metric`; None for a metric of all classes."""
    name, _, number = metric.partition("recall_")
    return int(number) if number and not name else None


def paired_differences(
    truth: Labels,
    arm: Labels,
    baseline: Labels,
    num_classes: int,
    gans: Sequence[int] | None = None,
    groups: Labels | None = None,
) -> dict[str, Difference]:
    """The mean paired difference and its interval, for each of METRICS and the recall of each class with test images.

    The variance is that of a hierarchical paired bootstrap over repetitions and test images, which cross, since every repetition
    judges every image; images are drawn within their class (Efron & Tibshirani, 1993, chapter 6). It is computed in closed form,
    as if there were infinitely many resamples and with n / (n - 1) of each class against the bootstrap's bias: exact for accuracies
    and recalls, by influence functions (Efron, 1982, chapter 6) for F1. What repetitions and images have in common is contained in
    both parts and subtracted once, as for rows and columns that cross (Owen, 2007, The pigeonhole bootstrap,
    https://arxiv.org/abs/0712.1111). Student's t with the degrees of freedom of Welch (1947) and Satterthwaite (1946), over the
    repetitions and each class's images, makes few of either give wide intervals. Test images on which the arms always agree do
    not prove that all images are so: see `least_image_variance`.

    `gans` (R,): repetitions with equal numbers, of one GAN, are not independent; their mean counts as one. `groups` (N,): nor are
    test images with equal numbers, say of one person; their sum counts as one: see `_group_variance`.
    """
    numbers = np.arange(len(arm)) if gans is None else np.unique(np.asarray(gans), return_inverse=True)[1]
    units = np.eye(numbers.max() + 1)[numbers]  # (R, U)
    units = units / units.sum(axis=0)
    counts = np.bincount(truth, minlength=num_classes)
    values = single_differences(truth, arm, baseline, num_classes)
    influences = [_influences(truth, predictions, num_classes) for predictions in (arm, baseline)]
    found = {}
    for metric, of_arm in influences[0].items():
        each = units.T @ (of_arm - influences[1][metric])  # (U, N)
        parts, freedoms = _image_variances(each, truth, counts, metric)
        of_images = max(float(parts.sum()), least_image_variance(counts, metric))
        weights = parts if parts.sum() > 0 else np.ones_like(parts)
        freedom = float(weights.sum() ** 2 / (weights**2 / freedoms).sum())
        if groups is not None:
            of_groups, most = _group_variance(each, truth, groups, metric)
            if of_groups > of_images:
                of_images, freedom = of_groups, min(freedom, most)
        means = values[metric] @ units
        of_units = float(means.var(ddof=1)) / len(means)
        found[metric] = _student(values[metric], float(means.mean()), of_units, of_images, len(means), freedom)
    return found


def _influences(truth: Labels, predictions: Labels, num_classes: int) -> dict[str, Floats]:
    """What each image adds to each metric, (R, N): the derivative by its weight, but for what is the same for its whole class."""
    counts = np.bincount(truth, minlength=num_classes).astype(np.float64)
    present = np.count_nonzero(counts)
    hit = (predictions == truth).astype(np.float64)  # (R, N)
    confusion = confusion_matrices(truth, predictions, num_classes)
    hits, either = np.diagonal(confusion, axis1=1, axis2=2), counts + confusion.sum(axis=1)  # (R, K)
    rows = np.arange(len(predictions))[:, None]
    safe = np.where((either > 0) & (counts > 0), either, np.inf)  # classes without a test image are in no mean
    f1 = 2 * hit / safe[:, truth] - (2 * hits / safe**2)[rows, predictions]
    found = {
        "accuracy": hit / len(truth),
        "balanced_accuracy": hit / (present * counts[truth]),
        "macro_f1": f1 / present,
    }
    for k in np.flatnonzero(counts):
        found[class_metric(int(k))] = hit * (truth == k) / counts[k]
    return found


def _image_variances(each: Floats, truth: Labels, counts: Labels, metric: str) -> tuple[Floats, Floats]:
    """From the influences (U, N) the variance that the images of each class give the mean over the units, without what they have in
    common with single units, and its degrees of freedom.

    Classes of fewer than FEW_OF_CLASS images, which may agree by chance, have at least the variance of all classes' images. For F1,
    whose influences are of several classes, they keep their own.
    """
    k = class_of(metric)
    present = np.flatnonzero(counts) if k is None else np.array([k])
    mean = each.mean(axis=0)
    squares = np.zeros((2, len(present)))  # of the mean over the units, and mean over the single units
    for place, label in enumerate(present):
        mine = truth == label
        squares[0, place] = ((mean[mine] - mean[mine].mean()) ** 2).sum()
        squares[1, place] = ((each[:, mine] - each[:, mine].mean(axis=1, keepdims=True)) ** 2).sum(axis=1).mean()
    squares[squares < ROUNDING**2 * (each**2).sum()] = 0.0
    sizes = counts[present].astype(np.float64)
    freedoms = np.maximum(sizes - 1, 1.0)
    variances = np.where(sizes > 1, squares * sizes / freedoms, 0.0)
    few = sizes < FEW_OF_CLASS
    if few.any() and (sizes > 1).any() and metric != "macro_f1":
        scales = np.ones_like(sizes) if metric == "accuracy" else sizes  # an influence is that of one answer over these
        pooled = (squares * scales**2).sum(axis=1) / (sizes - 1).sum()
        variances[:, few] = np.maximum(variances[:, few], (pooled[:, None] * sizes / scales**2)[:, few])
        freedoms[few] = (sizes - 1).sum()
    if len(each) >= LEAST_UNITS:  # of fewer, the common part is not known well enough
        common = (variances[1] - variances[0]) / (len(each) - 1)
        rest = variances[0] - np.maximum(common, 0.0)
        variances[0] = np.where(rest > ROUNDING * variances[0], rest, 0.0)
    return variances[0], freedoms


def _group_variance(each: Floats, truth: Labels, groups: Labels, metric: str) -> tuple[float, float]:
    """The variance that groups (N,) of test images give the mean over the units, by the jackknife that leaves out one group at a time
    (Efron & Tibshirani, 1993, chapter 11), linearized; and the degrees of freedom that so many groups allow: groups of uneven size
    count as n^2 / sum n_g^2 even ones (Kish, 1965). What groups have in common with single repetitions is subtracted, and degrees
    of freedom with it (Satterthwaite). Single images, and a single group, which says nothing of others, count as they are."""
    k = class_of(metric)
    mine = np.ones(len(truth), bool) if k is None else truth == k
    labels, numbers = truth[mine], np.unique(groups[mine], return_inverse=True)[1]
    sizes = np.bincount(numbers).astype(np.float64)
    if len(sizes) in (1, len(labels)):
        return 0.0, np.inf
    centered = each[:, mine].copy()
    for label in np.unique(labels):
        centered[:, labels == label] -= centered[:, labels == label].mean(axis=1, keepdims=True)
    sums = np.stack([np.bincount(numbers, weights=row) for row in centered])  # (U, G)
    sums = sums / (1 - sizes / sizes.sum())  # a group draws the mean, from which it differs, towards itself
    factor, freedom = (len(sizes) - 1) / len(sizes), float(sizes.sum() ** 2 / (sizes**2).sum()) - 1
    variance, of_single = factor * (sums.mean(axis=0) ** 2).sum(), factor * (sums**2).sum(axis=1).mean()
    if len(each) >= LEAST_UNITS and variance > 0:
        rest = max(0.0, 1 - max(0.0, of_single / variance - 1) / (len(each) - 1))
        variance, freedom = variance * rest, freedom * rest**2  # of a difference, Satterthwaite
    return float(variance), max(1.0, freedom)


def least_image_variance(counts: Labels, metric: str) -> float:
    """Lower limit of the variance that the draw of the test images gives a mean of `metric`.

    `counts`: test images of each class. By Laplace's rule of succession the next of n images is one on which the arms differ with
    a probability of at least 1 / (n + 2), whatever the others have shown; a bootstrap of images that agree would say 0.
    """
    if (k := class_of(metric)) is not None:
        counts = counts[[k]]
    present = counts[counts > 0]
    of_each = 1 / (len(present) * present) if metric != "accuracy" else np.full(len(present), 1 / present.sum())
    return float((of_each**2 * present).sum() / (present.sum() + 2))


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
    values: Floats, mean: float, of_repetitions: float, of_images: float, number: int, image_freedom: float
) -> Difference:
    freedom = _freedom(of_repetitions, of_images, number, image_freedom)
    error = (of_repetitions + of_images) ** 0.5
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    p_value = 2 * float(stats.t.sf(abs(mean) / error, freedom))
    low, high = mean - half, mean + half
    return Difference(mean, low, high, p_value, values.tolist(), of_repetitions, of_images, number, image_freedom)


def _freedom(of_repetitions: float, of_images: float, number: int, image_freedom: float) -> float:
    """Degrees of freedom of the sum of both variances: Satterthwaite's, or of few repetitions and of splits their number less one."""
    if number < LEAST_UNITS or not image_freedom:
        return number - 1
    whole = (of_repetitions + of_images) ** 2
    return whole / (of_repetitions**2 / (number - 1) + of_images**2 / image_freedom)


def single_differences(truth: Labels, arm: Labels, baseline: Labels, num_classes: int) -> dict[str, Floats]:
    """The difference (R,) of each repetition, in the metrics of `paired_differences`."""
    present = np.flatnonzero(np.bincount(truth, minlength=num_classes))
    scores = []
    for predictions in (arm, baseline):
        confusion = confusion_matrices(truth, predictions, num_classes)
        recall = recalls(confusion)
        scores.append(score(confusion) | {class_metric(int(k)): recall[:, k] for k in present})
    return {metric: scores[0][metric] - scores[1][metric] for metric in scores[0]}


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
    each, numbers = difference.of_repetitions * difference.num_units, _growing(difference.num_units)
    steps = [(each / number, difference.of_images, number, difference.image_freedom) for number in numbers]
    place = _first_settled(difference.mean, margin, steps)
    return None if place is None else numbers[place]


def needed_images(difference: Difference, margin: float) -> float | None:
    """How many times as many test images would do so; None if the repetitions do not allow it, or if splits have their own."""
    if not difference.image_freedom:
        return None
    of_repetitions, of_images = difference.of_repetitions, difference.of_images
    several = [percent / 100 for percent in _growing(100)]
    steps = [(of_repetitions, of_images / n, difference.num_units, difference.image_freedom * n) for n in several]
    place = _first_settled(difference.mean, margin, steps)
    return None if place is None else several[place]


def _growing(start: int) -> list[int]:
    steps = np.arange(0, int(np.log(MOST) / np.log(1.02)))
    return sorted({int(np.ceil(start * 1.02**step)) for step in steps})


def _first_settled(mean: float, margin: float, steps: Sequence[tuple[float, float, int, float]]) -> int | None:
    """The first of `steps`, arguments of `_freedom`, where the interval would not be inconclusive."""
    freedoms = np.array([_freedom(*step) for step in steps])
    errors = np.array([of_repetitions + of_images for of_repetitions, of_images, *_ in steps]) ** 0.5
    half = stats.t.ppf((1 + LEVEL) / 2, freedoms) * errors
    settled = np.flatnonzero((abs(mean) > half) | (abs(mean) + half < margin))
    return int(settled[0]) if len(settled) else None
