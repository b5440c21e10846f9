"""manifest.csv of a synthetic folder: one row for each image and each candidate that was rejected. It gets its name last: its
presence means that the folder is whole.
"""

import csv
import importlib.util
import io
import json
import math
import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import IO

import pandas as pd

from ..errors import GanaugError
from ..runs import MAX_RECORD, read_regular, written_whole
from ..spreadsheet import protect, restore
from .source import MAX_NAME, SUFFIXES, Source

NAME, PARQUET_NAME = "manifest.csv", "manifest.parquet"
TEMPORARY = f".{NAME}.tmp"  # while the folder is filled
SHARDS = "shards.json"  # lists tar files that hold the images instead of the folder; see synthesis/writing.py
JOURNAL = ".decisions.jsonl"  # what people have decided and the manifest may not have yet: {"file", "kept"} a line
BY_HAND = "by-hand"  # the reason against what a person has rejected


@dataclass(frozen=True)
class Row:
    """One image. What a real image, or one without tests, has no value for is None."""

    # Path inside the folder, with forward slashes; empty for what was not written. What a person has rejected lies there no more.
    file: str
    class_name: str  # the column is called `class`
    source: str  # "synthetic" or "real"
    kept: bool = True
    reasons: str | None = (
        None  # against it, separated by spaces: names of filters, "surplus" for more than was asked for, BY_HAND
    )
    seed: int | None = None  # of this image's noise
    checkpoint: str | None = None  # first 16 hex digits of the SHA-256 of the generator's file
    truncation: float | None = None
    realism: float | None = None  # sum of the discriminator's two logits: a real image, a real image of this class
    class_probability: float | None = None  # of its class, the least of all referees
    nearest_real: str | None = None  # file of the nearest training image in the data
    distance: float | None = None  # to it, 0 to 2
    relative_distance: float | None = None  # the same over the mean of those to the next ones: near 0 for a copy
    strangeness: float | None = None  # distance in features to the nearest training image; 1 is usual for a real image
    original: str | None = None  # of a real image: its file in the data


COLUMNS = tuple("class" if field.name == "class_name" else field.name for field in fields(Row))
TEXT = ("file", "class", "source", "reasons", "checkpoint", "nearest_real", "original")
FLOATS = ("truncation", "realism", "class_probability", "distance", "relative_distance", "strangeness")


@contextmanager
def manifest_writer(folder: Path, size: int = 0) -> Iterator[Callable[[Row], None]]:
    """Yields a function that appends a row to the folder's manifest, which appears when the block has succeeded. Until then its rows are
    in TEMPORARY, each at once; with `size`, the first bytes of that are gone on with."""
    temporary = folder / TEMPORARY
    with temporary.open("a" if size else "w", buffering=1, encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not size:
            writer.writerow(COLUMNS)

        def write(row: Row) -> None:
            values = [getattr(row, field.name) for field in fields(Row)]
            writer.writerow(
                ["" if value is None else protect(value, name) for name, value in zip(COLUMNS, values, strict=True)]
            )

        yield write
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / NAME)


