"""How fast the command answers, and how long the tests take.

python recipes/benchmarks/startup.py [--suite]
"""

import argparse
import statistics
import subprocess
import sys
import time

from records import REPOSITORY, Bar, write_record

HELP_SECONDS, SUITE_MINUTES = 0.5, 5
REPEATS = 9


def seconds_of(command: list[str]) -> float:
    begun = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY)
    return time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", action="store_true", help="run the whole test suite too")
    arguments = parser.parse_args()
    help_command = [sys.executable, "-m", "ganaug", "--help"]
    seconds_of(help_command)  # fills the caches of the file system
    times = [seconds_of(help_command) for _ in range(REPEATS)]
    median = statistics.median(times)
    bars = [Bar("ganaug --help, median seconds", round(median, 3), f"<= {HELP_SECONDS}", median <= HELP_SECONDS)]
    if arguments.suite:
        minutes = seconds_of([sys.executable, "-m", "pytest", "-n", "2"]) / 60
        bars.append(
            Bar("test suite, minutes on 2 cores", round(minutes, 2), f"<= {SUITE_MINUTES}", minutes <= SUITE_MINUTES)
        )
    write_record("startup", bars, {"help_seconds": [round(value, 3) for value in times]}, seeds=[])


if __name__ == "__main__":
    main()
