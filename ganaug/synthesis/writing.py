"""Where synthetic images go: files in class folders, or tar shards in WebDataset's convention for sets too large for folders."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any

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


@contextmanager
def shard_writer(folder: Path, class_names: Sequence[str]) -> Iterator[Save]:
    """Yields a function that adds an image to the last of shard-000000.tar, ...; shards.json, which lists them, is written at the end.

    https://github.com/webdataset/webdataset: files that are equal but for what follows the first dot are one sample: KEY.png, KEY.cls, the
    number of its class, and KEY.json, its row in the manifest. KEY is its path in a folder of class folders, which is what unpacking all
    shards in one place gives.
    """
    shards: list[dict[str, Any]] = []
    open_ones: list[tarfile.TarFile] = []

    def save(row: Row, content: bytes) -> None:
        if not open_ones or shards[-1]["bytes"] >= SHARD_BYTES:
            close()
            shards.append({"file": f"shard-{len(shards):06d}.tar", "images": 0, "bytes": 0})
            open_ones.append(tarfile.open(folder / shards[-1]["file"], "w"))  # noqa: SIM115
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
            open_ones[0].addfile(member, io.BytesIO(part))
        shards[-1]["images"] += 1
        shards[-1]["bytes"] = open_ones[0].offset

    def close() -> None:
        while open_ones:
            open_ones.pop().close()

    try:
        yield save
    finally:
        close()
    for shard in shards:
        shard["bytes"] = (folder / shard["file"]).stat().st_size
    write_json(folder / SHARDS, {"format": "webdataset", "class_names": list(class_names), "shards": shards})
