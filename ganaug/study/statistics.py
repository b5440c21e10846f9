"""Scores and paired differences with intervals. Pure functions on arrays; no file, no training.

Predictions are integers (num_seeds, num_images) of the same test images, paired: row s of two arms had the same seed.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NUM_RESAMPLES = 1000
METRICS = ("accuracy", "balanced_accuracy", "macro_f1")


@dataclass(frozen=True)
class Difference:
    """An arm minus its baseline in one metric, as fractions; `low` to `high` is the 95 % interval."""

    mean: float
    low: float
    high: float
    values: list[float]  # for each seed


def confusion_matrices(truth: Labels, predictions: Labels, num_classes: int, weights: Floats | None = None) -> Floats:
    """(num_seeds, K, K), rows the truth. `weights` (num_images,) counts each image so often."""
    weights = np.ones(len(truth)) if weights is None else weights
    cells = truth * num_classes + predictions  # (num_seeds, num_images)
    counts = [np.bincount(row, weights, minlength=num_classes**2) for row in cells]
    return np.asarray(counts, np.float64).reshape(-1, num_classes, num_classes)


def score(confusion: Floats) -> dict[str, Floats]:
    """Confusion matrices (..., K, K) -> the METRICS, each (...). Classes without a test image are left out of the means."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)  # (..., K)
    actual, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    present = actual > 0
    recall = np.divide(hits, actual, out=np.zeros_like(hits), where=present)
    f1 = np.divide(2 * hits, actual + predicted, out=np.zeros_like(hits), where=(actual + predicted) > 0)
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


def paired_differences(
    truth: Labels, arm: Labels, baseline: Labels, num_classes: int, seed: int = 0, level: float = 0.95
) -> dict[str, Difference]:
    """For each metric the mean paired difference and its interval.

    Two sources of chance are counted: the seeds of the training, by the variance over the pairs, and the draw of the test
    images, by bootstrap within each class (Efron & Tibshirani, 1993, chapter 6). Their variances add, as in a crossed design
    (the part that both share is then counted twice, so the interval errs on the wide side), and Student's t takes the
    degrees of freedom of Welch (1947) and Satterthwaite (1946), so that few seeds give wide intervals. Test images on which
    the arms always agree do not prove that all images are so: see `least_image_variance`.
    """
    num_images = arm.shape[1]
    observed = _metric_differences(truth, arm, baseline, num_classes, np.ones(num_images))
    rng = np.random.default_rng(seed)
    resampled: dict[str, list[float]] = {metric: [] for metric in METRICS}
    rows_of_class = [rows for rows in (np.flatnonzero(truth == k) for k in range(num_classes)) if len(rows)]
    for _ in range(NUM_RESAMPLES):
        weights = np.zeros(num_images)
        for rows in rows_of_class:
            weights[rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)))
        for metric, values in _metric_differences(truth, arm, baseline, num_classes, weights).items():
            resampled[metric].append(float(values.mean()))
    counts = np.bincount(truth, minlength=num_classes)
    return {
        metric: _interval(
            values,
            max(float(np.var(resampled[metric], ddof=1)), least_image_variance(counts, by_class=metric != "accuracy")),
            num_images,
            level,
        )
        for metric, values in observed.items()
    }


def least_image_variance(counts: Labels, by_class: bool) -> float:
    """Lower limit of the variance that the draw of the test images gives a mean, over classes or over images.

    `counts`: test images of each class. By Laplace's rule of succession the next image of a class is one on which the arms
    differ with a probability of at least 1 / (n + 2), whatever n images have shown; a bootstrap of few images that agree
    would say 0.
    """
    present = counts[counts > 0]
    if by_class:
        return float((1 / (present * (present + 2))).sum() / len(present) ** 2)
    return float((present / (present + 2)).sum() / present.sum() ** 2)


def _metric_differences(
    truth: Labels, arm: Labels, baseline: Labels, num_classes: int, weights: Floats
) -> dict[str, Floats]:
    scores = [score(confusion_matrices(truth, predictions, num_classes, weights)) for predictions in (arm, baseline)]
    return {metric: scores[0][metric] - scores[1][metric] for metric in METRICS}


def _interval(values: Floats, of_images: float, num_images: int, level: float) -> Difference:
    num_seeds = len(values)
    of_seeds = float(values.var(ddof=1)) / num_seeds
    mean, variance = float(values.mean()), of_seeds + of_images
    freedom = variance**2 / (of_seeds**2 / (num_seeds - 1) + of_images**2 / max(1, num_images - 1))
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * variance**0.5
    return Difference(mean, mean - half, mean + half, values.tolist())
