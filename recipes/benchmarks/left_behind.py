"""What a command has left in a folder: whether it is what another one left, byte for byte but for times, and whether any file is half."""

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_safetensors

from ganaug.data.images import decode

# What holds times, and how the rest of it is told: everything else is compared byte for byte.
TIMES: dict[str, Callable[[bytes], Any]] = {
    "metrics.csv": lambda content: _table_without(content, "seconds"),
    "gan.csv": lambda content: _table_without(content, "seconds"),
    "member.json": lambda content: _json_without(content, "seconds"),
    "pace.json": lambda content: _json_without(content, "seconds_per_update"),
    "seconds.json": lambda content: sorted(json.loads(content)),  # the parts that were timed
    "study.json": lambda content: _json_without(content, "seconds", "seconds_of"),
}


def _table_without(content: bytes, column: str) -> list[dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    return [{name: value for name, value in row.items() if name != column} for row in rows]


def _json_without(content: bytes, *keys: str) -> dict[str, Any]:
    return {key: value for key, value in json.loads(content).items() if key not in keys}


def contents(folder: Path) -> dict[str, Any]:
    """All files, hidden ones too, by path, and None for each empty folder; of those that hold times the rest."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            if not any(path.iterdir()):
                found[f"{name}/"] = None
        else:
            content = path.read_bytes()
            found[name] = TIMES[path.name](content) if path.name in TIMES else content
    return found


def half_files(folder: Path) -> list[str]:
    """Files under their final names that cannot be read to their end. Those in a folder that has no final name yet do not count."""
    broken = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_dir() or any(part.startswith(".") for part in parts):
            continue
        content = path.read_bytes()
        try:
            if path.suffix == ".json":
                json.loads(content)
            elif path.suffix == ".safetensors":
                load_safetensors(content)
            elif path.suffix == ".png":
                decode(content)
            elif path.suffix == ".npy":
                np.load(io.BytesIO(content))
            elif path.suffix == ".npz":
                assert zipfile.ZipFile(io.BytesIO(content)).testzip() is None
            elif path.suffix == ".tar":
                with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
                    for entry in archive:
                        assert len(archive.extractfile(entry).read()) == entry.size  # type: ignore[union-attr]
                assert content.endswith(bytes(1024))  # the mark of its end
            elif path.suffix == ".pt":
                line, _, rest = content.partition(b"\n")
                assert json.loads(line)["bytes"] == len(rest)
                torch.load(io.BytesIO(rest), weights_only=True)
            elif content:  # a list of no images is an empty file
                assert content.endswith(b"\n")
        except Exception as error:
            broken.append(f"{'/'.join(parts)}: {type(error).__name__}")
    return broken


def differences(left: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return sorted(name for name in left.keys() | wanted.keys() if left.get(name, 0) != wanted.get(name, 0))
