"""Tables as CSV that a spreadsheet may open: no text in them is taken for a formula. https://owasp.org/www-community/attacks/CSV_Injection

A path that begins like a formula gets ./ before it and stays the path of the same file; any other such text gets an apostrophe, as
spreadsheets themselves write it, and so does one that has apostrophes before it already. Numbers, and signs alone, stay as they are.
"""

import re
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import pandas as pd

FORMULA = r"'*[=+\-@\t\r\n＝＋－＠]"
NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)"
PATHS = frozenset({"file", "file_name", "nearest_real", "original"})  # columns

Value = TypeVar("Value")


def protect(value: Value, column: str = "") -> Value | str:
    """What stands in the CSV for a value of the column.

    >>> [protect(text) for text in ("=A1", "-1", "-", "'=A1", "a-b")]
    ["'=A1", '-1', '-', "''=A1", 'a-b']
    """
    if not isinstance(value, str) or not re.match(FORMULA, value) or len(value) == 1 or re.fullmatch(NUMBER, value):
        return value
    return f"./{value}" if column in PATHS else f"'{value}"


def restore(value: str, column: str = "") -> str:
    """Inverts `protect`."""
    if column in PATHS:
        return value[2:] if value.startswith("./") and re.match(FORMULA, value[2:]) else value
    return value[1:] if value.startswith("'") and re.match(FORMULA, value) else value


def write_csv(table: "pd.DataFrame", file: Path | IO[str]) -> None:
    """The table without its index; `protect` applies to its values and to the names of its columns."""
    shown = table.copy()
    for name in shown.columns:
        if shown[name].dtype.kind not in "biuf":
            shown[name] = [protect(value, str(name)) for value in shown[name]]
    shown.rename(columns=protect).to_csv(file, index=False)
