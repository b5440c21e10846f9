"""Arrays, as scikit-learn's estimators take them, as images of a GAN: trained on and drawn from without the user's seeing a file."""

import hashlib
import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..classify.training import Labeled
from ..data.cache import LARGEST_SIZE, LARGEST_SIZE_CUDA, ImageSet
from ..data.images import Pixels
from ..errors import GanaugError
from ..gan.settling import DEFAULT_WIDTH
from ..gan.training import train_run
from ..progress import track
from ..recipe import RecipeLike, load_recipe
from ..runs import RunFolder
from ..settings import IMAGE_SIZES, Recipe, parse_budget
from ..synthesis.curation import Curator, build_curator, real_images
from ..synthesis.harvest import harvest_images
from ..synthesis.tally import Tally, describe_harvest

Rows = npt.NDArray[Any]  # (N, n_features): the flat images of X, of X's dtype
Indices = npt.NDArray[np.int64]

COLOR_FROM = 16  # pixels of the side from which so many features as a square color image has may be one
BLOCK = 256  # images that are resized at a time
FILE_SETTINGS = ("group_regex", "limit_per_class", "unlabeled")  # of `data`, without meaning for arrays


class ArrayError(GanaugError, ValueError):
    """A `GanaugError` where scikit-learn expects a ValueError."""


@contextmanager
def as_guest() -> Iterator[None]:
    """For work in another's process: a `GanaugError` becomes an `ArrayError`, and torch keeps its threads and its random stream."""
    threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    except GanaugError as error:
        raise ArrayError(str(error)) from error
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Layout:
    """How a flat row of X is an image. `shape`: (height, width, channels), channels first in the row where `channels_first`; a row
    of fewer values than that ends in black. `low` and `high` are the values of black and white."""

    row_shape: tuple[int, ...]  # of a row of X as it came
    shape: tuple[int, int, int]
    channels_first: bool
    low: float
    high: float

    def fits(self, row_shape: tuple[int, ...]) -> bool:
        """Whether rows of this shape, or flat ones, are images of the same layout."""
        height, width, channels = self.shape
        own = (channels, height, width) if self.channels_first else self.shape
        return (
            len(row_shape) == 1
            or row_shape in (own, self.row_shape)
            or (channels == 1 and row_shape == (height, width))
        )


def flatten(X: Any) -> tuple[Any, tuple[int, ...]]:
    """X with the rows of more than one dimension made flat, else as it is; and the shape of a row."""
    shape = tuple(X.shape if hasattr(X, "shape") else np.asarray(X).shape)
    if len(shape) <= 2:
        return X, shape[1:]
    return np.asarray(X).reshape(shape[0], math.prod(shape[1:])), shape[1:]


