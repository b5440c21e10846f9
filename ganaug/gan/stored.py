"""Images of a training that stay on disk: a batch is read, the rest takes no memory."""

import errno
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

RESIDENT = 2**23  # bytes of images up to which they are held in memory
SHARE_OF_GPU = 4  # of its free memory, one part in so many may be images


def resident_bytes(device: torch.device) -> int:
    """Bytes of images up to which they are held on the device."""
    return torch.cuda.mem_get_info(device)[0] // SHARE_OF_GPU if device.type == "cuda" else RESIDENT


def take(images: "Tensor | StoredImages", rows: Tensor) -> Tensor:
    """Those of the rows (n,), which are on the CPU, without waiting for the device that they are on or on their way to."""
    return images[rows if isinstance(images, StoredImages) else rows.to(images.device, non_blocking=True)]


@dataclass(frozen=True)
class StoredImages:
    """Images (N, C, S, S) uint8 that give those asked for as tensors on `device`, as a tensor of all of them would: the `rows` (N,) of
    `images`, which a .npy file maps.

    They are read, not mapped: pages that were touched would count as this process's memory, until all of them did. Another process that
    they are sent to opens the file itself.
    """

    images: np.memmap
    rows: Tensor
    device: torch.device

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.rows), *self.images.shape[1:]))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, asked: Tensor) -> Tensor:
        """By row numbers (n,) or a mask (N,)."""
        rows = self.rows[asked.cpu()]
        found = torch.empty((len(rows), *self.images.shape[1:]), dtype=torch.uint8)
        size = prod(self.images.shape[1:])
        for place in torch.argsort(rows).tolist():  # in the order of the file
            self._file.seek(self.images.offset + int(rows[place]) * size)
            if self._file.readinto(found[place].numpy().data) != size:  # type: ignore[attr-defined]
                raise OSError(errno.EIO, "is truncated", str(self.images.filename))
        return found.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else found

    def part(self, mask: Tensor) -> "StoredImages":
        """Those of the mask (N,), still on disk."""
        return replace(self, rows=self.rows[mask])

    def to(self, device: torch.device) -> "StoredImages":
        return replace(self, device=device)

    def to_plain(self) -> dict[str, str | Tensor]:
        """The file and the rows, for another process."""
        return {"file": str(Path(str(self.images.filename)).absolute()), "rows": self.rows}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "StoredImages":
        """Opens the file of `to_plain`; for the CPU."""
        return cls(np.load(values["file"], mmap_mode="r"), values["rows"], torch.device("cpu"))

    @cached_property
    def _file(self) -> IO[bytes]:
        return Path(str(self.images.filename)).open("rb", buffering=0)
