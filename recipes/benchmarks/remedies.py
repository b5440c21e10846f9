"""What synthetic images and the discriminator's weights bring to classifiers that have converged: an exploration, no score.

    python recipes/benchmarks/remedies.py --data DIR_WITH_THE_ZIPS [--work DIR] [--only mnist-10 ...]

One draw and GAN of each set (seed 200), which no other benchmark uses; all arms with the augmentation that real images alone do best with
in NOTES.md, 6,400 updates, three seeds of the classifier. Judged on images of the training pools that were not drawn, of other persons and
boards where there are enough; no test image is used. Two trainings at a time, one thread each; predictions are kept in --work, and what
is there is not repeated. The record holds, of each set, the seeds of which all arms are complete. About an hour and a half on two cores.
"""

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from generators import open_pool, rounded
from lift import SETS, Labels, fit_draw
from records import write_record

import ganaug
from ganaug.classify.backbones import build_classifier
from ganaug.classify.training import Diet, Labeled, Mixing, Training, predict, train_classifier
from ganaug.data import manifest
from ganaug.data.cache import ImageSet, load
from ganaug.recipe import load_recipe
from ganaug.runs import RunFolder
from ganaug.study.material import load_backbone, load_synthetic
from ganaug.study.search import score
from ganaug.study.units import pool_recipe

DRAW, SEEDS = 200, (0, 1, 2)
ARMS = {
    "scratch/real": ("scratch", False),
    "discriminator/real+synthetic": ("discriminator", True),
    "discriminator/real": ("discriminator", False),
    "scratch/real+synthetic": ("scratch", True),
}
WEAK = Training(6400, 32, learning_rate=2e-3, weight_decay=0.05, label_smoothing=0.1, precision="bf16")
STRONG = Training(6400, 32, 2e-3, 0.5, 0.1, "bf16", strength=1.6)
CUT = Training(6400, 32, 2e-3, 0.5, 0.1, "bf16", strength=1.6, cutmix=0.5)
TRAININGS = {"mnist-10": STRONG, "sign-digits-10": STRONG, "pcb-defects-20": WEAK, "cifar10-50": CUT}
MIXING = Mixing(ratio=1.0, weight=1.0, real_only_share=0.25)
GROUPS = {"pcb-defects": r"(group\d+)", "sign-digits": r"IMG_(\d+)\d\d\."}  # boards, persons
LEAST_JUDGED = 600  # images of other groups; where there are fewer, all that were not drawn are judged


def judged_rows(name: str, pool: ImageSet) -> Labels:
    """Rows of the pool that the draw has not taken, of other groups than it has."""
    of = SETS[name]
    rng, train = np.random.default_rng(DRAW), pool.indices("train")  # as `lift.write_draw` draws
    counts = [of.counts] * len(pool.class_names) if isinstance(of.counts, int) else of.counts
    drawn = np.concatenate([rng.permutation(train[pool.labels[train] == k])[:n] for k, n in enumerate(counts)])
    left = np.setdiff1d(train, drawn)
    pattern = GROUPS.get(of.archive, r"(.+)")
    groups = np.array([re.search(pattern, file).group(1) for file in pool.files])  # type: ignore[union-attr]
    others = left[~np.isin(groups[left], groups[drawn])]
    return others if len(others) >= LEAST_JUDGED else left


def make_gan(name: str, work: Path) -> tuple[RunFolder, Path]:
    """The run of the draw, and the folder of its synthetic images."""
    folder = work / name
    run = fit_draw(SETS[name], load(work / f"pool-{SETS[name].archive}"), DRAW, folder)
    synthetic = folder / f"pool-{DRAW}"
    if not (synthetic / manifest.NAME).is_file():
        recipe = load_recipe({"compare": {"jobs": 1, "device": "cpu"}})
        wanted = pool_recipe(recipe, recipe.compare.pool_per_class, 1.0)
        ganaug.synthesize(run, synthetic, recipe=wanted, device="cpu")
    return RunFolder(run), synthetic


def train_arms(name: str, seed: int, work: Path) -> None:
    run, synthetic = make_gan(name, work)
    data, pool = load(run.data), load(work / f"pool-{SETS[name].archive}")
    real, made = Labeled(*data.subset("train")), load_synthetic(synthetic, data, load_recipe({}))
    judged = np.asarray(pool.images[judged_rows(name, pool)])
    backbone, mirror = load_backbone(run.root), load_recipe(run.recipe).data.mirror
    for arm, (init, mixed) in ARMS.items():
        path = predictions_path(name, arm, seed, work)
        if not path.is_file():
            model = build_classifier(backbone, len(data.class_names), init, seed)
            diet = Diet(real, made if mixed else None)
            train_classifier(model, diet, TRAININGS[name], MIXING, mirror, seed, torch.device("cpu"))
            np.save(path, predict(model, judged, torch.device("cpu")))


def predictions_path(name: str, arm: str, seed: int, work: Path) -> Path:
    return work / name / f"remedy-{arm.replace('/', '-')}-{seed}.npy"


def whole_seeds(name: str, work: Path) -> list[int]:
    return [seed for seed in SEEDS if all(predictions_path(name, arm, seed, work).is_file() for arm in ARMS)]


def summarize(name: str, work: Path) -> dict[str, Any]:
    """Balanced accuracy and log loss, after temperature scaling, of every arm and seed, and the paired gains over the baseline."""
    pool = load(work / f"pool-{SETS[name].archive}")
    rows, seeds = judged_rows(name, pool), whole_seeds(name, work)
    arms: dict[str, dict[str, Any]] = {}
    for arm in ARMS:
        scores = [score([pool.labels[rows]], [np.load(predictions_path(name, arm, seed, work))]) for seed in seeds]
        figures = {"balanced_accuracy": [s.accuracy for s in scores], "log_loss": [s.loss for s in scores]}
        arms[arm] = figures | {"mean": float(np.mean(figures["balanced_accuracy"]))}
    baseline = arms["scratch/real"]["balanced_accuracy"]
    for figures in arms.values():
        figures["gains"] = np.subtract(figures["balanced_accuracy"], baseline).tolist()
    return {"judged_images": len(rows), "seeds": seeds, "training": asdict(TRAININGS[name]), "arms": arms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with mnist.zip, pcb-defects.zip and the others")
    parser.add_argument("--work", type=Path, default=Path("runs/remedies"))
    parser.add_argument("--only", nargs="*", choices=tuple(TRAININGS), default=tuple(TRAININGS))
    parser.add_argument("--record-only", action="store_true", help="train nothing; record what is there")
    parser.add_argument("--piece", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    if arguments.piece:
        torch.set_num_threads(1)
        train_arms(arguments.piece[0], int(arguments.piece[1]), work)
        return
    for name in arguments.only:
        open_pool(SETS[name], arguments.data, work)

    def run_piece(piece: tuple[str, int]) -> None:
        command = [sys.executable, __file__, "--work", str(work), "--piece", piece[0], str(piece[1])]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        subprocess.run(command, check=True, env=environment)

    seeds = () if arguments.record_only else SEEDS
    with ThreadPoolExecutor(2) as workers:
        list(
            workers.map(run_piece, [(name, seed) for seed in seeds[:1] for name in arguments.only])
        )  # which make the GANs
        list(workers.map(run_piece, [(name, seed) for seed in seeds[1:] for name in arguments.only]))
    begun = [name for name in TRAININGS if whole_seeds(name, work)]
    write_record("remedies", [], {name: rounded(summarize(name, work)) for name in begun}, seeds=SEEDS)


if __name__ == "__main__":
    main()
