"""What would make a verdict worthless: a test image that was trained on, seen by fingerprints of what the classifiers get."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..classify.training import Labeled
from ..data.cache import ImageSet
from ..data.duplicates import crossing_pairs, fingerprint
from ..errors import GanaugError

SHOWN = 3  # pairs that a message names


@dataclass(frozen=True)
class Leak:
    """A test image that shows the same as an image to train on, perhaps mirrored."""

    test: str
    copy_of: str


def find_leaks(images: ImageSet) -> list[Leak]:
    """The test images that copy images that are trained on: the same picture, resaved, resized, brightened or mirrored."""
    train, test = images.indices("train"), images.indices("test")
    pairs = crossing_pairs(_fingerprints(images, train), _fingerprints(images, test))
    same = {images.images[row].tobytes(): row for row in train}
    for number, row in enumerate(test):  # nearly uniform images have no fingerprint
        if (twin := same.get(images.images[row].tobytes())) is not None:
            pairs.setdefault(number, int(np.searchsorted(train, twin)))
    return [Leak(images.files[test[mine]], images.files[train[other]]) for mine, other in sorted(pairs.items())]


def find_copies_of_tests(images: ImageSet, given: Labeled, origin: Path) -> list[Leak]:
    """The test images that an image of a foreign pool shows: no generator that has not seen them makes these."""
    test = images.indices("test")
    prints = np.stack([fingerprint(np.moveaxis(image, 0, 2)) for image in given.images])
    pairs = crossing_pairs(prints, _fingerprints(images, test))
    return [Leak(images.files[test[mine]], f"an image of {origin}") for mine in sorted(pairs)]


def refuse_leaks(leaks: Sequence[Leak], drop: bool, num_test: int, origin: object) -> frozenset[str]:
    """The test files to leave out. Raises `GanaugError` where there are any and `drop` does not allow it."""
    first: dict[str, Leak] = {}
    for leak in leaks:  # a test image may copy several others
        first.setdefault(leak.test, leak)
    leaks = list(first.values())
    if not leaks:
        return frozenset()
    named = ", ".join(f"{leak.test} = {leak.copy_of}" for leak in leaks[:SHOWN])
    more = f" and {len(leaks) - SHOWN} more" if len(leaks) > SHOWN else ""
    found = f"{len(leaks)} of {num_test} test images of {origin} copy images that are trained on ({named}{more})"
    if not drop:
        raise GanaugError(
            f"{found}, so the test would score what was trained on. Leave them out with --drop-duplicates, or mend the data."
        )
    if len(leaks) == num_test:
        raise GanaugError(f"{found}: nothing is left to test on. Give other test images.")
    return frozenset(leak.test for leak in leaks)


def _fingerprints(images: ImageSet, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    return np.stack([fingerprint(np.moveaxis(np.asarray(images.images[row]), 0, 2)) for row in rows])
