"""How good the synthetic images are: the untuned default, the other strategies, the second family and a textbook GAN.

    python recipes/benchmarks/generators.py --data DIR_WITH_THE_ZIPS [--work DIR] [--only mnist-10 ...]

Two single-threaded trainings at a time; a finished piece in --work is not repeated, and each notes its commit. The judge is
an oracle trained on the whole training pool of a set (oracle.py); real test images, which no training saw, are the measure.
The defaults were explored on other draws (NOTES.md), yet of the same sets and against the same test images.
All of it takes three hours on two cores. Grids of the first samples lie in --work beside the figures; those of the
default's first seed become the README's pictures.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from oracle import Oracle, judge, train_oracle
from pictures import side_by_side
from PIL import Image
from plain_gan import LATENT, train_plain
from records import REPOSITORY, Bar, write_record
from sklearn.neighbors import NearestNeighbors

import ganaug
from ganaug.classify.training import Labeled
from ganaug.data.cache import ImageSet, load, prepare
from ganaug.data.images import encode_png, to_uint8
from ganaug.data.manifest import read_manifest
from ganaug.devices import resolve_precision
from ganaug.measures import Features, coverage, diversity, high_frequency_power, kid, nearest_distances
from ganaug.recipe import load_recipe
from ganaug.runs import RunFolder, describe_commit, filled_whole, read_json, write_json
from ganaug.synthesis.filters import FILTERS

SEEDS = (0, 1, 2)
SHORT_SECONDS = 300  # for every contender but the default
MAX_PER_CLASS = 300
COPY_QUERIES = 100  # a class
COLUMNS, PICTURE_SIZE = 8, 96  # of a grid: images of each kind in a row, pixels of one
COLLAPSED = 0.5  # diversity of a class, relative to real images, that is a collapse
Piece = tuple[str, str, int]  # case, contender, seed
Pixels = npt.NDArray[np.uint8]


class Pooled(Protocol):
    """A set of which a pool is made."""

    @property
    def archive(self) -> str: ...
    @property
    def image_size(self) -> int: ...
    @property
    def data(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Case:
    """A set, how much of it is seen, and what is asked of the default."""

    archive: str
    per_class: int
    image_size: int
    seconds: float
    consistency: float
    coverage: float
    data: dict[str, Any]  # what a user knows of the set
    few: int | None = None  # so many images in every second class, `per_class` in the others


CASES = {
    "mnist-10": Case("mnist", 10, 32, 600, 0.95, 0.65, {}),
    "mnist-50": Case("mnist", 50, 32, 600, 0.95, 0.65, {}),
    "sign-digits-20": Case("sign-digits", 20, 32, 600, 0.9, 0.65, {"group_regex": r"IMG_(\d+)\d\d\."}),
    "cifar10-100": Case("cifar10", 100, 32, 600, 0.7, 0.4, {}),
    "pcb-defects-50": Case("pcb-defects", 50, 64, 1200, 0.95, 0.65, {"group_regex": r"(group\d+)"}),
}
IMBALANCED = "cifar10-5-and-500"
CASES[IMBALANCED] = Case("cifar10", 500, 32, SHORT_SECONDS, 0.0, 0.0, {}, few=5)
UNFILTERED = {"keep": 1.0, "without": list(FILTERS)}  # what the generator makes, as it comes
CONTENDERS: dict[str, dict[str, Any]] = {
    "default": {},
    "joint": {"strategy": "joint"},  # the default in the time of the other contenders
    "per-class": {"strategy": "per-class"},
    "specialised": {"strategy": "specialised"},
    "mixing": {"family": "mixing"},
    "plain": {},
}


def oracles(names: list[str]) -> list[Piece]:
    """One for each set, which other pieces wait for."""
    of_archive = {CASES[name].archive: name for name in names}
    return [(name, "oracle", 0) for name in of_archive.values()]


def pieces(names: list[str]) -> Iterator[Piece]:
    """The ones that score first."""
    scoring = [name for name in names if name != IMBALANCED]
    for seed in SEEDS:
        yield from ((name, "default", seed) for name in scoring)
    for contender in ("plain", "joint", "mixing", "specialised", "per-class"):
        yield from ((name, contender, SEEDS[0]) for name in scoring)
    if IMBALANCED in names:
        yield IMBALANCED, "default", SEEDS[0]


def open_pool(case: Pooled, data: Path, work: Path) -> ImageSet:
    """All images of the set with one split for all seeds: its own, or one by groups."""
    settings = load_recipe({"data": {"image_size": case.image_size, **case.data}}).data
    return prepare(data / f"{case.archive}.zip", settings, work / f"pool-{case.archive}", "cpu")[0]


def write_folder(pool: ImageSet, few: int | None, target: Path) -> None:
    """The pool as train/ and test/ folders, of which `fit` draws; with `few`, only so many of every second class."""
    if target.exists():
        return
    written: Counter[tuple[str, int]] = Counter()
    with filled_whole(target) as partial:
        for image, split, label, file in zip(pool.images, pool.splits, pool.labels, pool.files, strict=True):
            written[split, label] += 1
            if few is not None and split == "train" and label % 2 == 0 and written[split, label] > few:
                continue
            path = partial / split / pool.class_names[label] / f"{Path(file).stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(image.transpose(1, 2, 0)))


def measure(name: str, contender: str, seed: int, work: Path, fit: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Trains one contender, by default one of CONTENDERS, else with such settings of `fit`, and judges its images."""
    case = CASES[name]
    pool = load(work / f"pool-{case.archive}")
    oracle = train_oracle(pool, work / f"oracle-{case.archive}.pt")
    if contender == "oracle":
        test, labels = pool.subset("test")
        return {"accuracy": rounded(np.mean(judge(oracle, test).classes == labels))}
    counts = pool.counts("train"), pool.counts("test")
    per_class = min(MAX_PER_CLASS, *(count for split in counts for count in split.values()))
    seconds = case.seconds if contender == "default" else SHORT_SECONDS
    out = work / f"{name}-{contender}-{seed}"
    settings = {
        "data": {"image_size": case.image_size, "limit_per_class": case.per_class, "seed": seed, **case.data},
        "fit": {"budget": seconds, "threads": 1, "seed": seed, "device": "cpu", **(fit or CONTENDERS[contender])},
    }
    folder = work / f"folder-{name if case.few else case.archive}"
    make = make_plain if contender == "plain" else make_ours
    begun = time.monotonic()
    made, trained_on, found = make(folder, out, settings, per_class)
    minutes = round((time.monotonic() - begun) / 60, 2)
    save_grid(out.with_suffix(".png"), made, trained_on)
    opinion = judge_images(oracle, pool, made, trained_on, per_class)
    return {"commit": describe_commit(REPOSITORY), "minutes": minutes, **found, **opinion}


