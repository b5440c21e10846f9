"""Which lines and branches of ganaug the default suite runs, room by room.

python recipes/benchmarks/coverage_of_tests.py [--workers 2] [--kept]

Each room of tests/ is a process of its own, whose data stay if another ends badly. Leaves under runs/coverage/ which test ran which
line, and how long each took, for mutants.py.
"""

import argparse
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import coverage
from records import REPOSITORY, Bar, write_record

LINES, BRANCHES = 0.92, 0.85
FOLDER = REPOSITORY / "runs" / "coverage"
DATA = FOLDER / "combined"  # of all rooms
COUNTS = ("num_statements", "covered_lines", "num_branches", "covered_branches")


def rooms_of_tests() -> dict[str, list[str]]:
    """{room: what pytest is to run}; the files beside the rooms are one, too."""
    rooms = {"tests": [path.as_posix() for path in sorted(Path("tests").glob("test_*.py"))]}
    return rooms | {path.parent.name: [path.parent.as_posix()] for path in sorted(Path("tests").glob("*/test_*.py"))}


def run_room(room: str, paths: list[str]) -> None:
    place = FOLDER / room
    place.mkdir(parents=True, exist_ok=True)
    cover = ["--cov", "--cov-context=test", "--cov-report="]
    times = [f"--junitxml={place / 'times.xml'}", "-o", "junit_family=xunit1"]
    with (place / "output.txt").open("w") as output:
        subprocess.run(
            [sys.executable, "-m", "pytest", *cover, *times, *paths],
            stdout=output,
            stderr=output,
            env={**os.environ, "COVERAGE_FILE": str(place / "data")},
        )
    print(f"{room}: {(place / 'output.txt').read_text().splitlines()[-1]}", flush=True)


def has_passed(room: str) -> bool:
    times = FOLDER / room / "times.xml"
    return times.is_file() and not {"failure", "error"} & {each.tag for each in ElementTree.parse(times).iter()}


def read_tests() -> tuple[dict[str, float], list[str]]:
    """Seconds of each test, by its name for pytest; and the tests that failed."""
    found, failed = {}, []
    for times in sorted(FOLDER.glob("*/times.xml")):
        for case in ElementTree.parse(times).iter("testcase"):
            file, name = case.get("file") or "", (case.get("classname") or "").split(".")[-1]
            test = f"{file}::{'' if Path(file).stem == name else f'{name}::'}{case.get('name')}"
            found[test] = float(case.get("time") or 0)
            if case.find("failure") is not None or case.find("error") is not None:
                failed.append(test)
    return found, failed


def read_counts() -> dict[str, dict[str, int]]:
    """{file inside ganaug: COUNTS} from the data of the rooms, which are combined."""
    measured = coverage.Coverage(data_file=str(DATA), config_file=str(REPOSITORY / "pyproject.toml"))
    DATA.unlink(missing_ok=True)
    measured.combine([str(path) for path in sorted(FOLDER.glob("*/data"))], keep=True)
    measured.save()
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
    parser.add_argument("--workers", type=int, default=2, help="rooms at a time")
    parser.add_argument("--kept", action="store_true", help="run the rooms alone that have not passed yet")
    arguments = parser.parse_args()
    os.chdir(REPOSITORY)
    with ThreadPoolExecutor(arguments.workers) as pool:
        left = [(room, paths) for room, paths in rooms_of_tests().items() if not (arguments.kept and has_passed(room))]
        list(pool.map(lambda each: run_room(*each), left))
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
    tests, failed = read_tests()
    measured = {
        "tests": len(tests),
        "failed": failed,
        "rooms": {name: shares(counts) for name, counts in sorted(rooms.items())},
        "files": {name: shares(counts) for name, counts in sorted(files.items())},
    }
    write_record("coverage", bars, measured, seeds=[])


if __name__ == "__main__":
    main()
