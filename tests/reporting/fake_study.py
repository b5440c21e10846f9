"""A small but complete study folder, as `compare` writes it, from a seed and without training anything."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from ganaug.reporting.pictures import FeatureMap, PairPicture, Walks, write_arrays, write_pairs
from ganaug.settings import ARM_NAMES

ARMS = ("scratch/real", "scratch/real+synthetic", "discriminator/real", "discriminator/real+synthetic")
MORE_ARMS = tuple(name for name in ARM_NAMES if name not in ARMS and "unlabeled" not in name)
STARTS = ("scratch", "discriminator")
METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
LEVELS = {
    "scratch/real": 0.80,
    "scratch/real+synthetic": 0.80,
    "discriminator/real": 0.84,
    "discriminator/real+synthetic": 0.84,
}


def study_values(class_names: list[str], gain: float = 0.02, seeds: int = 6) -> dict[str, Any]:
    """The contents of study.json with synthetic arms better by about `gain` in every score."""
    rng = np.random.default_rng(0)
    levels = {arm: LEVELS[arm] + gain * arm.endswith("synthetic") for arm in ARMS}
    arms = _scores(levels, seeds, rng)
    recall = _recalls(levels, class_names, seeds, rng)
    differences = [_difference(arms, start, metric) for start in STARTS for metric in METRICS]
    primary = {"arm": "scratch/real+synthetic", "baseline": "scratch/real", "metric": "balanced_accuracy"}
    verdict = next(row["verdict"] for row in differences if row["metric"] == primary["metric"])
    return {
        "schema": 1,
        "verdict": verdict,
        "sentence": f"Adding synthetic images {verdict}: balanced accuracy changes by {100 * gain:+.1f} points on the real test images.",
        "primary": primary,
        "equivalence": 0.01,
        "arms": arms,
        "differences": differences,
        "class_differences": [
            _class_difference(recall, f"{start}/real+synthetic", f"{start}/real", name)
            for start in STARTS
            for name in class_names
        ],
        "per_class": recall,
        "confusion": {arm: _confusion(recall[arm], class_names, rng) for arm in ARMS},
        "class_names": class_names,
        **study_chance(),
        **study_updates(),
        **study_origin(class_names, seeds),
    }


def study_chance() -> dict[str, Any]:
    """What is said of chance: where the variance comes from, and McNemar's test."""
    shares = (
        ("split", None, None),
        ("gan", 0.004, 0.64),
        ("draw", 0.0, 0.0),
        ("seed", 0.002, 0.16),
        ("test images", 0.00224, 0.2),
    )
    counts = {"arm_only": 1024, "baseline_only": 9, "p_value": 0.0004}
    return {
        "variance": [{"source": source, "deviation": by, "share": share} for source, by, share in shares],
        "needed": {},
        "mcnemar": [{"arm": "scratch/real+synthetic", "baseline": "scratch/real"} | counts],
    }


def study_updates() -> dict[str, Any]:
    """What was tried and chosen on the inner folds."""
    tried = ((150, 0.61, 1.2), (300, 0.7, 0.95), (600, 0.76, 0.78), (1200, 0.79, 0.71), (2400, 0.789, 0.72))
    names = ("updates", "balanced_accuracy", "log_loss")
    candidates = [dict(zip(names, row, strict=True)) for row in tried]
    return {
        "updates": {"chosen": 1200, "converged": True, "candidates": candidates},
        "choices": [study_choice()],
    }


