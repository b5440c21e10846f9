"""The map of real and synthetic images and the walks between noises, as drawings, sheets of thumbnails and data for the page's script."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .pictures import FeatureMap, Walks
from .sprites import LOSSLESS_SHEETS, Sprite, make_sheet
from .words import shorten

SIDE, MARGIN, CROSS = 640, 26, 4  # width of the map, its margins and half a cross, in its own units
LEAST_HEIGHT = 0.4  # of the width
SHEET_COLUMNS = 10
MOST_NAMED = 24  # classes up to which their names stand on the map
NAME_LETTERS = 13  # of such a name
NAME_SIZE, LINE_HEIGHT = 27.0, 32.0  # of its letters, in units of the map, as on a phone
NEIGHBOURHOOD = 60.0  # units around a place within which images count for how dense its class is there
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
    """The name of a class where its images are densest, in its colour."""

    text: str
    x: float
    y: float
    hue: int  # degrees


@dataclass(frozen=True)
class MapPicture:
    groups: Sequence[Group]
    names: Sequence[MapName]
    label: str
    data: dict[str, Any]  # for page.js
    classes: Sequence[tuple[int, str]]  # on the map, for its filter
    most: int  # points of one class and kind
    height: int
    legend: Sequence[tuple[str, int]]  # (class, hue); empty of many classes

    @property
    def width(self) -> int:
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
    at, height = _fit(found.places.astype(np.float64))
    lossless = found.images.size <= LOSSLESS_SHEETS
    present = np.unique(found.labels).tolist()
    hues = {k: round(360 * k / len(class_names)) for k in present}
    named = len(present) <= MOST_NAMED
    groups, parts, order = [], [], []
    for kind, synthetic in (("synthetic", True), ("real", False)):
        for k in present:
            rows = np.flatnonzero((found.labels == k) & (found.synthetic == synthetic))
            if not len(rows):
                continue
            sheet = make_sheet(found.images[rows], min(SHEET_COLUMNS, len(rows)), lossless)
            groups.append(Group(k, kind, _path(at[rows], synthetic), hues[k]))
            parts.append({"class": k, "kind": kind, "count": len(rows), "sheet": sheet.uri})
            order += rows.tolist()
    position = {row: number for number, row in enumerate(order)}
    side = min(found.images.shape[1], MAP_TILE)
    num_synthetic = int(found.synthetic.sum())
    return MapPicture(
        groups=groups,
        names=_place_names(at, height, found.labels, class_names, hues) if named else [],
        label=(
            f"Map of {len(order) - num_synthetic} real images (dots) and {num_synthetic} synthetic ones (crosses) of "
            f"{len(present)} classes: images that a classifier finds alike lie near one another."
        ),
        data={
            "width": SIDE,
            "height": height,
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
        height=height,
        legend=[(class_names[k], hues[k]) for k in present] if named else [],
    )


def _fit(places: np.ndarray) -> tuple[np.ndarray, int]:
    """Places (n, 2) in units of a map that they fill from side to side, and its height; both axes keep one scale. The longer one lies
    along the width: the axes of such a map mean nothing."""
    low, high = places.min(axis=0), places.max(axis=0)
    if high[1] - low[1] > high[0] - low[0]:
        places, low, high = places[:, ::-1], low[::-1], high[::-1]
    scale = (SIDE - 2 * MARGIN) / max(float(high[0] - low[0]), 1e-9)
    height = round(max(LEAST_HEIGHT * SIDE, 2 * MARGIN + scale * float(high[1] - low[1])))
    return np.array([SIDE, height]) / 2 + scale * (places - (low + high) / 2), height


def _path(places: np.ndarray, synthetic: bool) -> str:
    """A dot is a line of no length with round ends."""
    mark = f"l{2 * CROSS} {2 * CROSS}m0-{2 * CROSS}l-{2 * CROSS} {2 * CROSS}" if synthetic else "h0"
    corner = places - CROSS if synthetic else places
    return "".join(f"M{x:g} {y:g}{mark}" for x, y in np.round(corner, 1).tolist())


def _place_names(
    at: np.ndarray, height: int, labels: np.ndarray, class_names: Sequence[str], hues: Mapping[int, int]
) -> list[MapName]:
    """Each on the image of its class that has the most of it and the least of others around, where no other name stands yet; a name
    for which there is no room is left out."""
    near = np.linalg.norm(at[:, None] - at[None], axis=2) < NEIGHBOURHOOD
    placed: list[MapName] = []
    for k, hue in hues.items():
        mine = labels == k
        own = near[np.ix_(mine, mine)].sum(axis=1)
        text = shorten(class_names[k], NAME_LETTERS)
        half = _width(text) / 2
        room = np.array(
            [[min(half, SIDE / 2), LINE_HEIGHT / 2], [max(SIDE - half, SIDE / 2), height - LINE_HEIGHT / 2]]
        )
        for x, y in np.clip(at[mine][np.argsort(-(own**2) / near[mine].sum(axis=1), kind="stable")], *room).tolist():
            if all(
                abs(y - other.y) >= LINE_HEIGHT or abs(x - other.x) >= half + _width(other.text) / 2 for other in placed
            ):
                placed.append(MapName(text, round(x, 1), round(y, 1), hue))
                break
    return placed


def _width(text: str) -> float:
    """About that of a bold name in a wide font, in units of the map."""
    wide = {letter: unicodedata.east_asian_width(letter) in "WF" or letter in "MWmw@%" for letter in text}
    return NAME_SIZE * sum(1.1 if wide[letter] else 0.8 if letter.isupper() else 0.7 for letter in text)


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
