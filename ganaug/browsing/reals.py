"""The real images that synthetic ones are shown beside."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image

from ..data.cache import load
from ..data.images import decode, encode_png
from ..data.manifest import locate, read_manifest
from ..data.source import MAX_BYTES, open_source
from ..errors import GanaugError
from ..runs import RunFolder, checkpoint_of, open_run, read_regular

LARGEST = 512  # pixels of a side that the page gets


@dataclass(frozen=True)
class Reals:
    """Real images by their files' names in the data, and where they come from. `read` takes one of the names; it returns the bytes of a
    PNG and raises `GanaugError` or `OSError`."""

    origin: str
    names: frozenset[str]
    read: Callable[[str], bytes]


def open_reals(folder: Path, given: Path | None) -> Reals | None:
    """Those of the data or of the run that is given; without one those that lie in the folder, or in the run beside it that has made it,
    as `ganaug run` lays them out. Raises `GanaugError` where what is given holds none that the manifest names."""
    table = read_manifest(folder, rejected=True)
    nearest = set(table["nearest_real"]) - {""} if "nearest_real" in table else set()
    if given is None:
        return _from_copies(folder, table, nearest) or _from_neighbour(folder, table)
    found = _from_run(given) if RunFolder(given).info.is_file() else _from_data(given)
    if not nearest & found.names:
        such = f"such as {min(nearest)}" if nearest else "and the manifest names none"
        raise GanaugError(
            f"{given} holds none of the real images that {folder} names, {such}. Give --real the data of the run, or the run."
        )
    return found


def shrink_to_png(content: bytes) -> bytes:
    """An encoded image as a PNG of at most LARGEST pixels a side. Raises `GanaugError` if it cannot be decoded."""
    pixels = decode(content).pixels
    if max(pixels.shape[:2]) <= LARGEST:
        return encode_png(pixels)
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    picture.thumbnail((LARGEST, LARGEST))
    with io.BytesIO() as file:
        picture.save(file, "PNG")
        return file.getvalue()


def _from_data(data: Path) -> Reals:
    source = open_source(data)
    names = frozenset(file.name for file in source.files)
    return Reals(str(data), names, lambda name: shrink_to_png(source.read(name)))


def _from_run(run: Path) -> Reals:
    images = load(open_run(run)[0].data)
    rows = {name: row for row, name in enumerate(images.files)}
    return Reals(str(run), frozenset(rows), lambda name: encode_png(images.images[rows[name]].transpose(1, 2, 0)))


def _from_copies(folder: Path, table: pd.DataFrame, nearest: set[str]) -> Reals | None:
    """Of --with-real."""
    if "original" not in table:
        return None
    copies = table[(table["source"] == "real") & table["original"].isin(nearest)]
    files: Mapping[str, str] = dict(zip(copies["original"], copies["file"], strict=True))
    if not files:
        return None
    return Reals(
        str(folder), frozenset(files), lambda name: shrink_to_png(read_regular(locate(folder, files[name]), MAX_BYTES))
    )


def _from_neighbour(folder: Path, table: pd.DataFrame) -> Reals | None:
    run = folder.resolve().parent / "run"
    try:
        root, info = open_run(run)
        own = {checkpoint_of(root.member(name) / "generator.safetensors") for name in info["members"]}
        made_here = "checkpoint" in table and bool(own & set(table["checkpoint"]))
        return _from_run(run) if made_here else None
    except (GanaugError, OSError):
        return None