def study_origin(class_names: list[str], seeds: int) -> dict[str, Any]:
    """The images, repetitions and settings that it was made with, and how to make it again."""
    fit = {"strategy": "joint", "learning_rate": 0.0004, "transition": [0.3, 0.55], "augment": ["color", "cutout"]}
    return {
        "preset": "standard",
        "counts": {
            kind: dict.fromkeys(class_names, n) for kind, n in (("train", 20), ("test", 50), ("synthetic", 200))
        },
        "repetitions": [{"split": 0, "gan": number, "draw": 0, "seed": number} for number in range(seeds)],
        "seeds": list(range(seeds)),
        "settings": {
            "data": {"image_size": "auto", "test_fraction": 0.2, "group_regex": None},
            "fit": fit,
            "compare": {"seeds": seeds, "updates": None},
        },
        "versions": {"python": "3.11.7", "numpy": "2.4.6"},
        "source": "digits.zip",
        "notes": ["Two of the classes have fewer than 10 training images."],
        "seconds": 754.0,
        "run": "runs/digits",
        "reproduce": ["ganaug fit digits.zip --out runs/digits", "ganaug compare runs/digits --out studies/digits"],
    }


def _scores(levels: dict[str, float], seeds: int, rng: np.random.Generator) -> dict[str, dict[str, list[float]]]:
    """Of each arm every score of every seed; what a seed adds is shared by the arms."""
    shared = rng.normal(0, 0.012, seeds)
    return {
        arm: {
            metric: [float(x) for x in np.clip(levels[arm] + shared + rng.normal(0, 0.008, seeds), 0, 1)]
            for metric in METRICS
        }
        for arm in ARMS
    }


def _recalls(
    levels: dict[str, float], class_names: list[str], seeds: int, rng: np.random.Generator
) -> dict[str, dict[str, list[float]]]:
    """Of each arm the recall of every class and seed."""
    return {
        arm: {
            name: [float(x) for x in np.clip(levels[arm] + 0.08 * np.sin(3 * index) + rng.normal(0, 0.03, seeds), 0, 1)]
            for index, name in enumerate(class_names)
        }
        for arm in ARMS
    }


def study_choice() -> dict[str, Any]:
    """What was chosen for one split: more augmentation for one arm, the others as set."""
    base = {
        "updates": 1200,
        "batch_size": 32,
        "learning_rate": 0.002,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "precision": "auto",
        "augmentation": "classical",
        "strength": 1.0,
    }
    mixing = {"ratio": 0.5, "weight": 0.5, "real_only_share": 0.25, "truncation": 1.0}
    strong = base | {"strength": 1.6}
    tried = [
        ("scratch/real", "training", base | {"updates": 600}, 0.76, 0.78, True),
        ("scratch/real", "training", strong | {"updates": 600}, 0.75, 0.8, False),
        ("scratch/real+synthetic", "training", base | {"updates": 600}, 0.77, 0.76, False),
        ("scratch/real+synthetic", "training", strong | {"updates": 600}, 0.79, 0.7, True),
        ("scratch/real+synthetic", "mixing", {"ratio": 0.0}, 0.76, 0.79, False),
        ("scratch/real+synthetic", "mixing", mixing, 0.79, 0.7, True),
        ("scratch/real+synthetic", "mixing", mixing | {"truncation": 0.7}, 0.78, 0.71, False),
        *(("scratch/real", "updates", {"updates": n}, 0.79, 0.71, n == 1200) for n in (600, 1200)),
        *(("scratch/real+synthetic", "updates", {"updates": n}, 0.8, 0.69, n == 1200) for n in (600, 1200)),
    ]
    names = ("arm", "step", "setting", "balanced_accuracy", "log_loss", "chosen")
    return {
        "chosen": 1200,
        "converged": True,
        "converged_arms": dict.fromkeys(ARMS[:3], True),
        "trainings": dict.fromkeys(ARMS, base) | {"scratch/real+synthetic": strong},
        "mixing": mixing,
        "worth_mixing": True,
        "candidates": [dict(zip(names, row, strict=True)) for row in tried],
    }


def _class_difference(recall: dict[str, dict[str, list[float]]], arm: str, baseline: str, name: str) -> dict[str, Any]:
    mean = float(np.mean(recall[arm][name]) - np.mean(recall[baseline][name]))
    return {"arm": arm, "baseline": baseline, "class": name, "mean": mean, "low": mean - 0.03, "high": mean + 0.03}


