"""Do larger batches make better generators in as many steps? It decides whether they grow where a step takes no longer for them, on a GPU.

    python recipes/benchmarks/batches.py --data DIR_WITH_THE_ZIPS [--work DIR]

The untuned default with batches of 32 and 128 for STEPS steps each, on draws that generators.py does not score, judged as there.
One single-threaded training at a time, two hours on one core. What each gave is kept in results/batches/ and not repeated.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from generators import CASES, measure, open_pool, rounded, write_folder
from records import RESULTS, Bar, write_record

from ganaug.runs import read_json, write_json

SEEDS = (30, 31, 32)
STEPS = 3200
BATCHES = (32, 128)
SETS = ("sign-digits-20", "cifar10-100")
KEPT = RESULTS / "batches"


def set_bars(found: dict[str, dict[str, Any]]) -> list[Bar]:
    """Of each set, what the largest batches gain over the smallest in coverage, KID and copies; a mean and its standard error."""
    bars = []
    for name in SETS:
        small, large = (
            [found[f"{name}-batch-{batch}-{seed}"] for seed in SEEDS] for batch in (BATCHES[0], BATCHES[-1])
        )
        for what, sign, wanted in (("coverage", 1, "more"), ("kid", -1, "less"), ("copies", -1, "not more")):
            gains = [value(after, what) - value(before, what) for before, after in zip(small, large, strict=True)]
            mean, error = float(np.mean(gains)), float(np.std(gains, ddof=1) / len(gains) ** 0.5)
            told, beyond = f"{mean:+.4f} +- {error:.4f}", sign * mean > (-error if what == "copies" else error)
            what = f"{name}: {what}, batches of {BATCHES[-1]} less {BATCHES[0]}"
            bars.append(Bar(what, told, f"{wanted}, by a standard error", beyond))
    return bars


def means_of(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each set and size of batches, over the seeds."""
    return {
        f"{name}-batch-{batch}": {
            what: rounded(np.mean([value(found[f"{name}-batch-{batch}-{seed}"], what) for seed in SEEDS]))
            for what in ("coverage", "kid", "copies", "consistency", "minutes")
        }
        for name in SETS
        for batch in BATCHES
    }


def value(figures: dict[str, Any], what: str) -> float:
    return float(figures["features"][what] if what in ("coverage", "kid") else figures[what])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with sign-digits.zip and cifar10.zip")
    parser.add_argument("--work", type=Path, default=Path("runs/batches"))
    arguments = parser.parse_args()
    work: Path = arguments.work
    torch.set_num_threads(1)
    KEPT.mkdir(parents=True, exist_ok=True)
    found = {}
    for seed in SEEDS:
        for name in SETS:
            pool = open_pool(CASES[name], arguments.data, work)
            write_folder(pool, None, work / f"folder-{CASES[name].archive}")
            for batch_size in BATCHES:
                contender = f"batch-{batch_size}"
                kept = KEPT / f"{name}-{contender}-{seed}.json"
                if not kept.is_file():
                    fit = {"steps": STEPS, "batch_size": batch_size}
                    write_json(kept, measure(name, contender, seed, work, fit))
                found[kept.stem] = read_json(kept)
    write_record("batches", set_bars(found), means_of(found), seeds=SEEDS)


if __name__ == "__main__":
    main()