def make_ours(
    data: Path, out: Path, settings: dict[str, Any], per_class: int
) -> tuple[Pixels, Labeled, dict[str, Any]]:
    """Images (K, per_class, C, S, S), what the GAN was trained on, and what it says of its training."""
    run = ganaug.fit(data, out, recipe=settings, resume=(out / "run.json").is_file())
    synthetic = out.with_name(f"{out.name}-images")
    if not synthetic.exists():
        ganaug.synthesize(run, synthetic, recipe={"synthesize": {"per_class": per_class}, "curation": UNFILTERED})
    seen = load(RunFolder(run).data)
    table = read_manifest(synthetic)
    files = {name: table.loc[table["class"] == name, "file"] for name in seen.class_names}
    made = [
        [np.atleast_3d(np.asarray(Image.open(synthetic / file))).transpose(2, 0, 1) for file in files[name]]
        for name in files
    ]
    members = [read_json(path) for path in sorted(run.glob("members/*/member.json"))]
    found = {
        "steps": sum(member["ended_at"] for member in members),
        "kept": [member["chosen"] for member in members],
        "rollbacks": sum(member["rollbacks"] for member in members),
        "duality_gap": [member["checkpoints"][-1]["gap"] for member in members],
        "mirror": load_recipe(run / "recipe.yaml").data.mirror,
    }
    return np.array(made), Labeled(*seen.subset("train")), found


def make_plain(
    data: Path, out: Path, settings: dict[str, Any], per_class: int
) -> tuple[Pixels, Labeled, dict[str, Any]]:
    """The same of the textbook GAN."""
    recipe = load_recipe(settings)
    seen = prepare(data, recipe.data, out / "data", "cpu")[0]
    images, labels = seen.subset("train")
    dtype = resolve_precision("auto", torch.device("cpu"))
    generator, steps = train_plain(
        torch.from_numpy(images), torch.from_numpy(labels), recipe.fit.budget, recipe.fit.seed, dtype
    )
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        made = [
            to_uint8(generator(torch.randn(per_class, LATENT, generator=rng), torch.full((per_class,), k))).numpy()
            for k in range(len(seen.class_names))
        ]
    return np.stack(made), Labeled(images, labels), {"steps": steps}