def find_layout(rows: Rows, row_shape: tuple[int, ...], image_shape: Sequence[int] | None) -> Layout:
    """The layout of training images.

    Images (H, W) are gray; of those with three axes the last one, or else the first, must count 1 or 3 channels. Flat rows are
    images of `image_shape`, or without it gray and square, the last line filled up where they are none. uint8 values are pixels,
    values within 0..1 are brightness; of any others the least is black and the largest white.

    Raises `ArrayError` for shapes that contradict one another or are no image's.
    """
    num_features = rows.shape[1]
    asked = None if image_shape is None else tuple(image_shape)
    if asked is not None and not all(isinstance(length, int | np.integer) for length in asked):
        raise ArrayError(f"image_shape={asked} must be whole numbers: (height, width) or (height, width, channels).")
    if asked is None and len(row_shape) == 1:
        color = math.isqrt(num_features // 3)
        if 3 * color**2 == num_features and color >= COLOR_FROM:
            raise ArrayError(
                f"X has {num_features} features: are they color images of {color} x {color} pixels? Then give "
                f"image_shape=({color}, {color}, 3), or (3, {color}, {color}) if the channels come first."
            )
        asked = (math.isqrt(num_features - 1) + 1,) * 2
    elif asked is not None and (math.prod(asked) != num_features or (len(row_shape) > 1 and asked != row_shape)):
        got = f"rows of shape {row_shape}" if len(row_shape) > 1 else f"{num_features} features"
        raise ArrayError(
            f"image_shape={asked} expects rows of {math.prod(asked)} values, flat or of this shape; X has {got}."
        )
    found = asked or row_shape
    if len(found) == 2:
        found = (*found, 1)
    if len(found) != 3 or not {found[0], found[2]} & {1, 3} or min(found) < 1:
        raise ArrayError(
            f"images must have the shape (height, width) or (height, width, channels) with 1 or 3 channels, or (channels, height, "
            f"width); got {asked or row_shape}. Convert them to gray or RGB."
        )
    first = found[2] not in (1, 3)
    low, high = _value_range(rows)
    return Layout(row_shape, (found[1], found[2], found[0]) if first else found, first, low, high)


def choose_size(layout: Layout, recipe: Recipe, device: torch.device) -> int:
    """Pixels of the side of the networks' images: as `data.image_size` says, or those nearest to the shorter side."""
    if recipe.data.image_size != "auto":
        return recipe.data.image_size
    largest = LARGEST_SIZE_CUDA if device.type == "cuda" else LARGEST_SIZE
    short = min(layout.shape[:2])
    return min((size for size in IMAGE_SIZES if size <= largest), key=lambda size: abs(math.log(size / short)))


def to_pixels(rows: Rows, layout: Layout, size: int) -> Pixels:
    """(N, n_features) -> uint8 (N, C, size, size). Values outside the layout's range are clamped, oblong images stretched."""
    height, width, channels = layout.shape
    made = np.empty((len(rows), channels, size, size), np.uint8)
    for begin in range(0, len(rows), BLOCK):
        values = (rows[begin : begin + BLOCK].astype(np.float64) - layout.low) * (255 / (layout.high - layout.low))
        values = np.pad(values, ((0, 0), (0, math.prod(layout.shape) - values.shape[1])))
        if layout.channels_first:
            images = values.reshape(-1, channels, height, width)
        else:
            images = values.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
        scaled = _resize(torch.from_numpy(np.ascontiguousarray(images, np.float32)), (size, size), antialias=True)
        made[begin : begin + BLOCK] = scaled.round().to(torch.uint8).numpy()
    return made


def from_pixels(pixels: Pixels, layout: Layout, num_features: int, dtype: np.dtype[Any]) -> Rows:
    """Inverts `to_pixels`, but for what resizing and rounding take away: (N, C, S, S) -> (N, num_features) of X's type."""
    rows = np.empty((len(pixels), num_features), dtype)
    for begin in range(0, len(pixels), BLOCK):
        # Not antialiased: what was enlarged holds no detail that shrinking could alias, and would be blurred.
        images = _resize(
            torch.from_numpy(pixels[begin : begin + BLOCK]).float(), layout.shape[:2], antialias=False
        ).numpy()
        images = images if layout.channels_first else images.transpose(0, 2, 3, 1)
        values = images.reshape(len(images), -1)[:, :num_features].astype(np.float64)
        values = values / 255 * (layout.high - layout.low) + layout.low
        rows[begin : begin + BLOCK] = values if dtype.kind == "f" else values.round()
    return rows


def settle_recipe(recipe: RecipeLike, steps: int | None, budget: str | float | None, seed: int) -> Recipe:
    """The recipe with an estimator's own parameters. Where the steps are given, nothing is left to a measurement that another
    training could answer otherwise. Raises `ArrayError` for wrong settings and for those that speak of files."""
    with as_guest():
        resolved = load_recipe(recipe)
        changes: dict[str, Any] = {"seed": seed}
        if budget is not None:
            changes |= {"budget": parse_budget(budget), "steps": None}
        if steps is not None:
            changes["steps"] = steps
    for name in FILE_SETTINGS:
        if getattr(resolved.data, name) is not None:
            raise ArrayError(f"data.{name} speaks of files, and X is an array. Leave it out, or use ganaug.fit.")
    if resolved.fit.cluster is not None:
        raise ArrayError(
            "fit.cluster needs a folder that its workers see, and X is an array. Leave it out, or use ganaug.fit."
        )
    fit = resolved.fit.model_copy(
        update=changes | {"jobs": 1}
    )  # others would find no prepared images in the run's folder
    if fit.steps is not None:
        settled = {
            "threads": fit.threads or torch.get_num_threads(),
            "width": DEFAULT_WIDTH if fit.width == "auto" else fit.width,
            "compile": fit.compile is True,
        }
        fit = fit.model_copy(update=settled)
    drawn = resolved.synthesize.model_copy(update={"seed": seed})
    return resolved.model_copy(update={"fit": fit, "synthesize": drawn})


def image_set(pixels: Pixels, labels: Indices, class_names: Sequence[str]) -> ImageSet:
    """Images (N, C, S, S) of the classes `labels` (N,) as prepared data, all of it to train on; equal images are one group."""
    return ImageSet(
        images=pixels,
        labels=labels,
        splits=np.full(len(labels), "train"),
        files=[str(row) for row in range(len(labels))],
        groups=[hashlib.sha256(image).hexdigest() for image in pixels],
        class_names=tuple(class_names),
        image_size=pixels.shape[-1],
        channels=pixels.shape[1],
    )


@contextmanager
def trained_gan(images: ImageSet, recipe: Recipe, device: torch.device) -> Iterator[tuple[RunFolder, Recipe]]:
    """Trains the GAN in a temporary folder, which lasts as long as the block; yields it with the recipe as it was settled."""
    with tempfile.TemporaryDirectory(prefix="ganaug-") as root:
        folder = RunFolder(Path(root))
        train_run(folder, "X", images, recipe, device)
        yield folder, load_recipe(folder.recipe)


def draw(
    folder: RunFolder, images: ImageSet, recipe: Recipe, counts: Sequence[int], device: torch.device
) -> tuple[Labeled, list[Tally]]:
    """`counts` (K,) synthetic images of each class that pass the tests of `recipe.curation`, and what became of the candidates. Of a
    class that cannot be filled there are fewer, of which a UserWarning tells."""
    tallies = [Tally(name, count) for name, count in zip(images.class_names, counts, strict=True)]
    kept: list[Pixels] = []
    labels: list[int] = []

    def curate() -> Curator:
        return build_curator(real_images(images, recipe), recipe.curation, recipe.fit.seed, device)

    with track("synthesize", sum(counts)) as advance:
        for name, image in harvest_images(
            folder, recipe.fit.strategy, images.class_names, curate, tallies, recipe, device
        ):
            kept.append(image)
            labels.append(images.class_names.index(name))
            advance(*describe_harvest(tallies))
    for complaint in filter(None, (tally.complain() for tally in tallies)):
        warnings.warn(complaint, UserWarning, stacklevel=3)
    pool = np.stack(kept) if kept else images.images[:0]
    return Labeled(pool, np.array(labels, np.int64)), tallies


def _value_range(rows: Rows) -> tuple[float, float]:
    if rows.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(rows.min()), float(rows.max())
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high if high > low else low + 1


def _resize(images: Tensor, size: tuple[int, int], antialias: bool) -> Tensor:
    """Floats (N, C, H, W) within 0..255."""
    if images.shape[2:] != size:
        images = F.interpolate(images, size, mode="bicubic", antialias=antialias)
    return images.clamp(0, 255)
