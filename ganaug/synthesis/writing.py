"""Where synthetic images go: files in class folders, or tar shards in WebDataset's convention for sets too large for folders."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ..data.manifest import SHARDS, Row
from ..runs import write_json

SHARD_BYTES = 2**28  # of a shard at most, but for its last image

Save = Callable[[Row, bytes], None]  # an image as the bytes of its file, and its row in the manifest


@contextmanager
def folder_writer(folder: Path) -> Iterator[Save]:
    """Yields a function that writes an image where the manifest says that it lies."""

    def save(row: Row, content: bytes) -> None:
        path = folder / row.file
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        path.write_bytes(content)

    made: set[Path] = set()
    yield save


def shard_name(number: int) -> str:
    return f"shard-{number:06d}.tar"


@dataclass
class Shard:
    """A tar file and what has been written to it."""

    file: str
    images: int = 0
    bytes: int = 0


def parse_shards(stored: Sequence[Mapping[str, Any]]) -> list[Shard]:
    """Those that were stored as mappings. Raises `TypeError` or `ValueError` unless they have the names that `shard_writer` gives them:
    files of these names are cut and written to."""
    shards = [Shard(**values) for values in stored]
    for number, shard in enumerate(shards):
        sizes = (shard.images, shard.bytes)
        if shard.file != shard_name(number) or not all(type(size) is int and size >= 0 for size in sizes):
            raise ValueError(f"it has {str(shard)[:80]} in the place of {shard_name(number)}")
    return shards


@contextmanager
def shard_writer(folder: Path, class_names: Sequence[str], shards: list[Shard]) -> Iterator[Save]:
    """Yields a function that adds an image to the last of shard-000000.tar, ...; shards.json, which lists them, is written at the end.
    `shards` are those that there are, which `cut_shards` has left, and always tells what has been written.

    https://github.com/webdataset/webdataset: files that are equal but for what follows the first dot are one sample: KEY.png, KEY.cls, the
    number of its class, and KEY.json, its row in the manifest. KEY is its path in a folder of class folders, which is what unpacking all
    shards in one place gives.
    """
    open_ones: list[tuple[tarfile.TarFile, IO[bytes]]] = []

    def begin() -> None:
        file = (folder / shards[-1].file).open("r+b" if shards[-1].bytes else "wb")
        file.seek(shards[-1].bytes)
        open_ones.append((tarfile.open(fileobj=file, mode="w"), file))  # noqa: SIM115

    def save(row: Row, content: bytes) -> None:
        if not open_ones or shards[-1].bytes >= SHARD_BYTES:
            close()
            shards.append(Shard(shard_name(len(shards))))
            begin()
        archive, file = open_ones[0]
        told = {("class" if f.name == "class_name" else f.name): getattr(row, f.name) for f in fields(Row)}
        known = {name: value for name, value in told.items() if value is not None}
        parts = {
            PurePosixPath(row.file).suffix: content,
            ".cls": str(class_names.index(row.class_name)).encode(),
            ".json": json.dumps(known, ensure_ascii=False).encode(),
        }
        for suffix, part in parts.items():
            member = tarfile.TarInfo(str(PurePosixPath(row.file).with_suffix(suffix)))
            member.size = len(part)
            archive.addfile(member, io.BytesIO(part))
        file.flush()
        shards[-1].images += 1
        shards[-1].bytes = archive.offset

    def close() -> None:
        while open_ones:
            archive, file = open_ones.pop()
            with file:
                archive.close()
            shards[-1].bytes = (folder / shards[-1].file).stat().st_size

    if shards:
        begin()
    try:
        yield save
    finally:
        close()
    listed = [asdict(shard) for shard in shards]
    write_json(folder / SHARDS, {"format": "webdataset", "class_names": list(class_names), "shards": listed})


def cut_shards(folder: Path, shards: Sequence[Shard]) -> None:
    """Removes from the folder what the `shards` do not count. Raises `ValueError` where they count what is not there."""
    for path in set(folder.glob("shard-*.tar")) - {folder / shard.file for shard in shards}:
        path.unlink()
    for shard in shards:
        cut(folder / shard.file, shard.bytes)


def cut(path: Path, size: int) -> None:
    """Leaves so many bytes of the file. Raises `ValueError` if it has fewer."""
    with path.open("r+b") as file:
        if file.seek(0, 2) < size:
            raise ValueError(f"{path.name} is truncated")
        file.truncate(size)
