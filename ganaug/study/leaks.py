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
    """The test images that copy images that are trained on: the same picture, resaved, resized, brightened, or mirrored within its
    class."""
    train = np.flatnonzero(images.splits != "test")  # a validation split chooses the GAN's checkpoint
    known = Labeled(np.asarray(images.images[train]), images.labels[train])
    return [Leak(test, images.files[train[row]]) for test, row in _copies_of(images, known)]


def find_copies_of_tests(images: ImageSet, given: Labeled, origin: Path) -> list[Leak]:
    """The test images that an image of a foreign pool shows: no generator that has not seen them makes these."""
    return [Leak(test, f"an image of {origin}") for test, _ in _copies_of(images, given)]


def _copies_of(images: ImageSet, known: Labeled) -> list[tuple[str, int]]:
    """(test file, row of `known` that it shows) of every test image that shows one."""
    rows = images.indices("test")
    asked = Labeled(np.asarray(images.images[rows]), images.labels[rows])
    pairs = crossing_pairs(_fingerprints(known), _fingerprints(asked), (known.labels, asked.labels))
    same = {image.tobytes(): row for row, image in enumerate(known.images)}
    for number, image in enumerate(asked.images):  # nearly uniform images have no fingerprint
        if (twin := same.get(image.tobytes())) is not None:
            pairs.setdefault(number, twin)
    return [(images.files[rows[mine]], other) for mine, other in sorted(pairs.items())]


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


def _fingerprints(labeled: Labeled) -> npt.NDArray[np.float32]:
    return np.stack([fingerprint(np.moveaxis(image, 0, 2)) for image in labeled.images])
