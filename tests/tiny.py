"""What the tests of whole commands share: real digits in small numbers, settings that train in a second, the command line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ganaug.cli import main
from ganaug.pipeline import write_digits

SHARED = Path(__file__).parents[2] / "shared" / "data"

# One thread: two trainings that share two cores wait for each other's threads most of the time.
FILTERS = "copy, wrong-class, outlier, unrealistic, duplicate"  # a GAN of a few steps passes none
UNFILTERED = ("--set", f"curation.without=[{FILTERS}]", "--set", "curation.keep=1")
FIT = ("--set", "fit.threads=1", "--set", "fit.width=8", "--set", "fit.batch_size=16", *UNFILTERED, "--steps", "6")
COMPARE = ("--preset", "demo", "--seeds", "2", "--set", "compare.updates=5", "--set", "compare.jobs=1")
RUN = (*FIT[:-2], "--set", "fit.steps=6", *COMPARE, "--set", "compare.pool_per_class=4")


def write_few_digits(folder: Path, classes: int = 3, train: int = 12, test: int = 8) -> Path:
    """Real scans of the first digits, with train/ and test/."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)  # nearly two thousand files
        whole = write_digits(folder.with_name(f"{folder.name}-whole"), per_class=train)
    for split, count in (("train", train), ("test", test)):
        for digit in range(classes):
            target = folder / split / str(digit)
            target.mkdir(parents=True)
            for path in sorted((whole / split / str(digit)).iterdir())[:count]:
                path.rename(target / path.name)
    shutil.rmtree(whole)
    return folder


def ganaug(*arguments: object, code: int = 0) -> Result:
    """The command's result; fails unless it exits with `code`, and if anything but an exit was raised."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def refused(*arguments: object, code: int = 2) -> str:
    """The one message of a command that must fail without a traceback."""
    errors = ganaug(*arguments, code=code).stderr
    assert "Traceback" not in errors
    lines = errors.splitlines()
    starts = [number for number, line in enumerate(lines) if line.lower().startswith("error: ")]
    assert len(starts) == 1, errors
    return "\n".join(lines[starts[0] :])


def python(code: str, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs code in a new interpreter."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of every file: both change where a file is written again."""
    found = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {str(path.relative_to(folder)): (state.st_ino, state.st_mtime_ns) for path, state in found.items()}


IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
