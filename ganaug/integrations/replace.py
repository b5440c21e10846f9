"""A transform for albumentations that puts a synthetic image of the same class in an image's place. Needs albumentations."""

import json
import operator
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..data.images import Pixels, match_channels
from ..data.interop import DATASET_NAME
from ..data.manifest import read_manifest
from ..data.source import natural_key
from ..errors import GanaugError
from ..runs import MAX_RECORD, read_regular
from .datasets import open_synthetic
from .generated import GeneratorDataset

try:
    from albumentations import ImageOnlyTransform
except ImportError:  # the extra `albumentations`

    class ImageOnlyTransform:  # type: ignore[no-redef]
        """Stands in for the library's where it is not installed."""

        def __init__(self, p: float) -> None:
            raise GanaugError("GANReplace needs albumentations. Install it: pip install 'ganaug[albumentations]'")


ANNOTATIONS = ("mask", "masks", "bboxes", "keypoints", "images", "volume", "volumes")  # of the image that would be gone


class GANReplace(ImageOnlyTransform):  # type: ignore[misc]
    """Replaces the image, with probability `p`, by a synthetic one of its class: `transform(image=image, label=label)["image"]`, alone or,
    best at its head, in an `A.Compose`.

    synthetic  a folder written by `ganaug synthesize`, or a `GeneratorDataset`
    p          of a replacement
    label_key  the target that tells the class, by its name or by its number
    classes    names of the numbers 0, 1, ..., such as `dataset.classes`; without them those of `synthetic`
    megabytes  of decoded files that are kept in memory; 0 reads each anew

    The image comes out with the height, width, number of channels (none, 1 or 3) and kind (uint8, or float32 in 0..1) that it had.
    Which one it is comes from albumentations' own random numbers. An image of a class without synthetic images stays. A folder is
    serialised as its path; a `GeneratorDataset` cannot be.

    Raises `GanaugError` for what is no synthetic folder, for a class unknown to it, and for masks, boxes and keypoints, which would
    belong to an image that is gone.
    """

    def __init__(
        self,
        synthetic: "str | Path | GeneratorDataset",
        p: float = 0.5,
        label_key: str = "label",
        classes: Sequence[str] | None = None,
        megabytes: float = 256,
    ) -> None:
        if not 0 <= p <= 1:
            raise GanaugError(f"p must be from 0 to 1; got {p}.")
        super().__init__(p=p)
        self.synthetic = str(synthetic) if isinstance(synthetic, Path) else synthetic
        self.label_key, self.megabytes = label_key, megabytes
        self.classes = None if classes is None else [str(name) for name in classes]
        self._names = self.classes or _classes_of(synthetic)
        everything = dict.fromkeys(self._names, float("inf"))
        found = open_synthetic(synthetic, self._names, everything, "RGB", megabytes)
        self._pictures = found.items
        self._rows: list[list[int]] = [[] for _ in self._names]
        for row, label in enumerate(found.targets):
            self._rows[label].append(row)

    @property
    def targets_as_params(self) -> list[str]:
        return [self.label_key]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        if others := [name for name in ANNOTATIONS if data.get(name) is not None]:
            raise GanaugError(
                f"GANReplace got {', '.join(others)}, which would belong to an image that is gone: expected an image and its "
                "class alone. Leave GANReplace out of this pipeline."
            )
        rows = self._rows[self._label(data[self.label_key])]
        return {"row": self.py_random.choice(rows) if rows else None}

    def apply(self, img: npt.NDArray[Any], row: int | None = None, **params: Any) -> npt.NDArray[Any]:
        """An image (H, W[, C]) of the same shape and kind."""
        return img if row is None else _fit(self._pictures[row], img)

    def to_dict_private(self) -> dict[str, Any]:
        if isinstance(self.synthetic, GeneratorDataset):
            raise GanaugError(
                "GANReplace of a GeneratorDataset cannot be serialised: expected a folder of synthetic images."
            )
        state: dict[str, Any] = super().to_dict_private()
        return state

    def _label(self, value: Any) -> int:
        """The number of a class given by its name or number."""
        if isinstance(value, str) and value in self._names:
            return self._names.index(value)
        try:
            number = -1 if isinstance(value, str) else operator.index(value)
        except (TypeError, ValueError):
            number = -1
        if not 0 <= number < len(self._names):
            raise GanaugError(
                f"GANReplace got {self.label_key}={value!r}: expected one of {', '.join(self._names)}, or its number. "
                "Name the numbers with classes=[...]."
            )
        if self.classes is None and self._names != sorted(
            self._names
        ):  # as ganaug, and as torchvision's ImageFolder has them
            raise GanaugError(
                f"GANReplace got {self.label_key}={value!r}, and whether 0, 1, ... are {', '.join(self._names)} or "
                f"{', '.join(sorted(self._names))} is open. Tell with classes=dataset.classes."
            )
        return number


def _classes_of(synthetic: str | Path | GeneratorDataset) -> list[str]:
    """The names of a synthetic folder's classes, also of those that have no image, as far as it tells them."""
    if isinstance(synthetic, GeneratorDataset):
        return synthetic.classes
    table = read_manifest(Path(synthetic))
    names = set(table["class"])
    with suppress(OSError, ValueError, KeyError, TypeError):  # as it may be in a folder that others made
        names |= set(json.loads(read_regular(Path(synthetic) / DATASET_NAME, MAX_RECORD))["class_names"])
    return sorted(names, key=natural_key)


def _fit(picture: Image.Image, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The picture with the shape and the kind of an image (H, W[, C])."""
    channels = like.shape[2] if like.ndim == 3 else 1
    if channels not in (1, 3) or like.dtype not in (np.uint8, np.float32):
        raise GanaugError(
            f"GANReplace got an image of shape {like.shape} and kind {like.dtype}: expected 1 or 3 channels, uint8 or float32 in 0..1."
        )
    height, width = like.shape[:2]
    if picture.size != (width, height):
        smaller = picture.width > width or picture.height > height
        sampling = Image.Resampling.LANCZOS if smaller else Image.Resampling.BICUBIC
        picture = picture.resize((width, height), sampling)
    pixels: Pixels = match_channels(np.array(picture), channels).reshape(like.shape)
    return pixels if like.dtype == np.uint8 else pixels.astype(np.float32) / np.float32(255)
