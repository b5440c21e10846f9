"""One pass over the files: every image is read and decoded once, in parallel, for the check and for the cache alike."""

import hashlib
import math
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from joblib import cpu_count

from ..errors import GanaugError
from ..parallel import in_order, in_threads
from ..progress import track
from .duplicates import SIDE, Copies, find_copies, fingerprint
from .images import MAX_PIXELS, NoRoom, Pixels, Resize, Room, decode, peek_size, resize
from .source import MAX_BYTES, ImageFile, Source, Split

LONG = 2**24  # bytes of a file whose header is read first: it may be a bomb

FEW, CHUNK = 4096, 256  # files up to which threads do; files that a process is given at a time
LARGE_FILE = 2**17  # bytes of a file from which on most of the time is spent in decoders, which threads share as well
IN_MEMORY = 2**26  # bytes of pixels, or of fingerprints, from which on they are kept in a temporary file

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
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


class StoredPixels:
    """uint8 (S, S, C) of readable files by their number, C = 1 or 3; None of the others. In memory up to IN_MEMORY bytes, beyond that
    in a temporary file, which ends with the object."""

    def __init__(self, size: int) -> None:
        self.size, self.file = size, tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
        self.channels: list[int] = []  # 0 of a file that could not be decoded

    def append(self, pixels: Pixels | None) -> None:
        place = len(self.channels) * self._slot
        self.channels.append(0 if pixels is None else pixels.shape[2])
        if pixels is not None:
            self.file.seek(place)
            self.file.write(pixels.tobytes())

    def __getitem__(self, number: int) -> Pixels | None:
        if not self.channels[number]:
            return None
        shape = (self.size, self.size, self.channels[number])
        self.file.seek(number * self._slot)
        return np.frombuffer(self.file.read(math.prod(shape)), np.uint8).reshape(shape)

    @property
    def _slot(self) -> int:
        return 3 * self.size**2


@dataclass(frozen=True)
class Scan:
    """The records in the order of the source, and the copies among the readable ones, by index.

    `pixels` holds those of each readable file, or is None when no size was asked for.
    """

    records: tuple[FileRecord, ...]
    copies: Copies
    pixels: StoredPixels | None


Examined = tuple[
    FileRecord, npt.NDArray[np.float32], Pixels | None
]  # with its fingerprint (16, 16), and its pixels if a size is asked for


def scan(source: Source, image_size: int | None = None, how: Resize = "crop", label: str = "reading images") -> Scan:
    """Reads and decodes every file of the source once, in parallel; with `image_size` keeps the resized pixels as well. Beyond the
    records, memory does not grow with the number of files."""
    count = len(source.files)
    pixels = None if image_size is None else StoredPixels(image_size)
    records: list[FileRecord] = []
    with _large_array((count, SIDE, SIDE)) as fingerprints:
        with track(label, count) as advance:
            for record, print_of_it, small in _examine_all(source, image_size, how):
                fingerprints[len(records)] = print_of_it
                records.append(record)
                if pixels is not None:
                    pixels.append(small)
                advance(len(records))
        contents = [record.name if record.error else record.sha256 for record in records]
        copies = find_copies(contents, fingerprints)
    return Scan(tuple(records), copies, pixels)


def _examine_all(source: Source, image_size: int | None, how: Resize) -> Iterator[Examined]:
    """`examine` in the order of the source: small files by the thousand in processes, as most of their time is Python's; else in
    threads, which start at once: Pillow decodes, and hashlib hashes, outside Python's global lock. What is too large for a process's share
    of the memory is read here, one at a time."""
    files, processes = source.files, cpu_count()
    rooms = Room(MAX_BYTES), Room(MAX_PIXELS)
    some = files[:: len(files) // FEW + 1]
    large = statistics.mean(source.size(file.name) for file in some) > LARGE_FILE
    if len(files) < FEW or large or processes == 1:
        yield from in_threads(lambda file: examine(source, file, image_size, how, rooms), files, processes)
        return
    parts = (source.part(files[i : i + CHUNK]) for i in range(0, len(files), CHUNK))
    results = in_order(partial(examine_part, image_size=image_size, how=how, processes=processes), parts, processes)
    for file, found in zip(files, chain.from_iterable(results), strict=True):
        yield found or examine(source, file, image_size, how, rooms)


def examine_part(source: Source, image_size: int | None, how: Resize, processes: int) -> list[Examined | None]:
    """Each file of the source, in one of so many processes; None of those that are too large for its share of the memory."""
    rooms = Room(MAX_BYTES, processes), Room(MAX_PIXELS, processes)
    found: list[Examined | None] = []
    for file in source.files:
        try:
            found.append(examine(source, file, image_size, how, rooms))
        except NoRoom:
            found.append(None)
    return found


def examine(source: Source, file: ImageFile, image_size: int | None, how: Resize, rooms: tuple[Room, Room]) -> Examined:
    """One file; `rooms` of bytes and of pixels for it. Raises `GanaugError` where the data are gone, `NoRoom` as the rooms do."""
    sha256 = ""
    try:
        size = source.size(file.name)
        if size > LONG:
            with source.open(file.name) as stream:
                peek_size(stream)
        with rooms[0].taking(min(size, MAX_BYTES)):
            data = source.read(file.name)
            sha256 = hashlib.sha256(data).hexdigest()
            image = decode(data, rooms[1])
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


@contextmanager
def _large_array(shape: tuple[int, ...]) -> Iterator[npt.NDArray[np.float32]]:
    """Zeros, beyond IN_MEMORY bytes in a temporary file."""
    if 4 * math.prod(shape) <= IN_MEMORY:
        yield np.zeros(shape, np.float32)
        return
    with tempfile.TemporaryFile() as file:
        yield np.memmap(file, np.float32, "w+", shape=shape)


def peek_sizes(source: Source) -> list[tuple[int, int]]:
    """(width, height) from the header of each file that has a readable one; nothing is decoded."""

    def peek(file: ImageFile) -> tuple[int, int] | None:
        try:
            with source.open(file.name) as stream:
                return peek_size(stream)
        except GanaugError:
            return None

    return [size for size in in_threads(peek, source.files, cpu_count()) if size is not None]