def _difference(arms: dict[str, dict[str, list[float]]], start: str, metric: str) -> dict[str, Any]:
    arm, baseline = f"{start}/real+synthetic", f"{start}/real"
    values = np.array(arms[arm][metric]) - np.array(arms[baseline][metric])
    half = 2.57 * float(values.std(ddof=1)) / len(values) ** 0.5
    low, high = float(values.mean()) - half, float(values.mean()) + half
    verdict = "helps" if low > 0 else "hurts" if high < 0 else "inconclusive"
    return {
        "arm": arm,
        "baseline": baseline,
        "metric": metric,
        "mean": float(values.mean()),
        "low": low,
        "high": high,
        "p_value": 0.012,
        "p_holm": 0.0361,
        "pairs": len(values),
        "values": [float(x) for x in values],
        "verdict": verdict,
    }


def _confusion(recall: dict[str, list[float]], class_names: list[str], rng: np.random.Generator) -> list[list[int]]:
    rows = []
    for index, name in enumerate(class_names):
        right = float(np.mean(recall[name]))
        weights = rng.dirichlet(np.full(len(class_names), 0.25))
        weights[index] = 0
        shares = weights / max(weights.sum(), 1e-9) * (1 - right)
        shares[index] = right
        rows.append([int(x) for x in np.round(300 * shares)])
    return rows


def add_arms(values: dict[str, Any]) -> None:
    """All eleven arms and as many questions as a thorough study asks, in place."""
    for arm in MORE_ARMS:
        for part in ("arms", "per_class", "confusion"):
            values[part][arm] = values[part]["scratch/real+synthetic"]
    pairs = [("discriminator/real", "scratch/real"), ("discriminator/real+synthetic", "scratch/real")]
    pairs += [(arm, "scratch/real") for arm in MORE_ARMS]
    for part in ("differences", "class_differences", "mcnemar"):
        rows = [row for row in values[part] if row["arm"] == "scratch/real+synthetic"]
        values[part] += [row | {"arm": arm, "baseline": base} for arm, base in pairs for row in rows]


