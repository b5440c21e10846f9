"""Which lines and branches of ganaug the default suite runs, room by room.

python recipes/benchmarks/coverage_of_tests.py [--workers 2] [--kept]

Leaves under runs/coverage/ which test ran which line, and how long each took, for mutants.py.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import coverage
from records import REPOSITORY, Bar, write_record

LINES, BRANCHES = 0.92, 0.85
FOLDER = REPOSITORY / "runs" / "coverage"
DATA, TIMES = FOLDER / "data", FOLDER / "times.xml"
COUNTS = ("num_statements", "covered_lines", "num_branches", "covered_branches")


def run_suite(workers: int) -> None:
    """Fails if a test does: the lines that a failing suite runs mean little."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    cover = ["--cov", "--cov-context=test", "--cov-report=", f"--junitxml={TIMES}", "-o", "junit_family=xunit1"]
    command = [sys.executable, "-m", "pytest", "-n", str(workers), *cover]
    subprocess.run(command, check=True, cwd=REPOSITORY, env={**os.environ, "COVERAGE_FILE": str(DATA)})


def read_counts() -> dict[str, dict[str, int]]:
    """{file inside ganaug: COUNTS} from the data of the last run."""
    measured = coverage.Coverage(data_file=str(DATA), config_file=str(REPOSITORY / "pyproject.toml"))
    measured.load()
    report = FOLDER / "report.json"
    measured.json_report(outfile=str(report))
    files = json.loads(report.read_text())["files"]
    found = {}
    for path, entry in files.items():
        inside = Path(os.path.relpath(REPOSITORY / path, REPOSITORY / "ganaug")).as_posix()
        found[inside] = {name: entry["summary"][name] for name in COUNTS}
    return found


def shares(counts: dict[str, int]) -> dict[str, float | int]:
    return counts | {
        "lines": round(counts["covered_lines"] / max(counts["num_statements"], 1), 4),
        "branches": round(counts["covered_branches"] / max(counts["num_branches"], 1), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="processes of pytest-xdist")
    parser.add_argument("--kept", action="store_true", help="read the last run's data rather than running the suite")
    arguments = parser.parse_args()
    if not arguments.kept:
        run_suite(arguments.workers)
    files = read_counts()
    rooms: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(COUNTS, 0))
    for path, counts in files.items():
        for place in ("all", path.split("/")[0] if "/" in path else "ganaug"):
            rooms[place] = {name: rooms[place][name] + counts[name] for name in COUNTS}
    whole = shares(rooms["all"])
    bars = [
        Bar("lines of ganaug/ that the suite runs", whole["lines"], f">= {LINES}", whole["lines"] >= LINES),
        Bar("branches of ganaug/", whole["branches"], f">= {BRANCHES}", whole["branches"] >= BRANCHES),
    ]
    measured = {
        "rooms": {name: shares(counts) for name, counts in sorted(rooms.items())},
        "files": {name: shares(counts) for name, counts in sorted(files.items())},
    }
    write_record("coverage", bars, measured, seeds=[])


if __name__ == "__main__":
    main()
