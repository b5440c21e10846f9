"""What became of the images that were tested: counts, reasons, the data-copying statistic and the closest pairs of each class."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..data.duplicates import SIDE
from ..data.images import Pixels
from ..measures import Features
from ..reporting.pictures import PairPicture
from .curation import Curator
from .filters import Evidence, Indices
from .memorization import data_copying

MEASURED = 2000  # images of a class whose distances are kept for the data-copying test
PAIRS, SHOWN = 6, 36  # the closest ones of a class that are kept; of all classes, on a page
COPYING = -3.0  # C_T below which a class counts as copied


@dataclass(frozen=True)
class Pair:
    """A synthetic image (C, S, S) and the row of the real one that it is nearest to."""

    relative: float
    distance: float
    class_name: str
    file: str
    image: Pixels
    nearest: int
    reasons: tuple[str, ...]


@dataclass
class Tally:
    """Of one class. `asked` is None where a given folder is judged."""

    class_name: str
    asked: int | None = None
    candidates: int = 0
    kept: int = 0
    passed: int = 0  # that no filter rejected, whether they were needed or not
    reasons: Counter[str] = field(default_factory=Counter)
    distances: list[float] = field(default_factory=list)  # to the nearest real image
    pairs: list[Pair] = field(default_factory=list)
    taken: Indices = field(
        default_factory=lambda: np.zeros(0, np.int64)
    )  # images kept of each cell of the class, once there are some
    seen: Features = field(
        default_factory=lambda: np.empty((0, SIDE, SIDE), np.float32)
    )  # fingerprints of the last ones kept

    def add(
        self,
        evidence: Evidence,
        images: Pixels,
        files: Sequence[str],
        reasons: Sequence[tuple[str, ...]],
        num_kept: int,
    ) -> None:
        """Counts N images (N, C, S, S); `files` are their names, or empty."""
        self.candidates += len(images)
        self.kept += num_kept
        self.passed += sum(not names for names in reasons)
        self.reasons.update(name for names in reasons for name in names)
        self.distances += evidence.distance[: max(0, MEASURED - len(self.distances))].tolist()
        for i in np.argsort(evidence.relative)[:PAIRS].tolist():
            relative, distance, row = float(evidence.relative[i]), float(evidence.distance[i]), int(evidence.nearest[i])
            self.pairs.append(Pair(relative, distance, self.class_name, files[i], images[i].copy(), row, reasons[i]))
        self.pairs = sorted(self.pairs, key=lambda pair: pair.relative)[:PAIRS]

    @property
    def acceptance(self) -> float:
        """Share of the candidates that no filter rejected or that were kept; 0 where there were none."""
        return self.kept / self.candidates if self.candidates else 0.0

    def complain(self) -> str | None:
        """A sentence where fewer images were made than asked for."""
        if self.asked is None or self.kept >= self.asked:
            return None
        if not self.reasons:
            return f"class {self.class_name}: {self.kept} of {self.asked} images: curation.keep takes too few. Raise it (--keep 1)."
        worst = ", ".join(f"{name} {count / self.candidates:.0%}" for name, count in self.reasons.most_common(2))
        return (
            f"class {self.class_name}: {self.kept} of {self.asked} images; {self.candidates} candidates were made and "
            f"{self.acceptance:.0%} kept (rejected as {worst}). Train longer, or leave a filter out (--no-filter, or curation.without)."
        )


def describe_harvest(tallies: Sequence[Tally]) -> tuple[int, str]:
    """How many images of those asked for are there, or will never be, and what is being made: for the progress of a harvest, which
    takes one class after the other."""
    begun = [tally for tally in tallies if tally.candidates]
    if not begun:
        return 0, ""
    current = begun[-1]
    done = sum(tally.asked or 0 for tally in begun[:-1]) + current.kept
    return done, f"class {current.class_name}: {current.kept:,} of {current.candidates:,} candidates kept"


def closest_pairs(tallies: Sequence[Tally], curator: Curator) -> list[PairPicture]:
    """The synthetic images that come nearest to a training image, relative to others, each beside it."""
    pairs = sorted((pair for tally in tallies for pair in tally.pairs), key=lambda pair: pair.relative)[:SHOWN]
    return [
        PairPicture(
            synthetic=pair.image.transpose(1, 2, 0),
            real=curator.real.images[pair.nearest].transpose(1, 2, 0),
            class_name=pair.class_name,
            file=pair.file,
            real_file=curator.real.files[pair.nearest],
            relative=pair.relative,
            limit=float(curator.limits.relative[curator.real.class_names.index(pair.class_name)]),
            reasons=pair.reasons,
        )
        for pair in pairs
    ]


def summarize(tallies: Sequence[Tally], curator: Curator) -> dict[str, Any]:
    """The tallies as JSON: {"classes": {class: {...}}, "summary": {...}}."""
    classes: dict[str, dict[str, Any]] = {}
    for tally in tallies:
        k = curator.real.class_names.index(tally.class_name)
        own = curator.real.labels == k
        statistic = (
            data_copying(np.array(tally.distances), curator.nearest.distance[own]) if own.sum() > 1 else float("nan")
        )
        classes[tally.class_name] = {
            "real": int(own.sum()),
            "asked": tally.asked,
            "candidates": tally.candidates,
            "kept": tally.kept,
            "rejected": dict(sorted(tally.reasons.items())),
            "surplus": tally.passed - tally.kept,
            "data_copying": None if np.isnan(statistic) else round(statistic, 3),
        }
    total = sum((tally.reasons for tally in tallies), Counter[str]())
    copying = [name for name, values in classes.items() if (values["data_copying"] or 0.0) < COPYING]
    summary = {
        "candidates": sum(tally.candidates for tally in tallies),
        "kept": sum(tally.kept for tally in tallies),
        "rejected": dict(sorted(total.items())),
        "classes_that_copy": copying,
    }
    return {"classes": classes, "summary": summary}
