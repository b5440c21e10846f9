"""Real and synthetic images as one torch Dataset, for training loops that know nothing else of ganaug."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from ..errors import GanaugError
from .images import DecodeError, Pixels, decode, match_channels
from .manifest import NAME, read_manifest
from .source import open_source

Transform = Callable[..., Any]


class AugmentedDataset(Dataset[tuple[Any, int]]):
    """The images of class folders, followed by synthetic ones, as (image, label) pairs.

    real       a folder of class folders; where it has a train/ split, only that is used
    synthetic  a folder written by `ganaug synthesize`: <class>/*.png and manifest.csv
    ratio      synthetic images for each real one of the class, rounded: a number, or {class: number}
    cap        most synthetic images of a class: a number, or {class: number}
    transform  an albumentations transform, or any function of an RGB PIL image such as torchvision's transforms;
               without one an image is a float tensor (3, H, W) in 0..1
    seed       of the random stream of an albumentations transform

    A class that a mapping leaves out is not limited by it. Synthetic images are taken in the order of the manifest, so
    a smaller amount is a part of a larger one.

    An albumentations transform is reseeded for every (seed, epoch, index), because left alone it repeats one random
    stream in every worker and every epoch. Call `set_epoch(epoch)` before each epoch for new augmentations; workers that
    outlive an epoch (`persistent_workers=True`) do not hear of it.

    Raises `GanaugError` for a synthetic folder without a manifest, with missing files, or with classes unknown to `real`,
    and when an image that is asked for cannot be decoded.
    """

    def __init__(
        self,
        real: str | Path,
        synthetic: str | Path,
        *,
        ratio: float | Mapping[str, float] | None = None,
        cap: int | Mapping[str, int] | None = None,
        transform: Transform | None = None,
        seed: int = 0,
    ) -> None:
        real_files = _list_real(Path(real))
        self.classes = list(dict.fromkeys(class_name for _, class_name in real_files))
        self.class_to_idx = {name: index for index, name in enumerate(self.classes)}
        limits = _limit(Counter(class_name for _, class_name in real_files), ratio, cap)
        synthetic_files = _take(_list_synthetic(Path(synthetic), self.classes), limits)
        self.samples = [(str(path), self.class_to_idx[name]) for path, name in (*real_files, *synthetic_files)]
        self.targets = [label for _, label in self.samples]
        self.is_synthetic = [False] * len(real_files) + [True] * len(synthetic_files)
        self.transform = transform
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Starts new random streams of an albumentations transform. Two equal epochs give equal images."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path, label = self.samples[index]
        pixels = _read_rgb(path)
        if self.transform is None:
            return torch.from_numpy(pixels).permute(2, 0, 1).float().div(255), label
        if not _is_albumentations(self.transform):
            return self.transform(Image.fromarray(pixels)), label
        # One stream for all its parts: set_random_seed would give each part an equal one, and their draws would agree.
        stream = np.random.default_rng([self.seed, self.epoch, index % len(self)])
        self.transform.set_random_state(stream, random.Random(int(stream.integers(2**63))))  # type: ignore[attr-defined]
        return self.transform(image=pixels)["image"], label


def _list_real(folder: Path) -> list[tuple[Path, str]]:
    """(path, class) in natural order of the classes."""
    if folder.is_file():
        raise GanaugError(f"the real images {folder} must be a folder of class folders; unpack a zip first.")
    source = open_source(folder)
    split = "train" if source.has_split("train") else None
    files = [(source.locate(file.name), file.class_name) for file in source.files if file.split == split]
    if not files:
        raise GanaugError(f"{folder} has no training images: expected <class>/<image> or train/<class>/<image>.")
    return files


def _list_synthetic(folder: Path, classes: list[str]) -> list[tuple[Path, str]]:
    """(path, class) in the order of the manifest, without the real images that it may list as well."""
    table = read_manifest(folder)
    made = table[table["source"] != "real"]
    files = [(folder / file, name) for file, name in zip(made["file"], made["class"], strict=True)]
    unknown = sorted({name for _, name in files} - set(classes))
    if unknown:
        raise GanaugError(
            f"{folder} has classes that the real images do not have: {', '.join(unknown)}. "
            f"The real ones are {', '.join(classes)}; use the data that the run was fitted on."
        )
    missing = [str(path) for path, _ in files if not path.is_file()]
    if missing:
        raise GanaugError(f"{folder / NAME} names {len(missing)} files that do not exist, such as {missing[0]}.")
    return files


def _limit(
    real: Mapping[str, int], ratio: float | Mapping[str, float] | None, cap: int | Mapping[str, int] | None
) -> dict[str, float]:
    """Most synthetic images of every class, given its number of real ones."""

    def value(request: float | Mapping[str, float] | None, name: str) -> float:
        number = request.get(name) if isinstance(request, Mapping) else request
        return float("inf") if number is None else number

    for word, request in (("ratio", ratio), ("cap", cap)):
        numbers = request if isinstance(request, Mapping) else {} if request is None else dict.fromkeys(real, request)
        wrong = [f"{name}: {number}" for name, number in numbers.items() if name not in real or not number >= 0]
        if wrong:
            raise GanaugError(f"{word} must be 0 or more, for classes among {', '.join(real)}; got {', '.join(wrong)}.")
    return {name: min(value(ratio, name) * count, value(cap, name)) for name, count in real.items()}


def _take(files: list[tuple[Path, str]], limits: Mapping[str, float]) -> list[tuple[Path, str]]:
    """The first files of every class, as many as its limit, rounded."""
    taken: Counter[str] = Counter()
    chosen = []
    for path, name in files:
        if taken[name] + 0.5 <= limits[name]:
            taken[name] += 1
            chosen.append((path, name))
    return chosen


def _read_rgb(path: str) -> Pixels:
    try:
        return match_channels(decode(Path(path).read_bytes()).pixels, 3)
    except (OSError, DecodeError) as error:
        raise GanaugError(f"the image {path} cannot be read: {error}") from error


def _is_albumentations(transform: Transform) -> bool:
    """Whether it is, or derives from, a class of albumentations; found without importing the library."""
    return any(kind.__module__.partition(".")[0] == "albumentations" for kind in type(transform).__mro__)
