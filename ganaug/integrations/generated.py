"""Synthetic images on the fly, as a torch Dataset."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..data.images import to_pillow
from ..errors import GanaugError
from ..synthesis.plan import resolve_classes
from .transforms import Transform, apply_transform

if TYPE_CHECKING:
    from .generator import Generator
    from .makers import CuratedMaker, RawMaker


class GeneratorDataset(Dataset[tuple[Any, int]]):
    """Synthetic images that are made when they are needed and never stored: other ones in every epoch, as (image, label) pairs.

    source     a run, whose images pass the tests of `ganaug synthesize` unless `curated` is false; or a `Generator`, or the folder of
               a saved one, which has no training images to test by
    per_class  images of each class: a number, or {class: number}
    truncation factor on the noise: below 1, safer and less varied images
    transform  as of `AugmentedDataset`
    seed       of the images; those of epoch 0 are what `ganaug synthesize --seed` writes
    device     where they are made: auto, cpu, cuda or cuda:N

    `set_epoch(epoch)` makes them anew, in the process that calls it; workers of a DataLoader see them, also those that outlive an
    epoch. Where the tests pass too few images of a class, those that passed are repeated.

    Raises `GanaugError` for what is neither a run nor a generator, for unknown classes, and for a class without any image.
    """

    def __init__(
        self,
        source: "str | Path | Generator",
        *,
        per_class: int | Mapping[str, int] = 100,
        curated: bool | None = None,
        truncation: float | None = None,
        transform: Transform | None = None,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        from .makers import open_maker  # with all that makes images, which workers need not load

        refuse_negative("seed", seed)
        maker = open_maker(source, curated, truncation, device)
        counts = per_class if isinstance(per_class, Mapping) else dict.fromkeys(maker.classes, per_class)
        resolve_classes(counts, maker.classes)
        if wrong := {
            name: count for name, count in counts.items() if not (isinstance(count, int | np.integer) and count >= 0)
        }:
            raise GanaugError(f"per_class must be a whole number, 0 or more; got {wrong}.")
        self.classes = list(maker.classes)
        self.class_to_idx = {name: index for index, name in enumerate(self.classes)}
        self.counts = {name: int(counts[name]) for name in self.classes if counts.get(name)}
        if not self.counts:
            raise GanaugError("per_class asks for no image at all: expected a number above 0 for one class at least.")
        self.targets = [self.class_to_idx[name] for name, count in self.counts.items() for _ in range(count)]
        self.transform, self.seed = transform, seed
        self._maker: CuratedMaker | RawMaker | None = maker
        self._epoch = shared(torch.zeros((), dtype=torch.int64))
        shape = (len(self.targets), maker.channels, maker.image_size, maker.image_size)
        self._images = shared(torch.empty(shape, dtype=torch.uint8))
        self._renew(0)

    def set_epoch(self, epoch: int) -> None:
        """Makes the images of that epoch. Two equal epochs give equal images."""
        if epoch != int(self._epoch):
            refuse_negative("epoch", epoch)
            self._renew(epoch)

    def _renew(self, epoch: int) -> None:
        if self._maker is None:
            raise GanaugError(
                "set_epoch must be called on the GeneratorDataset that was made, not on a copy in a worker."
            )
        seed = self.seed if epoch == 0 else int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0])
        end = 0
        for made, count in zip(self._maker.make(self.counts, seed), self.counts.values(), strict=True):
            start, end = end, end + count
            self._images[start:end] = torch.from_numpy(made[np.arange(count) % len(made)])
        self._epoch.fill_(epoch)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maker": None}  # networks stay where they are

    def __len__(self) -> int:
        return len(self.targets)

    def picture(self, index: int, mode: str) -> Image.Image:
        """The image as PIL, of mode "RGB" or "L"."""
        return to_pillow(self._images[index].permute(1, 2, 0).numpy()).convert(mode)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        index = range(len(self))[index]
        picture = self.picture(index, "RGB")
        return apply_transform(self.transform, picture, lambda: (self.seed, int(self._epoch), index)), self.targets[
            index
        ]


def shared(values: Tensor) -> Tensor:
    """The tensor in memory that the workers of a DataLoader share, so that they see what becomes of it."""
    return values.share_memory_()  # type: ignore[no-any-return,no-untyped-call]


def refuse_negative(word: str, number: int) -> None:
    if number < 0:
        raise GanaugError(f"{word} must be 0 or more; got {number}.")
