"""manifest.csv of a synthetic folder: one row an image. It is written last; its presence means that the folder is whole."""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from ..errors import GanaugError
from ..runs import written_whole

NAME = "manifest.csv"


@dataclass(frozen=True)
class Row:
    """One image of the folder. What a real image has no value for is None."""

    file: str  # path inside the folder, with forward slashes
    class_name: str  # the column is called `class`
    source: str  # "synthetic" or "real"
    seed: int | None = None  # of this image's noise
    checkpoint: str | None = None  # first 16 hex digits of the SHA-256 of the generator's file
    truncation: float | None = None
    realism: float | None = None  # sum of the discriminator's two logits: a real image, a real image of this class
    class_probability: float | None = None  # of its class, by the classifier that taught the generator
    original: str | None = None  # of a real image: its file in the data


def write_manifest(folder: Path, rows: Sequence[Row]) -> None:
    table = pd.DataFrame([asdict(row) for row in rows], columns=[field.name for field in fields(Row)])
    table["seed"] = pd.array([row.seed for row in rows], dtype="Int64")  # beside a None, floats would round them
    with written_whole(folder / NAME) as temporary:
        table.rename(columns={"class_name": "class"}).to_csv(temporary, index=False)


def read_manifest(folder: Path) -> pd.DataFrame:
    """The rows of a whole synthetic folder, class names as text. Raises `GanaugError` if it has no readable manifest."""
    path = folder / NAME
    if not path.is_file():
        raise GanaugError(
            f"{folder} has no {NAME}: it is no complete synthetic folder. Make one: ganaug synthesize RUN --out {folder}"
        )
    text: dict[Hashable, str] = dict.fromkeys(("file", "class", "source", "checkpoint", "original"), "str")
    empty = {key: [""] for key in ("seed", "truncation", "realism", "class_probability")}
    try:
        table = pd.read_csv(path, dtype={**text, "seed": "Int64"}, keep_default_na=False, na_values=empty)
    except (OSError, ValueError) as error:
        raise GanaugError(f"{path} cannot be read: {error}") from None
    missing = {"file", "class", "source"} - set(table.columns)
    if missing:
        raise GanaugError(
            f"{path} lacks the columns {', '.join(sorted(missing))}; it was not written by ganaug synthesize."
        )
    return table