def parse_files(path: Path) -> set[str]:
    """The files that a manifest names, whole or not."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row[COLUMNS.index("file")] for row in csv.reader(file)}


def read_manifest(folder: Path, rejected: bool = False) -> pd.DataFrame:
    """The images of a whole synthetic folder, a row each, class names as text; with `rejected` also the candidates that were not
    kept. Raises `GanaugError` if it has no readable manifest."""
    path = folder / NAME
    if not path.is_file():
        raise GanaugError(
            f"{folder} has no {NAME}: it is no complete synthetic folder. Make one: ganaug synthesize RUN --out {folder}"
        )
    table = read_rows(path)
    refuse_packed(folder, table)
    return table if rejected or "kept" not in table else table[table["kept"].astype(bool)].reset_index(drop=True)


def refuse_packed(folder: Path, table: pd.DataFrame) -> None:
    """Raises `GanaugError` where the images of the manifest lie in tar files that nobody has unpacked."""
    written = table.loc[table["file"] != "", "file"]
    if (folder / SHARDS).is_file() and len(written) and not (folder / str(written.iloc[0])).is_file():
        raise GanaugError(
            f"the images of {folder} lie in tar files, and class folders are expected. Unpack them there: "
            f"cd {folder} && cat shard-*.tar | tar -xif -"
        )


def read_rows(file: Path | IO[bytes], name: str | Path | None = None) -> pd.DataFrame:
    """All rows of a manifest, a path or an open file, which an error calls `name`; beside a path also decisions that are not in it
    yet count. Raises `GanaugError` unless it is one."""
    path = file if name is None else name
    # First the journal, which is emptied last: no decision is in neither of them.
    pending = read_pending(file.parent) if isinstance(file, Path) and file.name == NAME else {}
    text: dict[Hashable, str] = dict.fromkeys(TEXT, "str")
    empty = {column: [""] for column in COLUMNS if column not in TEXT}
    floats = dict.fromkeys(FLOATS, _parse_float)
    dtypes = {**text, "seed": "Int64"}
    try:
        table = pd.read_csv(file, dtype=dtypes, converters=floats, keep_default_na=False, na_values=empty)
        table = table.astype({column: float for column in FLOATS if column in table})
    except (OSError, ValueError, TypeError, OverflowError, csv.Error) as error:
        raise GanaugError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    for column in set(TEXT) & set(table.columns):
        table[column] = [restore(value, column) for value in table[column]]
    missing = {"file", "class", "source"} - set(table.columns)
    if missing:
        raise GanaugError(
            f"{path} lacks the columns {', '.join(sorted(missing))}; it was not written by ganaug synthesize."
        )
    if unknown := sorted({str(value) for value in table["source"]} - {"real", "synthetic"}):
        raise GanaugError(f"{path} says {unknown[0]!r} under source; expected real or synthetic in every row.")
    if "kept" in table and (wrong := [value for value in table["kept"] if isinstance(value, str)]):
        raise GanaugError(f"{path} says {wrong[0]!r} under kept; expected True or False in every row.")
    return _with_decisions(table, pending) if pending else table


def _parse_float(text: str) -> float:
    """To the last bit, which the parser of pandas before 3.1 rounds."""
    return float(text) if text else math.nan


def locate(folder: Path, file: str) -> Path:
    """Where an image that the manifest names lies. Raises `GanaugError` unless that is a file of an image inside the folder, also after
    all links are followed."""
    parts = PurePosixPath(file).parts
    path = folder / file
    plain = bool(parts) and file == "/".join(parts) and not {"..", "/"} & set(parts) and "\0" not in file
    plain = plain and all(len(part.encode()) <= MAX_NAME for part in parts)
    if not plain or not file.lower().endswith(SUFFIXES) or (os.name == "nt" and {":", "\\"} & set(file)):
        raise GanaugError(
            f"{folder / NAME} names the file {file[:MAX_NAME]!r}; expected the path of an image inside the folder, such as <class>/a.png."
        )
    if path.is_symlink() or not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise GanaugError(
            f"{folder / NAME} names the file {file!r}, which is a link or lies behind one that leads out of the folder. Put the image "
            "itself there, or remove the row."
        )
    return path


def read_pending(folder: Path) -> dict[str, bool]:
    """{file: kept} of the decisions that the manifest may not have yet: the last of each file. A line that was cut off while it
    was written has not been promised to anybody. Raises `GanaugError` for a damaged journal."""
    path = folder / JOURNAL
    try:
        content = read_regular(path, MAX_RECORD)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise GanaugError(f"{path} cannot be read: {error}. Remove it.") from None
    try:
        found = [json.loads(line) for line in content.split(b"\n")[:-1]]
        return {str(each["file"]): bool(each["kept"]) for each in found}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise GanaugError(
            f"{path} is damaged ({type(error).__name__}: {error}). It holds decisions of `ganaug browse` that {NAME} does not have yet; "
            "mend or remove the damaged line."
        ) from None


def amend_reasons(reasons: str, kept: bool) -> str:
    """The reasons against an image once a person has decided: those of the filters stay."""
    others = [name for name in reasons.split() if name != BY_HAND]
    return " ".join(others if kept else [*others, BY_HAND])


def _with_decisions(table: pd.DataFrame, decisions: Mapping[str, bool]) -> pd.DataFrame:
    kept = table["kept"].astype(bool) if "kept" in table else pd.Series(True, index=table.index)
    reasons = table["reasons"] if "reasons" in table else pd.Series("", index=table.index)
    decided = table["file"].map(decisions)
    return table.assign(
        kept=[old if pd.isna(new) else bool(new) for old, new in zip(kept, decided, strict=True)],
        reasons=[
            old if pd.isna(new) else amend_reasons(old, bool(new)) for old, new in zip(reasons, decided, strict=True)
        ],
    )


def rewrite_manifest(folder: Path, decisions: Mapping[str, bool]) -> None:
    """Writes what people have decided, {file: kept}, into the manifest, whole or not at all. All else in it stays as it is written,
    whatever other columns it has. Raises `GanaugError` if it cannot be read."""
    path = folder / NAME
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = csv.reader(file)
        for column, default in (("kept", "True"), ("reasons", "")):
            if column not in header:
                header.append(column)
                rows = [[*row, default] for row in rows]
        at = {name: header.index(name) for name in ("file", "kept", "reasons")}
        for row in rows:
            if row and (kept := decisions.get(restore(row[at["file"]], "file"))) is not None:
                row[at["kept"]], row[at["reasons"]] = str(kept), amend_reasons(row[at["reasons"]], kept)
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise GanaugError(f"{path} cannot be read: {error}") from None
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def real_files(source: Source) -> set[str]:
    """The files of a synthetic folder or zip that are copies of real images; none where it has no manifest of ganaug's. Raises
    `GanaugError` for a manifest that cannot be read."""
    if NAME not in source.ignored or not source.size(NAME):
        return set()
    content = source.read(NAME)
    try:
        table = read_rows(io.BytesIO(content), NAME)
    except GanaugError:  # another tool's
        return set()
    return set(table.loc[table["source"] == "real", "file"])


def require_parquet() -> None:
    """Raises `GanaugError` where pyarrow is missing, before any work is done that would be lost."""
    if importlib.util.find_spec("pyarrow") is None:
        raise GanaugError("Parquet needs pyarrow. Install it (pip install 'ganaug[parquet]'), or leave --parquet out.")


def write_parquet(folder: Path) -> None:
    """The manifest once more, as Parquet; see `require_parquet`."""
    with written_whole(folder / PARQUET_NAME) as temporary:
        read_rows(folder / NAME).to_parquet(temporary, index=False)
