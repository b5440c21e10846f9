"""What a synthesis that was stopped goes on from: its tallies, and how much of the manifest and of tar shards they count."""

import json
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.manifest import NAME as MANIFEST
from ..data.manifest import TEMPORARY, parse_files
from ..errors import GanaugError
from ..runs import SCHEMA, written_whole
from .tally import Pair, Tally
from .writing import Shard, cut, cut_shards

NAME = ".halfway.npz"
SAVE_INTERVAL, SHOW_INTERVAL = 10.0, 0.2  # seconds between two savings, and two signs of progress
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
        numbers = {name: getattr(tally, name) for name in ("class_name", "asked", "candidates", "kept", "passed")}
        counts.append({**numbers, "reasons": dict(tally.reasons), "pairs": pairs})
    files = {"size": halfway.size, "shards": [asdict(shard) for shard in halfway.shards]}
    text = json.dumps({"schema": SCHEMA, "request": request, "tallies": counts, **files})
    with written_whole(folder / NAME) as temporary, temporary.open("wb") as file:
        np.savez(file, text=text, **arrays)


def load_halfway(folder: Path, request: str) -> Halfway | None:
    """What was saved, once all that it does not count is removed; None where there is nothing to go on with. Raises `GanaugError` for a
    damaged file and one of a newer ganaug."""
    path = folder / NAME
    if not path.is_file():
        return None
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
        shards = [Shard(**values) for values in found["shards"]]
        if (folder / MANIFEST).is_file():  # it was being finished
            (folder / MANIFEST).replace(folder / TEMPORARY)
        cut(folder / TEMPORARY, found["size"])
        cut_shards(folder, shards)
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise GanaugError(f"{path} cannot be read: {error}. Delete {folder} and repeat the command.") from None
    named = parse_files(folder / TEMPORARY)
    for tally in tallies:
        for image in (folder / tally.class_name).glob("synthetic-*.png"):
            if f"{tally.class_name}/{image.name}" not in named:
                image.unlink()
    return Halfway(tallies, found["size"], shards)


def refuse_halfway(folder: Path, what: str = "") -> None:
    """Raises `GanaugError` where an interrupted synthesis waits in the folder to be gone on with; `what` tells of which kind."""
    if (folder / NAME).is_file():
        raise GanaugError(
            f"{folder} holds an interrupted synthesis{what}. Repeat its command, ganaug synthesize, to go on with it, delete that folder, "
            "or give another --out."
        )


def _tally_of(k: int, values: Mapping[str, Any], stored: Mapping[str, Any]) -> Tally:
    pairs = [
        Pair(**{**pair, "image": stored[f"{k}-pair-{p}"], "reasons": tuple(pair["reasons"])})
        for p, pair in enumerate(values["pairs"])
    ]
    arrays = {name: stored[f"{k}-{name}"] for name in ARRAYS}
    return Tally(
        **{
            **values,
            "reasons": Counter(values["reasons"]),
            "pairs": pairs,
            **arrays,
            "distances": arrays["distances"].tolist(),
        }
    )
