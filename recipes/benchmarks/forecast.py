"""Whether `--dry-run` foretells what a training and a synthesis cost: time, memory and disk, against what came.

    python recipes/benchmarks/forecast.py --data DIR_WITH_THE_ZIPS [--only digits ...]

Each prediction, each training and each synthesis is a process of its own, one right after the other and all with the higher priority
where the system allows it: other work on the machine changes the pace within minutes. Time is that of the call, without the start of
Python. A training that ends early, since it gains nothing any more, is left out of the bar for time. The images are those of a GAN of the
digits.
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
SYNTHESES: dict[str, dict[str, Any]] = {
    "images of digits": {"recipe": {"synthesize": {"per_class": 40}}},
    "images of digits, without tests": {"recipe": {"synthesize": {"per_class": 3000}}, "raw": True},
}
COMMON = {"threads": 1, "device": "cpu"}

PROGRAM = """
import json, sys, time
from pathlib import Path
from ganaug import estimate_fit, estimate_synthesize, fit, synthesize
from ganaug.gan.forecast import peak_memory
from ganaug.gan.training import fit as _
from ganaug.synthesis.synthesize import synthesize as _
what, source, out, options = sys.argv[1], sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4])
if what.startswith("estimate"):
    found = (estimate_fit if what == "estimate_fit" else estimate_synthesize)(source, **options)
    print(json.dumps({"seconds": found.seconds, "memory": found.memory, "disk": found.disk}))
else:
    begun = time.monotonic()
    (fit if what == "fit" else synthesize)(source, out, **options)
    seconds = time.monotonic() - begun
    disk = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    members = [json.loads(path.read_text()) for path in out.glob("members/*/member.json")]
    whole = all(member["ended_at"] == member["steps"] for member in members)
    print(json.dumps({"seconds": seconds, "memory": peak_memory(), "disk": disk, "whole": whole}))
"""


def ask(what: str, source: Path, out: Path, options: dict[str, Any]) -> dict[str, Any]:
    """In a process of its own."""
    command = [sys.executable, "-c", PROGRAM, what, str(source), str(out), json.dumps(options)]
    found: dict[str, Any] = json.loads(hurried(command).splitlines()[-1])
    return found


def compare(stage: str, source: Path, out: Path, options: dict[str, Any]) -> dict[str, Any]:
    """What was foretold, what came, and their ratios."""
    foretold, came = (ask(what, source, out, options) for what in (f"estimate_{stage}", stage))
    ratios = {key: round(foretold[key] / came[key], 3) for key in foretold if key != "seconds" or came["whole"]}
    return {"request": options, "foretold": foretold, "came": came, "foretold over what came": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    choices = [*REQUESTS, *SYNTHESES]
    parser.add_argument("--only", nargs="+", choices=choices, default=choices)
    arguments = parser.parse_args()
    kept = RESULTS / "forecast.json"
    measured: dict[str, Any] = json.loads(kept.read_text())["measured"] if kept.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "digits"
        for name in arguments.only:
            file, recipe = REQUESTS.get(name, REQUESTS["digits"])
            fitting = {"recipe": recipe | {"fit": recipe["fit"] | COMMON}}
            if name in REQUESTS:
                measured[name] = compare("fit", arguments.data / file, Path(folder) / name, fitting)
            else:
                if not run.exists():
                    ask("fit", arguments.data / file, run, fitting)
                options = SYNTHESES[name] | {"device": "cpu"}
                measured[name] = compare("synthesize", run, Path(folder) / name, options)
            print(name, measured[name]["foretold over what came"], flush=True)
    bars = [
        Bar(f"{name}: {key}, foretold over what came", ratio, f"1 +- {BAR}", abs(ratio - 1) <= BAR)
        for name, found in measured.items()
        for key, ratio in found["foretold over what came"].items()
    ]
    write_record("forecast", bars, measured, seeds=[0])


if __name__ == "__main__":
    main()
