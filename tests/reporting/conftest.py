"""Study folders for the tests of the report."""

from pathlib import Path

import pytest
from fake_study import write_study

HOSTILE = [
    "<script>alert('x')</script>",
    'quote" onload="x',
    "a & b | c",
    "*b* `c` $x$_y",
    "line\nbreak <img src=x>",
]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study", [str(number) for number in range(10)])


@pytest.fixture
def hostile_study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "hostile", HOSTILE)
