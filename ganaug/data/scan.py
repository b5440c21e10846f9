"""One pass over the files: every image is read and decoded once, in threads, for the check and for the cache alike."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import GanaugError
from ..progress import track
from .duplicates import SIDE, Copies, find_copies, fingerprint
from .images import Pixels, Resize, Room, decode, peek_size, resize
from .source import MAX_BYTES, ImageFile, Source, Split

LONG = 2**24  # bytes of a file whose header is read first: it may be a bomb

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class FileRecord:
    """What one file holds. Where `error` is set it could not be decoded; then sizes are 0 and `mode` is empty."""

    name: str
    class_name: str
    split: Split | None
    sha256: str
    width: int
    height: int
    mode: str
    channels: int
    frames: int
    error: str | None


@dataclass(frozen=True)
class Scan:
    """The records in the order of the source, and the copies among the readable ones, by index.

    `pixels` holds uint8 (S, S, C) of each readable file, C = 1 or 3, or is None when no size was asked for.
    """

    records: tuple[FileRecord, ...]
    copies: Copies
    pixels: tuple[Pixels | None, ...] | None


def scan(source: Source, image_size: int | None = None, how: Resize = "crop", label: str = "reading images") -> Scan:
    """Reads and decodes every file of the source once; with `image_size` keeps the resized pixels as well."""

    def examine(file: ImageFile) -> tuple[FileRecord, npt.NDArray[np.float32], Pixels | None]:
        sha256 = ""
        try:
            size = source.size(file.name)
            if size > LONG:
                with source.open(file.name) as stream:
                    peek_size(stream)
            with room.taking(min(size, MAX_BYTES)):
                data = source.read(file.name)
                sha256 = hashlib.sha256(data).hexdigest()
                image = decode(data)
                del data
        except GanaugError as error:
            if source.has_lost(file.name):
                raise GanaugError(
                    f"{source.path} vanished while it was read: {file.name} is gone. Nothing was made of a part; repeat the command once "
                    "the data are back."
                ) from None
            record = FileRecord(file.name, file.class_name, file.split, sha256, 0, 0, "", 0, 0, str(error))
            return record, np.zeros((SIDE, SIDE), np.float32), None
        record = FileRecord(
            name=file.name,
            class_name=file.class_name,
            split=file.split,
            sha256=sha256,
            width=image.width,
            height=image.height,
            mode=image.mode,
            channels=image.pixels.shape[2],
            frames=image.frames,
            error=None,
        )
        small = None if image_size is None else resize(image.pixels, image_size, how)
        return record, fingerprint(image.pixels), small

    room = Room(MAX_BYTES)
    results = []
    with track(label, len(source.files)) as advance:
        for result in _in_threads(examine, source.files):
            results.append(result)
            advance(len(results))
    records, fingerprints, pixels = zip(*results, strict=True)
    contents = [record.name if record.error else record.sha256 for record in records]
    copies = find_copies(contents, np.stack(fingerprints))
    return Scan(records, copies, None if image_size is None else pixels)


def peek_sizes(source: Source) -> list[tuple[int, int]]:
    """(width, height) from the header of each file that has a readable one; nothing is decoded."""

    def peek(file: ImageFile) -> tuple[int, int] | None:
        try:
            with source.open(file.name) as stream:
                return peek_size(stream)
        except GanaugError:
            return None

    return [size for size in _in_threads(peek, source.files) if size is not None]


def _in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """`map` with a thread for each core: Pillow decodes, and hashlib hashes, outside Python's global lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(function, items)