def write_study(
    folder: Path, class_names: list[str], gain: float = 0.02, seeds: int = 6, side: int = 28, channels: int = 1
) -> Path:
    """All files of the folder; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    values = study_values(class_names, gain, seeds)
    (folder / "study.json").write_text(json.dumps(values), encoding="utf-8")
    _write_gan(folder / "gan.csv")
    _write_curves(folder / "curves.csv", seeds)
    images = {
        kind: example_images(len(class_names), side, channels, seed) for seed, kind in enumerate(("real", "synthetic"))
    }
    np.savez_compressed(folder / "examples.npz", **images)
    write_pictures(folder, class_names, images["real"], images["synthetic"])
    return folder


def write_pictures(
    folder: Path, class_names: list[str], real: np.ndarray, synthetic: np.ndarray, each: int = 4
) -> None:
    """The map, walks, pairs, counts of candidates and checkpoints of a study with these images (K, n, S, S, C)."""
    rng = np.random.default_rng(3)
    num_classes, shape = len(class_names), real.shape[2:]
    each = max(1, min(each, 750 // num_classes))
    labels = np.tile(np.repeat(np.arange(num_classes), each), 2)
    kinds = np.arange(len(labels)) >= len(labels) // 2
    centres = rng.uniform(0.1, 0.9, (num_classes, 2))
    write_arrays(
        folder / "map.npz",
        FeatureMap(
            places=np.clip(centres[labels] + rng.normal(0, 0.03, (len(labels), 2)), 0, 1).astype(np.float32),
            labels=labels,
            synthetic=kinds,
            nearest=np.roll(np.arange(len(labels)), len(labels) // 2),
            images=np.concatenate([part[:, :each].reshape(-1, *shape) for part in (real, synthetic)]),
        ),
    )
    at = np.linspace(0, 1, 5).reshape(1, 1, 5, 1, 1, 1)
    begin, end = synthetic[:60, :2, None], synthetic[:60, 2:4, None]
    walks = Walks(labels=np.arange(len(begin)), images=((1 - at) * begin + at * end).astype(np.uint8))
    write_arrays(folder / "walks.npz", walks)
    pairs = [
        PairPicture(
            synthetic[k, 0], real[k, 0], name, f"{name}/a.png", "train/b.png", 0.2 + 0.1 * k, 0.35, ("copy",) * (k < 2)
        )
        for k, name in enumerate(class_names)
    ]
    write_pairs(folder / "pairs.npz", pairs)
    rejected = {"copy": 3, "outlier": 40, "wrong-class": 21}
    row = {
        "real": 20,
        "asked": 200,
        "candidates": 320,
        "kept": 200,
        "surplus": 70,
        "rejected": rejected,
        "data_copying": -0.4,
    }
    (folder / "curation.json").write_text(json.dumps({"classes": dict.fromkeys(class_names, row)}), encoding="utf-8")
    with (folder / "checkpoints.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["member", "step", "gap", "kid", "coverage", "consistency", "copies", "kept"])
        for step in range(1000, 6001, 500):
            noise = rng.normal(0, 0.01, 4)
            measured = [0.3 + 300 / step, 0.2 + 200 / step, 0.9, 0.95, 0.02]
            writer.writerow(["joint", step, measured[0], *(measured[1:] + noise), int(step == 5000)])


def _write_gan(path: Path) -> None:
    rng = np.random.default_rng(1)
    columns = [
        "member",
        "step",
        "seconds",
        "loss_d",
        "loss_g",
        "real_separated",
        "fake_separated",
        "augment",
        "r1",
        "diversity",
        "class_loss",
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for step in range(50, 6001, 50):
            t = step / 6000
            noise = rng.normal(0, 0.05, 8)
            row = [
                0.9 - 0.3 * t,
                1 + t,
                0.2 + 0.5 * t,
                -0.2 - 0.4 * t,
                0.6 * t,
                0.1 + 0.05 * t,
                1 / (1 + 5 * t),
                2 * np.exp(-4 * t),
            ]
            writer.writerow(
                ["joint", step, f"{step / 20:.1f}", *(f"{value + n:.5f}" for value, n in zip(row, noise, strict=True))]
            )


def _write_curves(path: Path, seeds: int) -> None:
    rng = np.random.default_rng(2)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["arm", "seed", "update", "loss", "accuracy"])
        for index, arm in enumerate(ARMS):
            for seed in range(seeds):
                for update in range(20, 1201, 20):
                    level = 1 - np.exp(-update / (200 + 40 * index))
                    writer.writerow(
                        [
                            arm,
                            seed,
                            update,
                            2.3 - 1.8 * level + rng.normal(0, 0.08),
                            np.clip(0.1 + 0.88 * level + rng.normal(0, 0.04), 0, 1),
                        ]
                    )


def example_images(classes: int, side: int, channels: int, seed: int, each: int = 12) -> np.ndarray:
    """(classes, each, side, side, channels) uint8: soft blobs, different for each class."""
    rng = np.random.default_rng(seed)
    grid = np.linspace(-1, 1, side)
    x, y = np.meshgrid(grid, grid)
    images = np.empty((classes, each, side, side, channels), dtype=np.uint8)
    for index in range(classes):
        for number in range(each):
            angle = 2 * np.pi * index / classes + rng.normal(0, 0.2)
            blob = np.exp(-8 * ((x - 0.45 * np.cos(angle)) ** 2 + (y - 0.45 * np.sin(angle)) ** 2))
            ring = np.exp(-30 * (np.hypot(x, y) - 0.6) ** 2)
            for channel in range(channels):
                value = 235 * (blob + 0.5 * ring * (0.6 + 0.4 * np.cos(channel * 2 + index))) + rng.normal(
                    0, 6, (side, side)
                )
                images[index, number, :, :, channel] = np.clip(value, 0, 255)
    return images
