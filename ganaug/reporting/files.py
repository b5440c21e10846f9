"""The files of a study folder, read and validated. `study.json` must be sound; whatever else is missing becomes a note."""

import csv
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ..errors import GanaugError
from ..runs import read_json
from .result import Result

Images = NDArray[np.uint8]
Column = NDArray[Any]


@dataclass(frozen=True)
class Table:
    """A CSV file by columns, as text."""

    columns: Mapping[str, list[str]]

    def numbers(self, name: str) -> Column:
        """(rows,) float64; NaN where a cell is empty or no number."""
        return np.array([_to_number(cell) for cell in self.columns[name]], dtype=np.float64)

    def numeric_columns(self) -> list[str]:
        """Names of the columns that hold at least one finite number."""
        return [name for name in self.columns if bool(np.isfinite(self.numbers(name)).any())]


@dataclass(frozen=True)
class Study:
    """`missing` says, for each optional file that could not be used, why: file name -> sentence."""

    result: Result
    curves: Table | None = None
    gan: Table | None = None
    real: Images | None = None  # (K, n, S, S, C)
    synthetic: Images | None = None  # (K, n, S, S, C)
    missing: Mapping[str, str] = field(default_factory=dict)


def read_study(folder: Path) -> Study:
    """The study in `folder`. Raises `GanaugError` unless it holds a sound study.json; other files may be missing."""
    result = _read_result(folder)
    missing: dict[str, str] = {}
    curves = _try_table(folder / "curves.csv", ("arm", "update"), missing)
    gan = _try_table(folder / "gan.csv", (), missing)
    real, synthetic = _try_examples(folder / "examples.npz", len(result.class_names), missing)
    return Study(result, curves, gan, real, synthetic, missing)


def _read_result(folder: Path) -> Result:
    path = folder / "study.json"
    if not folder.is_dir():
        raise GanaugError(
            f"expected the folder of a study, but {folder} is not a folder. Make one with: ganaug compare"
        )
    if not path.is_file():
        raise GanaugError(f"{folder} is not a finished study: it has no study.json. Make one with: ganaug compare")
    try:
        return Result.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "its contents"
        reason = first["msg"].removeprefix("Value error, ")
        more = f" ({error.error_count() - 1} more problems)" if error.error_count() > 1 else ""
        raise GanaugError(
            f"{path} is damaged at {where}: {reason}{more}. Repeat the study with: ganaug compare"
        ) from None


def _try_table(path: Path, required: tuple[str, ...], missing: dict[str, str]) -> Table | None:
    if not path.is_file():
        missing[path.name] = f"{path.name} is not in the study folder."
        return None
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = _table_of(list(csv.reader(file)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        missing[path.name] = f"{path.name} cannot be read: {error}."
        return None
    absent = [name for name in required if name not in table.columns]
    if absent or not any(table.columns.values()):
        missing[path.name] = f"{path.name} lacks {'the column ' + absent[0] if absent else 'rows'}."
        return None
    return table


def _table_of(lines: list[list[str]]) -> Table:
    """Rows that are cut short, as by an interrupted writer, are left out."""
    header, *rows = lines or [[]]
    whole = [row for row in rows if len(row) == len(header)]
    return Table({name: [row[index] for row in whole] for index, name in enumerate(header)})


def _to_number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _try_examples(path: Path, classes: int, missing: dict[str, str]) -> tuple[Images | None, Images | None]:
    if not path.is_file():
        missing[path.name] = f"{path.name} is not in the study folder."
        return None, None
    try:
        with np.load(path, allow_pickle=False) as archive:
            real, synthetic = archive["real"], archive["synthetic"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        missing[path.name] = f"{path.name} cannot be read: {error}."
        return None, None
    for name, images in (("real", real), ("synthetic", synthetic)):
        if images.dtype != np.uint8 or images.ndim != 5 or images.shape[0] != classes or images.shape[-1] not in (1, 3):
            missing[path.name] = (
                f"{path.name}: {name} must be uint8 ({classes}, n, S, S, 1 or 3), not {images.dtype} {images.shape}."
            )
            return None, None
    return real, synthetic
