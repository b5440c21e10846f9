"""The map of real and synthetic images and the walks between noises, as drawings, sheets of thumbnails and data for the page's script."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .pictures import FeatureMap, Walks
from .sprites import LOSSLESS_SHEETS, Sprite, make_sheet
from .words import shorten

SIDE, MARGIN, CROSS = 640, 26, 4  # of the map and half a cross, in its own units
SHEET_COLUMNS = 10
MOST_NAMED = 24  # classes up to which their names stand on the map
NAME_LETTERS, LETTER_WIDTH, LINE_HEIGHT = 13, 13.0, 24.0  # of such a name; the others in units of the map
CORE = 0.95  # of the images of a class, above which its name stands: a stray one does not move it
MAP_TILE = 144  # CSS pixels, about, of the thumbnail that is looked at
WALK_GAP = 2  # pixels between two walks


@dataclass(frozen=True)
class Group:
    """The points of one class and kind."""

    class_index: int
    kind: str  # "real" or "synthetic"
    path: str  # of an SVG
    hue: int  # degrees


@dataclass(frozen=True)
class MapName:
    """The name of a class above its images, or below them where there is no room."""

    text: str
    x: float
    y: float


@dataclass(frozen=True)
class MapPicture:
    groups: Sequence[Group]
    names: Sequence[MapName]
    label: str
    data: dict[str, Any]  # for page.js
    classes: Sequence[tuple[int, str]]  # on the map, for its filter
    most: int  # points of one class and kind

    @property
    def side(self) -> int:
        return SIDE


@dataclass(frozen=True)
class WalkPicture:
    """A sheet with a column for each walk and a row for each step."""

    class_name: str
    sheet: Sprite
    walks: int
    steps: int

    @property
    def aspect(self) -> str:
        """Of one row, for CSS."""
        return f"{self.sheet.width * self.steps} / {self.sheet.height}"


def draw_map(found: FeatureMap, class_names: Sequence[str]) -> MapPicture:
    """Synthetic images as crosses, real ones as dots above them, a colour for each class."""
    at = MARGIN + (SIDE - 2 * MARGIN) * found.places.astype(np.float64)
    lossless = found.images.size <= LOSSLESS_SHEETS
    present = np.unique(found.labels).tolist()
    groups, parts, order = [], [], []
    for kind, synthetic in (("synthetic", True), ("real", False)):
        for k in present:
            rows = np.flatnonzero((found.labels == k) & (found.synthetic == synthetic))
            if not len(rows):
                continue
            sheet = make_sheet(found.images[rows], min(SHEET_COLUMNS, len(rows)), lossless)
            groups.append(Group(k, kind, _path(at[rows], synthetic), round(360 * k / len(class_names))))
            parts.append({"class": k, "kind": kind, "count": len(rows), "sheet": sheet.uri})
            order += rows.tolist()
    position = {row: number for number, row in enumerate(order)}
    side = min(found.images.shape[1], MAP_TILE)
    num_synthetic = int(found.synthetic.sum())
    return MapPicture(
        groups=groups,
        names=_place_names(at, found, class_names, present) if len(present) <= MOST_NAMED else [],
        label=(
            f"Map of {len(order) - num_synthetic} real images (dots) and {num_synthetic} synthetic ones (crosses) of "
            f"{len(present)} classes: images that a classifier finds alike lie near one another."
        ),
        data={
            "side": SIDE,
            "cross": CROSS,
            "columns": SHEET_COLUMNS,
            "tile": side * max(1, round(MAP_TILE / side)),
            "names": list(class_names),
            "groups": parts,
            "places": np.round(at[order].ravel(), 1).tolist(),
            "nearest": [position.get(row, -1) for row in found.nearest[order].tolist()],
        },
        classes=[(k, class_names[k]) for k in present],
        most=max(part["count"] for part in parts),
    )


def _path(places: np.ndarray, synthetic: bool) -> str:
    """A dot is a line of no length with round ends."""
    mark = f"l{2 * CROSS} {2 * CROSS}m0-{2 * CROSS}l-{2 * CROSS} {2 * CROSS}" if synthetic else "h0"
    corner = places - CROSS if synthetic else places
    return "".join(f"M{x:g} {y:g}{mark}" for x, y in np.round(corner, 1).tolist())


def _place_names(
    at: np.ndarray, found: FeatureMap, class_names: Sequence[str], present: Sequence[int]
) -> list[MapName]:
    """Amid the most images of the class; moved on where another name stands."""
    placed: list[MapName] = []
    for k in present:
        x, low, high = (float(value) for value in _core(at[found.labels == k]))
        text = shorten(class_names[k], NAME_LETTERS)
        half = LETTER_WIDTH * len(text) / 2
        x = float(np.clip(x, half, SIDE - half))
        up = low - LINE_HEIGHT >= 0
        y = low - 0.7 * LINE_HEIGHT if up else high + 0.7 * LINE_HEIGHT
        while any(
            abs(y - other.y) < LINE_HEIGHT and abs(x - other.x) < half + LETTER_WIDTH * len(other.text) / 2
            for other in placed
        ):
            y += LINE_HEIGHT
        placed.append(MapName(text, round(x, 1), round(min(y, SIDE - LINE_HEIGHT / 2), 1)))
    return placed


def _core(places: np.ndarray) -> tuple[float, float, float]:
    """Of places (n, 2): the median x of the share CORE that is nearest to the median, and the least and the largest y there."""
    distance = np.linalg.norm(places - np.median(places, axis=0), axis=1)
    core = places[distance <= np.quantile(distance, CORE)]
    return float(np.median(core[:, 0])), float(core[:, 1].min()), float(core[:, 1].max())


def draw_walks(found: Walks, class_names: Sequence[str]) -> list[WalkPicture]:
    """A sheet for each class that has a walk."""
    lossless = found.images.size <= LOSSLESS_SHEETS
    pictures = []
    for k, walks in zip(found.labels.tolist(), found.images, strict=True):
        present = walks[walks.reshape(len(walks), -1).any(axis=1)]
        if not len(present):
            continue
        by_step = present.swapaxes(0, 1).reshape(-1, *present.shape[2:])  # (T * W, S, S, C)
        sheet = make_sheet(by_step, len(present), lossless, (WALK_GAP, 0))
        pictures.append(WalkPicture(class_names[k], sheet, len(present), present.shape[1]))
    return pictures
