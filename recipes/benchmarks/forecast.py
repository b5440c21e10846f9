"""Whether `ganaug fit --dry-run` foretells what a training costs: time, memory and disk, against the training itself.

    python recipes/benchmarks/forecast.py --data DIR_WITH_THE_ZIPS [--only digits ...]

Each prediction and each training is a process of its own, one right after the other and both with the higher priority where the system
allows it: other work on the machine changes the pace within minutes. Time is that of the call, without the start of Python. A training
that ends early, since it gains nothing any more, is left out of the bar for time.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from records import RESULTS, Bar, write_record
from scale import hurried

BAR = 0.25
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "digits": ("mnist.zip", {"data": {"limit_per_class": 20}, "fit": {"steps": 400, "width": 16}}),
    "photographs": ("cifar10.zip", {"data": {"limit_per_class": 50}, "fit": {"steps": 300, "width": 32}}),
    "boards at 64 px": ("pcb-defects.zip", {"data": {"limit_per_class": 30, "image_size": 64}, "fit": {"steps": 150}}),
}
COMMON = {"threads": 1, "device": "cpu"}

PROGRAM = """
import json, sys, time
from pathlib import Path
from ganaug import estimate_fit, fit
from ganaug.gan.forecast import peak_memory
from ganaug.gan.training import fit as _
what, data, out, recipe = sys.argv[1], sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4])
if what == "forecast":
    found = estimate_fit(data, recipe=recipe)
    print(json.dumps({"seconds": found.seconds, "memory": found.memory, "disk": found.disk}))
else:
    begun = time.monotonic()
    fit(data, out, recipe=recipe)
    disk = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    member = json.loads((out / "members/joint/member.json").read_text())
    whole = member["ended_at"] == member["steps"]
    print(json.dumps({"seconds": time.monotonic() - begun, "memory": peak_memory(), "disk": disk, "whole": whole}))
"""


def compare(data: Path, recipe: dict[str, Any]) -> dict[str, Any]:
    """What was foretold, what came, and their ratios."""
    asked = recipe | {"fit": recipe["fit"] | COMMON}
    with tempfile.TemporaryDirectory() as folder:
        arguments = [str(data), str(Path(folder) / "run"), json.dumps(asked)]
        foretold, came = (
            json.loads(hurried([sys.executable, "-c", PROGRAM, what, *arguments]).splitlines()[-1])
            for what in ("forecast", "fit")
        )
    ratios = {key: round(foretold[key] / came[key], 3) for key in foretold if key != "seconds" or came["whole"]}
    return {"request": asked, "foretold": foretold, "came": came, "foretold over what came": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=REQUESTS, default=REQUESTS)
    arguments = parser.parse_args()
    kept = RESULTS / "forecast.json"
    measured: dict[str, Any] = json.loads(kept.read_text())["measured"] if kept.is_file() else {}
    for name in arguments.only:
        file, recipe = REQUESTS[name]
        measured[name] = compare(arguments.data / file, recipe)
        print(name, measured[name]["foretold over what came"], flush=True)
    bars = [
        Bar(f"{name}: {key}, foretold over what came", ratio, f"1 +- {BAR}", abs(ratio - 1) <= BAR)
        for name, found in measured.items()
        for key, ratio in found["foretold over what came"].items()
    ]
    write_record("forecast", bars, measured, seeds=[0])


if __name__ == "__main__":
    main()
