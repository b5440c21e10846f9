"""Do larger batches make better generators in as many steps? It decides whether they grow where a step takes no longer for them, on a GPU.

    python recipes/benchmarks/batches.py --data DIR_WITH_THE_ZIPS [--work DIR]

The untuned default with batches of 32, 64 and 128 for STEPS steps each, on draws that generators.py does not score, judged as there.
One single-threaded training at a time; a finished piece in --work is not repeated. Two hours on one core.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from generators import CASES, judge_images, make_ours, open_pool, save_grid, write_folder
from oracle import train_oracle
from records import REPOSITORY, Bar, write_record

from ganaug.data.cache import load
from ganaug.runs import describe_commit, read_json, write_json

SEEDS = (30, 31, 32)
STEPS = 3200
BATCHES = (32, 64, 128)
SETS = ("sign-digits-20", "cifar10-100")
PER_CLASS = 100  # images that are judged


def measure(name: str, batch_size: int, seed: int, work: Path) -> dict[str, Any]:
    """What the images of a GAN with such batches are worth."""
    case = CASES[name]
    pool = load(work / f"pool-{case.archive}")
    oracle = train_oracle(pool, work / f"oracle-{case.archive}.pt")
    out = work / f"{name}-{batch_size}-{seed}"
    settings = {
        "data": {"image_size": case.image_size, "limit_per_class": case.per_class, "seed": seed, **case.data},
        "fit": {"steps": STEPS, "threads": 1, "seed": seed, "device": "cpu", "batch_size": batch_size},
    }
    per_class = min(PER_CLASS, *(count for split in ("train", "test") for count in pool.counts(split).values()))
    made, trained_on, found = make_ours(work / f"folder-{case.archive}", out, settings, per_class)
    save_grid(out.with_suffix(".png"), made, trained_on)
    opinion = judge_images(oracle, pool, made, trained_on, per_class)
    return {"commit": describe_commit(REPOSITORY), **found, **opinion}


def set_bars(found: dict[str, dict[str, Any]]) -> list[Bar]:
    """Of each set, what the largest batches gain over the smallest in coverage, KID and copies; a mean and its standard error."""
    bars = []
    for name in SETS:
        small, large = ([found[f"{name}-{batch}-{seed}"] for seed in SEEDS] for batch in (BATCHES[0], BATCHES[-1]))
        for what, wanted in (("coverage", "> 0"), ("kid", "< 0"), ("copies", "<= .02")):
            gains = [value(after, what) - value(before, what) for before, after in zip(small, large, strict=True)]
            mean, error = float(np.mean(gains)), float(np.std(gains, ddof=1) / len(gains) ** 0.5)
            met = mean > 0 if what == "coverage" else mean < 0 if what == "kid" else mean <= 0.02
            told = f"{mean:+.4f} +- {error:.4f}"
            bars.append(Bar(f"{name}: {what}, batches of {BATCHES[-1]} less {BATCHES[0]}", told, wanted, met))
    return bars


def value(figures: dict[str, Any], what: str) -> float:
    return float(figures[what] if what == "copies" else figures["features"][what])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with sign-digits.zip and cifar10.zip")
    parser.add_argument("--work", type=Path, default=Path("runs/batches"))
    arguments = parser.parse_args()
    work: Path = arguments.work
    torch.set_num_threads(1)
    found = {}
    for seed in SEEDS:
        for name in SETS:
            pool = open_pool(CASES[name], arguments.data, work)
            write_folder(pool, None, work / f"folder-{CASES[name].archive}")
            for batch_size in BATCHES:
                kept = work / f"{name}-{batch_size}-{seed}.json"
                if not kept.is_file():
                    write_json(kept, measure(name, batch_size, seed, work))
                found[kept.stem] = read_json(kept)
    write_record("batches", set_bars(found), found, seeds=SEEDS)


if __name__ == "__main__":
    main()