def judge_images(oracle: Oracle, pool: ImageSet, made: Pixels, trained_on: Labeled, per_class: int) -> dict[str, Any]:
    """The measures of images (K, per_class, C, S, S) against real test images, with the whole pool for comparison."""
    rng = np.random.default_rng(0)
    test, pooled = (Labeled(*pool.subset(split)) for split in ("test", "train"))
    equal = [rng.permutation(np.flatnonzero(pooled.labels == k))[:per_class] for k in range(len(made))]
    of_made, of_test = judge(oracle, made.reshape(-1, *made.shape[2:])), judge(oracle, test.images)
    equal_pool = pooled.images[np.concatenate(equal)]
    of_pool, of_train = judge(oracle, equal_pool), judge(oracle, trained_on.images)
    labels = np.repeat(np.arange(len(made)), per_class)
    figures: dict[str, Any] = {
        "consistency": np.mean(of_made.classes == labels) / np.mean(of_test.classes == test.labels),
        "oracle_accuracy": np.mean(of_test.classes == test.labels),
    }
    for kind in ("features", "last_features"):
        ours, real, others, seen = (getattr(opinion, kind) for opinion in (of_made, of_test, of_pool, of_train))
        of_class = [real[test.labels == k] for k in range(len(made))]
        first = [features[rng.permutation(len(features))[:per_class]] for features in of_class]
        covered = [coverage(first[k], ours[labels == k]) for k in range(len(made))]
        coverable = [coverage(first[k], others[labels == k]) for k in range(len(made))]
        figures[kind] = {
            "diversity": [diversity(ours[labels == k]) / diversity(of_class[k]) for k in range(len(made))],
            "diversity_of_pool": [diversity(others[labels == k]) / diversity(of_class[k]) for k in range(len(made))],
            "coverage": float(np.mean(covered) / np.mean(coverable)),
            "coverage_absolute": float(np.mean(covered)),
            "kid": kid(ours, np.concatenate(first)),
            "kid_of_pool": kid(others, np.concatenate(first)),
            "copies": float(np.mean([feature_copies(ours[labels == k], of_class[k], seen) for k in range(len(made))])),
        }
    of_real = high_frequency_power(test.images)
    figures["artefacts"] = high_frequency_power(made.reshape(-1, *made.shape[2:])) / of_real
    figures["artefacts_of_pool"] = high_frequency_power(equal_pool) / of_real
    figures["copies"] = np.mean([share_of_copies(made[k], test, trained_on, k, rng) for k in range(len(made))])
    return {key: rounded(value) for key, value in figures.items()}


def share_of_copies(made: Pixels, test: Labeled, trained_on: Labeled, k: int, rng: np.random.Generator) -> float:
    """Share of a class's images nearer to a training image of any class than 95 % of its test images are."""
    held_out = test.images[test.labels == k]
    held_out = held_out[rng.permutation(len(held_out))[:COPY_QUERIES]]
    threshold = np.quantile(nearest_distances(held_out, trained_on.images), 0.05)
    return float((nearest_distances(made[:COPY_QUERIES], trained_on.images) < threshold).mean())


def feature_copies(made: Features, held_out: Features, trained_on: Features) -> float:
    """The same by distances of features, which see through turns and changes of brightness."""
    neighbours = NearestNeighbors(n_neighbors=1).fit(trained_on)
    ours, theirs = (neighbours.kneighbors(features)[0][:, 0] for features in (made, held_out))
    return float((ours < np.quantile(theirs, 0.05)).mean())


def save_grid(path: Path, made: Pixels, trained_on: Labeled) -> None:
    """The first training images of each class beside the first synthetic ones."""
    columns = min(COLUMNS, *np.bincount(trained_on.labels).tolist())
    real = np.stack([trained_on.images[trained_on.labels == k][:columns] for k in range(len(made))])
    side_by_side(real, made[:, :columns], max(1, round(PICTURE_SIZE / made.shape[-1]))).save(path, optimize=True)


def rounded(value: Any) -> Any:
    """Numbers to five places, in dicts and lists; words and truths as they are."""
    if isinstance(value, str | bool):
        return value
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else round(float(value), 5)


