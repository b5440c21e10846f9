"""The files of a study folder, read and validated. `study.json` must be sound; whatever else is missing becomes a note."""

import csv
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ..errors import GanaugError
from ..runs import read_json
from ..watch import refuse_unfinished
from .pictures import MAP, PAIRS, WALKS, Arrays, FeatureMap, PairPicture, Walks, read_map, read_pairs, read_walks
from .result import Curation, Result
from .sprites import Images

CURATION = "curation.json"  # what became of the candidates
OF_SYNTHETIC = (
    "examples.npz",
    MAP,
    WALKS,
    PAIRS,
    CURATION,
)  # files that a study without synthetic images has no use for

Column = NDArray[Any]
Found = TypeVar("Found")


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
    checkpoints: Table | None = None
    map: FeatureMap | None = None
    walks: Walks | None = None
    pairs: Sequence[PairPicture] | None = None
    curation: Curation | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


def read_study(folder: Path) -> Study:
    """The study in `folder`. Raises `GanaugError` unless it holds a sound study.json; other files may be missing."""
    result = _read_result(folder)
    missing: dict[str, str] = {}
    num_classes = len(result.class_names)
    real, synthetic = _try_examples(folder / "examples.npz", num_classes, missing)
    return Study(
        result=result,
        curves=_try_table(folder / "curves.csv", ("arm", "update"), missing),
        gan=_try_table(folder / "gan.csv", (), missing),
        real=real,
        synthetic=synthetic,
        checkpoints=_try_table(folder / "checkpoints.csv", ("member", "step", "kept"), missing),
        map=_try_arrays(folder / MAP, read_map, num_classes, missing),
        walks=_try_arrays(folder / WALKS, read_walks, num_classes, missing),
        pairs=_try_arrays(folder / PAIRS, read_pairs, num_classes, missing),
        curation=_try_curation(folder / CURATION, missing),
        missing=missing,
    )


def _read_result(folder: Path) -> Result:
    path = folder / "study.json"
    if not folder.is_dir():
        raise GanaugError(
            f"expected the folder of a study, but {folder} is not a folder. Make one with: ganaug compare"
        )
    refuse_unfinished(folder)
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
    def read(arrays: Arrays, classes: int) -> tuple[Images, Images]:
        for name in ("real", "synthetic"):
            images = arrays[name]
            sound = images.dtype == np.uint8 and images.ndim == 5
            if not sound or images.shape[0] != classes or images.shape[-1] not in (1, 3):
                raise ValueError(
                    f"{name} must be uint8 ({classes}, n, S, S, 1 or 3), not {images.dtype} {images.shape}"
                )
        return arrays["real"], arrays["synthetic"]

    return _try_arrays(path, read, classes, missing) or (None, None)


def _try_arrays(
    path: Path, read: Callable[[Arrays, int], Found], classes: int, missing: dict[str, str]
) -> Found | None:
    if not path.is_file():
        missing[path.name] = f"{path.name} is not in the study folder."
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        missing[path.name] = f"{path.name} cannot be read: {error}."
        return None
    try:
        return read(arrays, classes)
    except KeyError as error:
        missing[path.name] = f"{path.name} lacks {error}."
    except (ValueError, IndexError) as error:
        missing[path.name] = f"{path.name}: {error}."
    return None


def _try_curation(path: Path, missing: dict[str, str]) -> Curation | None:
    if not path.is_file():
        missing[path.name] = f"{path.name} is not in the study folder."
        return None
    try:
        return Curation.model_validate(read_json(path))
    except (GanaugError, ValidationError) as error:
        missing[path.name] = f"{path.name} cannot be read: {str(error).splitlines()[0].rstrip('.')}."
        return None
