"""What a study keeps to show of its images, as arrays in .npz files: a map of them, walks between noises, the closest pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.images import resize
from ..runs import written_whole
from .sprites import Images, Sprite, make_sprite

MAP, WALKS, PAIRS = "map.npz", "walks.npz", "pairs.npz"
PAIR_SIDE = 96  # pixels; larger images are kept reduced
MOST_PAIRS = 12  # that are kept for the report

TEXT_OF_PAIRS = {"class_name": "class_name", "synthetic_file": "file", "real_file": "real_file"}  # array -> field
NUMBERS_OF_PAIRS = {name: name for name in ("relative", "limit")}

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class FeatureMap:
    """n images of a study, laid out so that those which a classifier finds alike lie near one another."""

    places: NDArray[np.float32]  # (n, 2) in 0..1, x to the right and y down
    labels: NDArray[np.int64]  # (n,)
    synthetic: NDArray[np.bool_]  # (n,) else real
    nearest: NDArray[
        np.int64
    ]  # (n,) of each the row of the nearest one of the other kind, by features; -1: there is none
    images: Images  # (n, S, S, C)


@dataclass(frozen=True)
class Walks:
    """Images on the way from one noise to another, of M classes."""

    labels: NDArray[np.int64]  # (M,)
    images: Images  # (M, W, T, S, S, C): W walks of T steps each; all-zero walks stand for those that a class lacks


@dataclass(frozen=True)
class PairPicture:
    """Two images (S, S, C) that resemble one another; `relative` distance below `limit` is a copy."""

    synthetic: Images
    real: Images
    class_name: str
    file: str  # of the synthetic image; empty where it was not written
    real_file: str
    relative: float
    limit: float
    reasons: tuple[str, ...]

    @property
    def sprite(self) -> Sprite:
        """The synthetic image, then the real one."""
        return make_sprite(np.stack([self.synthetic, self.real]), lossless=True)


def write_arrays(path: Path, found: FeatureMap | Walks) -> None:
    _save(path, vars(found))


def read_map(arrays: Arrays, num_classes: int) -> FeatureMap:
    """Inverts `write_arrays`. Raises `ValueError` where something is not as it must be."""
    found = FeatureMap(**{name: arrays[name] for name in FeatureMap.__dataclass_fields__})
    count = len(found.labels)
    _require("places", found.places, (count, 2))
    _require("synthetic", found.synthetic, (count,), np.bool_)
    _require("nearest", found.nearest, (count,), np.integer)
    _require_images("images", found.images, (count,))
    _require_labels(found.labels, num_classes)
    inside = bool(((found.places >= 0) & (found.places <= 1)).all())
    if not (count and inside and (found.nearest >= -1).all() and (found.nearest < count).all()):
        raise ValueError("it holds no places, or some outside of 0..1")
    return found


def read_walks(arrays: Arrays, num_classes: int) -> Walks:
    """Inverts `write_arrays`. Raises `ValueError` where something is not as it must be."""
    found = Walks(**{name: arrays[name] for name in Walks.__dataclass_fields__})
    _require_labels(found.labels, num_classes)
    _require_images("images", found.images, (len(found.labels), *found.images.shape[1:3]))
    if not found.images.size:
        raise ValueError("it holds no images")
    return found


def write_pairs(path: Path, pairs: Sequence[PairPicture]) -> None:
    """The first MOST_PAIRS of them; nothing of none."""
    shown = pairs[:MOST_PAIRS]
    if not shown:
        return
    columns: Arrays = {
        name: np.array([getattr(pair, of) for pair in shown]) for name, of in (TEXT_OF_PAIRS | NUMBERS_OF_PAIRS).items()
    }
    columns["reasons"] = np.array([" ".join(pair.reasons) for pair in shown])
    for name in ("synthetic", "real"):
        columns[name] = shrunk(np.stack([getattr(pair, name) for pair in shown]), PAIR_SIDE)
    _save(path, columns)


def read_pairs(arrays: Arrays, num_classes: int) -> list[PairPicture]:
    """Inverts `write_pairs`; `num_classes` plays no part. Raises `ValueError` where something is not as it must be."""
    count = len(arrays["class_name"])
    for name in (*TEXT_OF_PAIRS, "reasons"):
        _require(name, arrays[name], (count,), np.str_)
    for name in NUMBERS_OF_PAIRS:
        _require(name, arrays[name], (count,), np.floating)
    for name in ("synthetic", "real"):
        _require_images(name, arrays[name], (count,))
    return [
        PairPicture(
            synthetic=arrays["synthetic"][i],
            real=arrays["real"][i],
            class_name=str(arrays["class_name"][i]),
            file=str(arrays["synthetic_file"][i]),
            real_file=str(arrays["real_file"][i]),
            relative=float(arrays["relative"][i]),
            limit=float(arrays["limit"][i]),
            reasons=tuple(str(arrays["reasons"][i]).split()),
        )
        for i in range(count)
    ]


def shrunk(images: Images, side: int) -> Images:
    """Images (n, S, S, C), averaged down to that side where they are larger."""
    if images.shape[1] <= side:
        return images
    return np.stack([resize(image, side, "stretch") for image in images])


def _save(path: Path, arrays: Arrays) -> None:
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _require(name: str, values: NDArray[Any], shape: tuple[int, ...], kind: type = np.floating) -> None:
    if values.shape != shape or not np.issubdtype(values.dtype, kind):
        raise ValueError(f"{name} must be {shape}, not {values.dtype} {values.shape}")


def _require_images(name: str, images: NDArray[Any], shape: tuple[int, ...]) -> None:
    side = images.shape[-2] if images.ndim > 2 else 0
    if (
        images.dtype != np.uint8
        or images.shape[:-1] != (*shape, side, side)
        or not side
        or images.shape[-1] not in (1, 3)
    ):
        raise ValueError(
            f"{name} must be uint8 ({', '.join(map(str, shape))}, S, S, 1 or 3), not {images.dtype} {images.shape}"
        )


def _require_labels(labels: NDArray[Any], num_classes: int) -> None:
    if (
        labels.ndim != 1
        or not np.issubdtype(labels.dtype, np.integer)
        or not ((labels >= 0) & (labels < num_classes)).all()
    ):
        raise ValueError(f"labels must be whole numbers below {num_classes}")