def set_bars(found: dict[str, dict[str, Any]]) -> list[Bar]:
    """Every bar of every case, over the seeds of the default that are there."""
    bars: list[Bar] = []
    if uneven := found.get(f"{IMBALANCED}-default-{SEEDS[0]}"):
        least = min(uneven["features"]["diversity"][::2])
        what = f"{IMBALANCED}: diversity, least of the classes of 5"
        bars.append(Bar(what, round(least, 4), f">= {COLLAPSED}: no collapse", least >= COLLAPSED))
    for name, case in CASES.items():
        if name == IMBALANCED:
            continue
        runs = [found[key] for seed in SEEDS if (key := f"{name}-default-{seed}") in found]
        if not runs:
            continue
        plain = found.get(f"{name}-plain-{SEEDS[0]}")
        ratios = [ratio for run in runs for ratio in run["features"]["diversity"]]
        mean = {key: float(np.mean([run[key] for run in runs])) for key in ("consistency", "artefacts", "copies")}
        covered = float(np.mean([run["features"]["coverage"] for run in runs]))
        collapsed = sum(min(run["features"]["diversity"]) < COLLAPSED or run["rollbacks"] > 0 for run in runs)
        kid_of_ours = float(np.mean([run["features"]["kid"] for run in runs]))
        of_plain = None if plain is None else kid_of_ours / float(plain["features"]["kid"])
        joint = found.get(f"{name}-joint-{SEEDS[0]}")
        as_long = joint["features"]["kid"] / plain["features"]["kid"] if plain and joint else None
        entries: list[tuple[str, float | None, str, bool | None]] = [
            (
                "class consistency",
                mean["consistency"],
                f">= {case.consistency}",
                mean["consistency"] >= case.consistency,
            ),
            ("diversity, least class", min(ratios), ">= .8", min(ratios) >= 0.8),
            ("diversity, largest class", max(ratios), "<= 1.2", max(ratios) <= 1.2),
            ("coverage", covered, f">= {case.coverage}", covered >= case.coverage),
            ("artefacts", mean["artefacts"], ".8 to 1.25", 0.8 <= mean["artefacts"] <= 1.25),
            ("KID relative to the plain GAN", of_plain, "<= .35", None if of_plain is None else of_plain <= 0.35),
            (
                "KID relative to the plain GAN, five minutes and one seed each",
                as_long,
                "<= .35",
                None if as_long is None else as_long <= 0.35,
            ),
            ("copies", mean["copies"], "<= .1", mean["copies"] <= 0.1),
            ("seeds that collapse or diverge", collapsed, "0", collapsed == 0),
        ]
        bars += [
            Bar(f"{name}, {len(runs)} seeds: {what}", None if value is None else round(value, 4), bar, met)
            for what, value, bar, met in entries
        ]
    return bars


def run_piece(piece: Piece, work: Path) -> None:
    """In a process of its own with one thread; nothing where it is finished already."""
    if (work / "{}-{}-{}.json".format(*piece)).is_file():
        return
    command = [sys.executable, __file__, "--work", str(work), "--piece", *map(str, piece)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment)


def add_data_options(parser: argparse.ArgumentParser, names: tuple[str, ...]) -> None:
    """Where the sets and the finished pieces are, and which cases to measure."""
    zips = "folder with mnist.zip, sign-digits.zip, pcb-defects.zip, cifar10.zip"
    parser.add_argument("--data", type=Path, help=zips)
    parser.add_argument("--work", type=Path, default=Path("runs/generators"))
    parser.add_argument("--only", nargs="+", choices=names, default=names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_options(parser, tuple(CASES))
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--piece", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work: Path = arguments.work
    if arguments.piece:
        name, contender, seed = arguments.piece
        torch.set_num_threads(1)
        found = measure(name, contender, int(seed), work)
        write_json(work / f"{name}-{contender}-{seed}.json", found)
        return
    for name in arguments.only:
        case = CASES[name]
        pool = open_pool(case, arguments.data, work)
        write_folder(pool, case.few, work / f"folder-{name if case.few else case.archive}")
    with ThreadPoolExecutor(arguments.jobs) as workers:
        for stage in (oracles(arguments.only), pieces(arguments.only)):
            for _ in workers.map(lambda piece: run_piece(piece, work), stage):
                pass
    done = [f"{name}-{contender}-{seed}" for name, contender, seed in pieces(list(CASES))]
    measured = {key: read_json(work / f"{key}.json") for key in done if (work / f"{key}.json").is_file()}
    for name in arguments.only:
        picture = work / f"{name}-default-{SEEDS[0]}.png"
        if name != IMBALANCED and picture.is_file():
            shutil.copy(picture, REPOSITORY / "recipes" / "pictures" / f"{name}.png")
    write_record("generators", set_bars(measured), measured, seeds=SEEDS)


if __name__ == "__main__":
    main()
