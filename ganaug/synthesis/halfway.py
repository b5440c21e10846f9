"""What a synthesis that was stopped goes on from: its tallies, and how much of the manifest and of tar shards they count."""

import csv
import json
import os
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.duplicates import SIDE
from ..data.manifest import NAME as MANIFEST
from ..data.manifest import TEMPORARY, parse_files
from ..errors import GanaugError
from ..runs import SCHEMA, written_whole
from .tally import Pair, Tally
from .writing import Shard, cut, cut_shards, parse_shards

NAME = ".halfway.npz"
SAVE_INTERVAL, SHOW_INTERVAL = 10.0, 0.2  # seconds between two savings, and two signs of progress
NUMBERS = ("asked", "candidates", "kept", "passed")
ARRAYS = ("seen", "taken", "distances")


@dataclass
class Halfway:
    """How far a synthesis has come. Only the bytes of the manifest's rows that the tallies count, `size` at the last saving, and those of
    `shards` are gone on with."""

    tallies: list[Tally]
    size: int = 0
    shards: list[Shard] = field(default_factory=list)


def save_halfway(folder: Path, request: str, halfway: Halfway) -> None:
    """Once what it counts is on the disk. `request` tells what is made, so that nothing else is gone on with."""
    arrays: dict[str, Any] = {}
    counts = []
    for k, tally in enumerate(halfway.tallies):
        arrays |= {f"{k}-{name}": np.asarray(getattr(tally, name)) for name in ARRAYS}
        arrays |= {f"{k}-pair-{p}": pair.image for p, pair in enumerate(tally.pairs)}
        pairs = [{**asdict(pair), "image": None} for pair in tally.pairs]
        numbers = {name: getattr(tally, name) for name in ("class_name", *NUMBERS)}
        counts.append({**numbers, "reasons": dict(tally.reasons), "pairs": pairs})
    files = {"size": halfway.size, "shards": [asdict(shard) for shard in halfway.shards]}
    text = json.dumps({"schema": SCHEMA, "request": request, "tallies": counts, **files})
    with written_whole(folder / NAME) as temporary, temporary.open("wb") as file:
        np.savez(file, text=text, **arrays)


def load_halfway(folder: Path, request: str, counts: Mapping[str, int]) -> Halfway | None:
    """What was saved, once all that it does not count is removed; None where there is nothing to go on with. Of the file nothing is
    believed that its writer could not have written for a request of these `counts` by class: its
    names are those of files that are cut and removed. Raises `GanaugError` for a damaged file, one of a newer ganaug, and a folder with
    links."""
    path = folder / NAME
    if not path.is_file():
        return None
    refuse_links(folder)
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = json.loads(str(stored["text"]))
            if found["schema"] > SCHEMA:
                raise GanaugError(
                    f"{path} has schema {found['schema']}; this ganaug reads up to {SCHEMA}. Update ganaug."
                )
            if found["request"] != request:
                return None
            tallies = [_tally_of(k, values, stored) for k, values in enumerate(found["tallies"])]
        if [(tally.class_name, tally.asked) for tally in tallies] != list(counts.items()):
            raise ValueError("its classes are not those of the request")
        shards = parse_shards(found["shards"])
        _refuse_negative({"size": found["size"]})
        if (folder / MANIFEST).is_file():  # it was being finished
            (folder / MANIFEST).replace(folder / TEMPORARY)
        cut(folder / TEMPORARY, found["size"])
        cut_shards(folder, shards)
        named = parse_files(folder / TEMPORARY)
    except (
        OSError,
        EOFError,
        LookupError,
        ValueError,
        TypeError,
        RecursionError,
        zipfile.BadZipFile,
        csv.Error,
    ) as error:
        raise GanaugError(f"{path} cannot be read: {error}. Delete {folder} and repeat the command.") from None
    for tally in tallies:
        for image in (folder / tally.class_name).glob("synthetic-*.png"):
            if f"{tally.class_name}/{image.name}" not in named:
                image.unlink()
    return Halfway(tallies, found["size"], shards)


def refuse_links(folder: Path) -> None:
    """Raises `GanaugError` where anything in the folder is a link: this program makes none there, and what is cut, written to or removed
    behind one lies elsewhere."""
    for here, folders, files in os.walk(folder):
        for path in (Path(here, name) for name in (*folders, *files)):
            if path.is_symlink():
                raise GanaugError(f"{path} is a link, which is not followed. Remove it and repeat the command.")


def refuse_halfway(folder: Path, what: str = "") -> None:
    """Raises `GanaugError` where an interrupted synthesis waits in the folder to be gone on with; `what` tells of which kind."""
    if (folder / NAME).is_file():
        raise GanaugError(
            f"{folder} holds an interrupted synthesis{what}. Repeat its command, ganaug synthesize, to go on with it, delete that folder, "
            "or give another --out."
        )


def _tally_of(k: int, values: Mapping[str, Any], stored: Mapping[str, Any]) -> Tally:
    """Raises `KeyError`, `TypeError` or `ValueError` unless they are those of a tally."""
    pairs = [
        Pair(**{**pair, "image": stored[f"{k}-pair-{p}"], "reasons": tuple(map(str, pair["reasons"]))})
        for p, pair in enumerate(values["pairs"])
    ]
    arrays = {name: stored[f"{k}-{name}"] for name in ARRAYS}
    seen, taken, distances = (arrays[name] for name in ARRAYS)
    tally = Tally(
        **{
            **values,
            "reasons": Counter(values["reasons"]),
            "pairs": pairs,
            **arrays,
            "distances": distances.tolist(),
        }
    )
    _refuse_negative({name: getattr(tally, name) for name in NUMBERS})
    _refuse_negative(tally.reasons)
    _refuse_negative({f"pair {p}": pair.nearest for p, pair in enumerate(pairs)})
    if not (
        tally.kept <= min(tally.asked or 0, tally.candidates)
        and (seen.shape[1:], seen.dtype) == ((SIDE, SIDE), np.float32)
        and (taken.ndim, taken.dtype) == (1, np.int64)
        and (distances.ndim, distances.dtype) == (1, np.float64)
    ):
        raise ValueError(f"it counts what cannot be of the class {tally.class_name!r}")
    for pair in pairs:
        if not (
            pair.class_name == tally.class_name
            and isinstance(pair.file, str)
            and isinstance(pair.relative, float)
            and isinstance(pair.distance, float)
            and pair.image.ndim == 3
            and pair.image.dtype == np.uint8
        ):
            raise ValueError(f"it has a pair that cannot be of the class {tally.class_name!r}")
    return tally


def _refuse_negative(numbers: Mapping[str, object]) -> None:
    """Raises `ValueError` for what is no whole number from 0 on."""
    for name, value in numbers.items():
        if type(value) is not int or value < 0:
            raise ValueError(f"it has {str(value)[:40]!r} for {name}")
