"""Images without labels, beside the labeled ones: of the same kind and size, without those that show what a labeled one shows."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import GanaugError
from ..progress import say, warn
from ..runs import save_array, write_text
from .duplicates import crossing_pairs, fingerprint
from .images import Pixels, Resize, match_channels
from .scan import scan
from .source import open_unlabeled

IMAGES, INDEX = "unlabeled.npy", "unlabeled.csv"
UNKNOWN = -1


@dataclass(frozen=True)
class Unlabeled:
    """Images (M, C, S, S) uint8, mapped from disk, and their names. `labels` (M,) index the classes: what `fit` takes them for,
    UNKNOWN where it is not sure; None before it has looked."""

    images: Pixels
    files: tuple[str, ...]
    labels: npt.NDArray[np.int64] | None

    def sure(self) -> tuple[Pixels, npt.NDArray[np.int64]]:
        """Images (m, C, S, S) and labels (m,) of those that are known well enough to learn from, in memory."""
        rows = self._sure_rows()
        return np.asarray(self.images[rows]), np.empty(0, np.int64) if self.labels is None else self.labels[rows]

    def sure_files(self) -> tuple[str, ...]:
        """Their names (m,)."""
        return tuple(self.files[row] for row in self._sure_rows())

    def _sure_rows(self) -> npt.NDArray[np.int64]:
        return np.empty(0, np.int64) if self.labels is None else np.flatnonzero(self.labels != UNKNOWN)


def save_unlabeled(folder: Path, images: Pixels, files: Sequence[str]) -> None:
    """Images that `fit` has not looked at yet."""
    save_array(folder / IMAGES, images)
    save_labels(folder, files, None)


def save_labels(folder: Path, files: Sequence[str], labels: npt.NDArray[np.int64] | None) -> None:
    """What the images of the folder are taken for, once `fit` has looked."""
    found = [""] * len(files) if labels is None else labels.tolist()
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("file", "label"), *zip(files, found, strict=True)])
    write_text(folder / INDEX, text.getvalue())


def load_unlabeled(folder: Path) -> Unlabeled | None:
    """What was saved in the folder; None where there is nothing. Raises `OSError`, `ValueError` or `KeyError` if it is damaged."""
    if not (folder / INDEX).is_file():
        return None
    with (folder / INDEX).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    images = np.load(folder / IMAGES, mmap_mode="r")
    if len(images) != len(rows):
        raise ValueError(f"{IMAGES} holds {len(images)} images, {INDEX} names {len(rows)}")
    looked = any(row["label"] for row in rows)
    labels = np.array([row["label"] for row in rows], np.int64) if looked else None
    return Unlabeled(images, tuple(row["file"] for row in rows), labels)


def read_unlabeled(path: Path, labeled: Pixels, how: Resize) -> tuple[Pixels, list[str]]:
    """The images (M, C, S, S) uint8 of a folder or zip, wherever they lie in it, and their names (M,), as large as the `labeled` ones
    (N, C, S, S), with as many channels.

    Left out, with a line that says so, are unreadable files, all but one of exact copies, and what shows the same as a labeled
    image, perhaps mirrored: a test image would be trained on, and of a training image the label is known.

    Raises `GanaugError` where nothing is left.
    """
    channels, size = labeled.shape[1], labeled.shape[-1]
    found = scan(open_unlabeled(path), size, how, "reading unlabeled images")
    assert found.pixels is not None
    broken = [record.name for record in found.records if record.error is not None]
    if broken:
        warn(
            f"{len(broken)} of {len(found.records)} files of {path} cannot be read and are left out, such as {broken[0]}"
        )
    first: dict[str, int] = {}
    for row, record in enumerate(found.records):
        if record.error is None:
            first.setdefault(record.sha256, row)
    rows = list(first.values())
    pixels = [found.pixels[row] for row in rows]
    images = [np.moveaxis(match_channels(one, channels), 2, 0) for one in pixels if one is not None]
    copies = find_labeled(images, labeled)
    if copies:
        shown = found.records[rows[min(copies)]].name
        say(
            f"{len(copies)} of {len(rows)} unlabeled images show what a labeled one shows and are left out, such as {shown}"
        )
    kept = [number for number in range(len(rows)) if number not in copies]
    if not kept:
        raise GanaugError(
            f"{path} holds no unlabeled image that is readable and new. Leave it out, or give other images."
        )
    return np.stack([images[number] for number in kept]), [found.records[rows[number]].name for number in kept]


def find_labeled(images: list[Pixels], labeled: Pixels) -> set[int]:
    """Which of the images (C, S, S) show what one of the `labeled` (N, C, S, S) shows, perhaps mirrored."""
    if not images:
        return set()
    known, asked = (
        np.stack([fingerprint(np.moveaxis(image, 0, 2)) for image in several]) for several in (labeled, images)
    )
    same = {image.tobytes() for image in labeled}  # nearly uniform images have no fingerprint
    exact = {number for number, image in enumerate(images) if image.tobytes() in same}
    return exact | crossing_pairs(known, asked).keys()
