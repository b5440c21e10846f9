"""Whether curation finds planted copies and wrong classes, leaves the rest alone, keeps variety, and is fast.

    python recipes/benchmarks/curation.py --data DIR_WITH_THE_ZIPS [--work DIR] [--only mnist-50 ...]

One GAN for each set, as `generators.py` trains it (and from its --work, where it is there already), on one core each. The judge
is an oracle trained on the whole training pool. About an hour on two cores, ten minutes where the GANs are there.
"""

import argparse
import io
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from generators import CASES, UNFILTERED, Case, add_data_options, open_pool, rounded, write_folder
from oracle import Oracle, judge, train_oracle
from PIL import Image
from records import Bar, write_record

import ganaug
from ganaug.classify.training import Labeled
from ganaug.data.cache import ImageSet, load
from ganaug.data.manifest import read_manifest
from ganaug.measures import coverage
from ganaug.recipe import load_recipe
from ganaug.runs import RunFolder, read_json, write_json
from ganaug.synthesis.curation import Curator, examine_candidates
from ganaug.synthesis.filters import Limits, no_copy, right_class
from ganaug.synthesis.synthesize import open_curator

SEED = 2  # of draws and runs that the limits of the filters were not explored on
PER_CLASS = 300
PLANTED, MOVED = 0.05, 0.1  # shares of the synthetic images
HELD_OUT = 1000  # real test images at most
CHUNK = 256
MANY, FEW = 10_000, 1_000  # images of the test of speed
SETS = {
    "mnist-50": CASES["mnist-50"],
    "sign-digits-50": replace(CASES["sign-digits-20"], per_class=50),
    "pcb-defects-50": CASES["pcb-defects-50"],
    "cifar10-100": CASES["cifar10-100"],
}
LABELED = ("mnist-50", "sign-digits-50", "pcb-defects-50")  # that the bars on classes name
Pixels = npt.NDArray[np.uint8]


def fit_case(name: str, case: Case, data: Path, work: Path) -> Path:
    """The run of the untuned default on the first draw."""
    write_folder(open_pool(case, data, work), None, work / f"folder-{case.archive}")
    run = work / f"{name}-default-{SEED}"
    settings = {
        "data": {"image_size": case.image_size, "limit_per_class": case.per_class, "seed": SEED, **case.data},
        "fit": {"budget": case.seconds, "threads": 1, "seed": SEED, "device": "cpu"},
    }
    return ganaug.fit(work / f"folder-{case.archive}", run, recipe=settings, resume=(run / "run.json").is_file())


def measure(name: str, case: Case, work: Path) -> dict[str, Any]:
    """All figures of one set but those of speed."""
    run = RunFolder(work / f"{name}-default-{SEED}")
    pool = load(work / f"pool-{case.archive}")
    oracle = train_oracle(pool, work / f"oracle-{case.archive}.pt")
    curator = open_curator(run, load_recipe(run.recipe), torch.device("cpu"))
    test = Labeled(*pool.subset("test"))
    per_class = min(PER_CLASS, *np.bincount(test.labels).tolist(), *pool.counts("train").values())
    raw, curated = (draw_images(run, work / f"{name}-{word}-{SEED}", per_class, more) for word, more in WAYS.items())
    found = {word: judge_images(oracle, pool, test, made) for word, made in (("raw", raw), ("curated", curated))}
    candidates = read_json(work / f"{name}-curated-{SEED}" / "curation.json")["summary"]
    return {
        **found,
        "accepted": candidates["kept"] / candidates["candidates"],
        "rejected": {reason: count / candidates["candidates"] for reason, count in candidates["rejected"].items()},
        "copies": planted_copies(curator, raw, test),
        "classes": moved_images(curator, raw, judge(oracle, raw.images).classes),
    }


WAYS: dict[str, dict[str, Any]] = {"raw": UNFILTERED, "curated": {}}


def draw_images(run: RunFolder, out: Path, per_class: int, curation: dict[str, Any]) -> Labeled:
    if not out.exists():
        ganaug.synthesize(run.root, out, recipe={"synthesize": {"per_class": per_class}, "curation": curation})
    names = read_json(run.info)["class_names"]
    table = read_manifest(out)
    images = [np.atleast_3d(np.asarray(Image.open(out / file))).transpose(2, 0, 1) for file in table["file"]]
    return Labeled(np.stack(images), np.array([names.index(name) for name in table["class"]]))


