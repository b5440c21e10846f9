"""What a synthetic image may be rejected for. A filter is a function from the evidence on N candidates to a mask of those to keep;
its name in `FILTERS` is the reason that the manifest gives.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..data.duplicates import new_pairs
from ..settings import FilterName

Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Evidence:
    """What is known of N candidates, in the order in which they were made."""

    labels: Indices  # (N,) classes asked for
    class_probability: Values  # (N,) of that class, the least that any referee gives
    realism: Values | None  # (N,) logits of the discriminator; None where there is none
    nearest: Indices  # (N,) row of the nearest real image
    distance: Values  # (N,) to it, in pixels: see `memorization.Nearest`
    relative: Values  # (N,) the same relative to other real images
    strangeness: Values  # (N,) distance in features to the nearest real image, relative to real images'
    fingerprints: npt.NDArray[np.float32]  # (N, 16, 16)
    features: npt.NDArray[np.float32]  # (N, F) of the first referee
    cells: Indices  # (N,) of the class's real images, the one whose centre is nearest there


@dataclass(frozen=True)
class Limits:
    """Of each class (num_classes,), from its real images, but for `unrealistic`."""

    class_probability: Values
    relative: Values
    distance: Values
    strangeness: Values
    unrealistic: float  # share of the candidates


Filter = Callable[[Evidence, Limits, Mask, npt.NDArray[np.float32]], Mask]


def right_class(evidence: Evidence, limits: Limits, passed: Mask, kept: npt.NDArray[np.float32]) -> Mask:
    """To every referee, also to the one that has not seen the image that it resembles, its class is as probable as that of
    nearly all real images of the class is to the one that has not seen them, or more probable than all others."""
    return evidence.class_probability >= limits.class_probability[evidence.labels]


def no_copy(evidence: Evidence, limits: Limits, passed: Mask, kept: npt.NDArray[np.float32]) -> Mask:
    """No real image is so much nearer than others."""
    return evidence.relative >= limits.relative[evidence.labels]


def near_enough(evidence: Evidence, limits: Limits, passed: Mask, kept: npt.NDArray[np.float32]) -> Mask:
    """It is not farther from everything real, in pixels or in features, than nearly all real images are."""
    near_in_features = evidence.strangeness <= limits.strangeness[evidence.labels]
    return near_in_features & (evidence.distance <= limits.distance[evidence.labels])


def realistic(evidence: Evidence, limits: Limits, passed: Mask, kept: npt.NDArray[np.float32]) -> Mask:
    """The discriminator finds it no less real than all but a few of the candidates: a coarse form of discriminator rejection
    sampling (Azadi et al., 2019, https://arxiv.org/abs/1810.06758)."""
    if evidence.realism is None:
        return np.ones(len(evidence.labels), bool)
    return evidence.realism >= np.quantile(evidence.realism, limits.unrealistic)


def no_duplicate(evidence: Evidence, limits: Limits, passed: Mask, kept: npt.NDArray[np.float32]) -> Mask:
    """No image before it, of those that passed the other filters here or are `kept` (M, 16, 16) already, shows the same."""
    alone = np.ones(len(passed), bool)
    rows = np.flatnonzero(passed)
    if not len(rows):
        return alone
    known, among = new_pairs(kept, evidence.fingerprints[rows])
    alone[rows[known[:, 1]]] = False
    for first, second in among.tolist():
        if alone[rows[first]]:
            alone[rows[second]] = False
    return alone


FILTERS: dict[FilterName, Filter] = {
    "copy": no_copy,
    "wrong-class": right_class,
    "outlier": near_enough,
    "unrealistic": realistic,
    "duplicate": no_duplicate,  # last: a duplicate of what is rejected is none
}


def apply_filters(
    evidence: Evidence, limits: Limits, kept: npt.NDArray[np.float32], without: tuple[str, ...] = ()
) -> list[tuple[FilterName, ...]]:
    """The reasons against each candidate; () for those that pass all filters but `without`."""
    passed = np.ones(len(evidence.labels), bool)
    reasons: list[tuple[FilterName, ...]] = [() for _ in passed]
    for name, keeps in FILTERS.items():
        if name in without:
            continue
        mask = keeps(evidence, limits, passed, kept)
        passed = passed & mask
        for row in np.flatnonzero(~mask):
            reasons[row] += (name,)
    return reasons
