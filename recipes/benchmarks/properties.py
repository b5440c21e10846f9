"""Looks for counterexamples to tests/properties/ and to the plans of counts, 10,000 examples to each; the suite tries 30.

python recipes/benchmarks/properties.py [--workers 2] [--kept]
"""

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from records import REPOSITORY, Bar, write_record

EXAMPLES = 10_000
FOLDER = REPOSITORY / "runs" / "properties"
FOUND = re.compile(r"(\d+) passing[ a-z]*, (\d+) failing[ a-z]*,(?: and)? (\d+) invalid")
EXHAUSTED = "nothing left to do"  # all examples that there are


def tests_to_run() -> list[str]:
    places = ["tests/properties", "tests/synthesis/test_plan.py"]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-m", "hypothesis", *places]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    tests = [line for line in listed.splitlines() if "::" in line]
    assert tests, listed
    return tests


def output_of(test: str) -> Path:
    return FOLDER / f"{test.rpartition('/')[2].replace('::', '.')}.txt"


def look(test: str) -> None:
    """Each test in a process of its own, whose output is kept."""
    command = [sys.executable, "-m", "pytest", "--hypothesis-profile=thorough", "--hypothesis-show-statistics", test]
    found = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    output_of(test).write_text(found.stdout + found.stderr)
    print(f"{test}: {found.stdout.splitlines()[-1] if found.stdout else found.stderr[-200:]}", flush=True)


def finding(test: str) -> dict[str, int | str | bool]:
    """What the output of a test says: examples that passed and failed in all phases."""
    text = output_of(test).read_text()
    counts = [tuple(map(int, each)) for each in FOUND.findall(text)]
    passing, failing, invalid = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0, 0)
    held = bool(re.search(r"\b1 passed", text)) and failing == 0
    return {
        "test": test,
        "held": held,
        "examples": passing,
        "failing": failing,
        "invalid": invalid,
        "exhausted": EXHAUSTED in text,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--kept", action="store_true", help="only what has not been looked at yet")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    os.environ["PYTEST_ADDOPTS"] = "-p no:cacheprovider"
    tests = tests_to_run()
    left = [test for test in tests if not (arguments.kept and output_of(test).exists())]
    with ThreadPoolExecutor(arguments.workers) as pool:
        list(pool.map(look, left))
    findings = [finding(test) for test in tests]
    wrong = [str(each["test"]) for each in findings if not each["held"]]
    few = [each for each in findings if int(each["examples"]) < EXAMPLES and not each["exhausted"]]
    bars = [
        Bar("properties with a counterexample", len(wrong), "0", not wrong),
        Bar(f"properties with fewer than {EXAMPLES} examples, of more", len(few), "0", not few),
    ]
    write_record("properties", bars, findings, seeds=[])


if __name__ == "__main__":
    main()