def judge_images(oracle: Oracle, pool: ImageSet, test: Labeled, made: Labeled) -> dict[str, float]:
    """Class consistency relative to real test images, and coverage of as many of them."""
    of_made, of_test = judge(oracle, made.images), judge(oracle, test.images)
    rng = np.random.default_rng(0)
    covered = []
    for k in range(len(pool.class_names)):
        real, ours = of_test.features[test.labels == k], of_made.features[made.labels == k]
        count = min(len(real), len(ours))
        covered.append(coverage(real[rng.permutation(len(real))[:count]], ours[:count]))
    right, right_of_test = np.mean(of_made.classes == made.labels), np.mean(of_test.classes == test.labels)
    return {
        "consistency": float(right / right_of_test),
        "coverage": float(np.mean(covered)),
        "images": len(made.labels),
    }


def masks(curator: Curator, images: Pixels, labels: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.bool_]]:
    """Which images the filters for copies and for wrong classes reject."""
    rejected: dict[str, list[npt.NDArray[np.bool_]]] = {"copy": [], "wrong-class": []}
    limits: Limits = curator.limits
    for begin in range(0, len(images), CHUNK):
        part = slice(begin, begin + CHUNK)
        evidence = examine_candidates(curator, images[part], labels[part], None)
        every = np.ones(len(evidence.labels), bool)
        for word, keeps in (("copy", no_copy), ("wrong-class", right_class)):
            rejected[word].append(~keeps(evidence, limits, every, np.empty((0, 16, 16), np.float32)))
    return {word: np.concatenate(parts) for word, parts in rejected.items()}


def planted_copies(curator: Curator, raw: Labeled, test: Labeled) -> dict[str, Any]:
    """Share of the planted copies that is found, by what was done to them, and of real test images that are taken for copies."""
    rng = np.random.default_rng(1)
    rows = rng.choice(len(raw.labels), max(len(CHANGES) * 20, round(PLANTED * len(raw.labels))), replace=False)
    originals = rng.integers(len(curator.real.labels), size=len(rows))
    kinds = [word for word in CHANGES if word != "flip" or curator.real.mirror != "none"]
    images, labels = raw.images.copy(), raw.labels.copy()
    for i, (row, original) in enumerate(zip(rows, originals, strict=True)):
        images[row] = CHANGES[kinds[i % len(kinds)]](curator.real.images[original], curator.real.mirror, rng)
        labels[row] = curator.real.labels[original]
    found = masks(curator, images, labels)["copy"][rows]
    held = rng.permutation(len(test.labels))[:HELD_OUT]
    alarms = masks(curator, test.images[held], test.labels[held])["copy"]
    others = np.setdiff1d(np.arange(len(labels)), rows)
    return {
        "planted": len(rows),
        "found": float(found.mean()),
        "found_by_change": {word: float(found[i :: len(kinds)].mean()) for i, word in enumerate(kinds)},
        "real": len(held),
        "false_alarms": float(alarms.mean()),
        "flagged_of_the_others": float(masks(curator, images[others], labels[others])["copy"].mean()),
    }


def shift(image: Pixels, mirror: str, rng: np.random.Generator) -> Pixels:
    down, right = rng.integers(-2, 3, size=2)
    size = image.shape[-1]
    padded = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode="edge")
    return padded[:, 2 + down : 2 + down + size, 2 + right : 2 + right + size]


def flip(image: Pixels, mirror: str, rng: np.random.Generator) -> Pixels:
    axes = {"horizontal": (2,), "vertical": (1,), "both": (1, 2)}[mirror]
    return np.flip(image, rng.choice(axes))


def brighten(image: Pixels, mirror: str, rng: np.random.Generator) -> Pixels:
    return np.clip(np.round(image * rng.choice([0.95, 1.05])), 0, 255).astype(np.uint8)


def save_as_jpeg(image: Pixels, mirror: str, rng: np.random.Generator) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(buffer, "JPEG", quality=80)
    return np.atleast_3d(np.asarray(Image.open(buffer))).transpose(2, 0, 1)


CHANGES = {"shift": shift, "flip": flip, "brightness": brighten, "jpeg": save_as_jpeg}


def moved_images(curator: Curator, raw: Labeled, seen: npt.NDArray[np.int64]) -> dict[str, float]:
    """Share rejected as of a wrong class: of images moved to another one, and of those right where they are, to the oracle."""
    rng = np.random.default_rng(2)
    right = np.flatnonzero(seen == raw.labels)
    rows = rng.choice(right, round(MOVED * len(raw.labels)), replace=False)
    num_classes = len(curator.real.class_names)
    labels = raw.labels.copy()
    labels[rows] = (labels[rows] + rng.integers(1, num_classes, size=len(rows))) % num_classes
    rejected = masks(curator, raw.images, labels)["wrong-class"]
    stayed = np.setdiff1d(right, rows)
    return {
        "moved": len(rows),
        "moved_rejected": float(rejected[rows].mean()),
        "right_rejected": float(rejected[stayed].mean()),
        "wrong_rejected": float(rejected[seen != raw.labels].mean()) if (seen != raw.labels).any() else 0.0,
    }


