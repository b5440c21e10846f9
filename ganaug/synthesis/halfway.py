"""What a synthesis that was stopped goes on from: its tallies, and how much of the manifest they count."""

import json
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..data.manifest import TEMPORARY, parse_files
from ..errors import GanaugError
from ..runs import SCHEMA, written_whole
from .tally import Pair, Tally

NAME = ".halfway.npz"
SAVE_INTERVAL = 10.0  # seconds between two savings
ARRAYS = ("seen", "taken", "distances")


def save_halfway(folder: Path, request: str, tallies: Sequence[Tally], size: int) -> None:
    """`size`: bytes of the manifest, whose rows the tallies count; those rows and their images are on the disk. `request` tells what is
    made, so that nothing else is gone on with."""
    arrays: dict[str, Any] = {}
    counts = []
    for k, tally in enumerate(tallies):
        arrays |= {f"{k}-{name}": np.asarray(getattr(tally, name)) for name in ARRAYS}
        arrays |= {f"{k}-pair-{p}": pair.image for p, pair in enumerate(tally.pairs)}
        pairs = [{**asdict(pair), "image": None} for pair in tally.pairs]
        numbers = {name: getattr(tally, name) for name in ("class_name", "asked", "candidates", "kept", "passed")}
        counts.append({**numbers, "reasons": dict(tally.reasons), "pairs": pairs})
    text = json.dumps({"schema": SCHEMA, "request": request, "size": size, "tallies": counts})
    with written_whole(folder / NAME) as temporary, temporary.open("wb") as file:
        np.savez(file, text=text, **arrays)


def load_halfway(folder: Path, request: str) -> tuple[list[Tally], int] | None:
    """The tallies and the size of the manifest, once images that it does not name are removed; None where there is nothing to go on with.
    Raises `GanaugError` for a damaged file and one of a newer ganaug."""
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
        with (folder / TEMPORARY).open("r+b") as file:
            if file.seek(0, 2) < found["size"]:
                raise ValueError(f"{TEMPORARY} is truncated")
            file.truncate(found["size"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise GanaugError(f"{path} cannot be read: {error}. Delete {folder} and repeat the command.") from None
    named = parse_files(folder / TEMPORARY)
    for tally in tallies:
        for image in (folder / tally.class_name).glob("synthetic-*.png"):
            if f"{tally.class_name}/{image.name}" not in named:
                image.unlink()
    return tallies, found["size"]


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