def measure_speed(run: Path, count: int, work: Path) -> dict[str, float]:
    """Seconds and peak memory of a process that synthesizes, curates and writes so many images on all cores."""
    out = work / f"speed-{count}"
    shutil.rmtree(out, ignore_errors=True)
    begun = time.monotonic()
    command = [sys.executable, __file__, "--many", str(run), str(out), str(count)]
    subprocess.run(command, check=True)
    seconds = time.monotonic() - begun
    found = read_json(out.with_suffix(".json"))
    return {"seconds": round(seconds, 1), **found}


def synthesize_many(run: Path, out: Path, count: int) -> None:
    names = read_json(run / "run.json")["class_names"]
    ganaug.synthesize(run, out, recipe={"synthesize": {"per_class": count // len(names)}, "fit": {"threads": None}})
    # not ru_maxrss, which a process takes over from the one that started it
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 2**10
    write_json(out.with_suffix(".json"), {"peak_mib": round(peak, 1)})


def rebuilt_alike(run: Path, folder: Path, work: Path) -> bool:
    """Whether the images of a manifest are made again byte for byte."""
    again = work / "rebuilt"
    shutil.rmtree(again, ignore_errors=True)
    ganaug.rebuild(run, folder, again)
    files = [path.relative_to(folder) for path in folder.rglob("*.png")]
    return bool(files) and all((folder / file).read_bytes() == (again / file).read_bytes() for file in files)


def set_bars(found: dict[str, Any]) -> list[Bar]:
    bars = []
    for name in SETS:
        if name not in found:
            continue
        values = found[name]
        copies, classes, raw, curated = (values[key] for key in ("copies", "classes", "raw", "curated"))
        entries: list[tuple[str, float, str, bool]] = [
            ("planted copies found", copies["found"], ">= .99", copies["found"] >= 0.99),
            ("real test images taken for copies", copies["false_alarms"], "<= .01", copies["false_alarms"] <= 0.01),
        ]
        if name in LABELED:
            entries += [
                ("moved images rejected", classes["moved_rejected"], ">= .9", classes["moved_rejected"] >= 0.9),
                ("right images rejected", classes["right_rejected"], "<= .1", classes["right_rejected"] <= 0.1),
                ("class consistency, curated", curated["consistency"], ">= .97", curated["consistency"] >= 0.97),
                (
                    "coverage, curated over raw",
                    curated["coverage"] / raw["coverage"],
                    ">= .9",
                    curated["coverage"] / raw["coverage"] >= 0.9,
                ),
            ]
        bars += [Bar(f"{name}: {what}", round(value, 4), bar, met) for what, value, bar, met in entries]
    if "speed" in found:
        many, few = found["speed"][str(MANY)], found["speed"][str(FEW)]
        growth = many["peak_mib"] / few["peak_mib"]
        bars += [
            Bar(f"{MANY:,} images of 32 px, seconds", many["seconds"], "<= 60", many["seconds"] <= 60),
            Bar(
                f"the same with the training of the classifiers, once a run ({FEW:,} images each)",
                round(many["seconds"] + found["first"]["seconds"] - few["seconds"], 1),
                "<= 60",
                many["seconds"] + found["first"]["seconds"] - few["seconds"] <= 60,
            ),
            Bar(f"peak memory of {MANY:,} over {FEW:,} images", round(growth, 3), "<= 1.1", growth <= 1.1),
            Bar("rebuilt byte for byte", str(found["rebuilt"]), "True", found["rebuilt"]),
        ]
    return bars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_options(parser, tuple(SETS))
    parser.add_argument("--many", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.many:
        synthesize_many(Path(arguments.many[0]), Path(arguments.many[1]), int(arguments.many[2]))
        return
    work: Path = arguments.work
    for name in arguments.only:
        piece = work / f"curation-{name}.json"
        if not piece.is_file():
            fit_case(name, SETS[name], arguments.data, work)
            write_json(piece, rounded(measure(name, SETS[name], work)))
    pieces = {name: work / f"curation-{name}.json" for name in SETS}
    found: dict[str, Any] = {name: read_json(piece) for name, piece in pieces.items() if piece.is_file()}
    run = work / f"cifar10-100-default-{SEED}"
    if run.is_dir():
        shutil.rmtree(run / "curation", ignore_errors=True)  # so that the first one trains the classifiers
        found["first"] = measure_speed(run, FEW, work)
        found["speed"] = {str(count): measure_speed(run, count, work) for count in (FEW, MANY)}
        found["rebuilt"] = rebuilt_alike(run, work / f"speed-{FEW}", work)
    write_record("curation", set_bars(found), found, seeds=(SEED,))


if __name__ == "__main__":
    main()
