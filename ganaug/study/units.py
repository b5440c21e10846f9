"""The runs that a study needs beside the one it is given: other GANs, other splits, GANs of inner folds; and their pools.

A unit is a run whose test images judge classifiers of its training images. An inner fold is a unit, too: the run of a GAN that
was trained without the fold. The test images of the study are in no fold's run.
"""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..data import manifest
from ..data.cache import ImageSet, resplit
from ..data.split import hold_out
from ..devices import resolve_device
from ..gan.training import refit
from ..runs import RunFolder, filled_whole, read_json
from ..settings import Recipe
from ..synthesis.synthesize import open_curator, synthesize

FOLD_SEEDS, SPLIT_SEEDS = 1000, 10_000  # added to the run's seed for the GANs of folds and of other splits


@dataclass(frozen=True)
class Task:
    """A unit to make, where it is not complete, and pools to draw from its GAN."""

    run: Path  # the study's own
    target: Path  # the unit's; the same as `run` where it is the study's own
    splits: npt.NDArray[np.str_]  # of the images of `run`
    seed: int
    device: str
    train: bool  # a GAN; else there are the images alone
    referees: Path | None  # a unit with the same training images, whose classifiers of real images serve here, too
    pools: Mapping[Path, Mapping[str, Any]]  # folder -> recipe of the synthesis
    curation: Recipe | None = None  # by which classifiers of its real images are trained, for itself and for others

    @property
    def trains(self) -> bool:
        """Whether it takes a GAN's time: the study's own run is complete."""
        return self.train and self.run != self.target

    def is_done(self) -> bool:
        target = RunFolder(self.target)
        made = is_complete(target) if self.train else (target.data / "set.json").is_file()
        judged = self.curation is None or target.curation.is_dir()
        return made and judged and all((folder / manifest.NAME).is_file() for folder in self.pools)


def make_unit(task: Task) -> None:
    """Does what is not done yet. The same task gives the same files in any process."""
    torch.set_num_threads(1)
    run, target = RunFolder(task.run), RunFolder(task.target)
    if not task.train:
        resplit(run.data, target.data, task.splits)
    elif not is_complete(target):
        refit(run, target, task.splits, task.seed, task.device)
    if task.curation is not None:
        open_curator(target, task.curation, resolve_device(task.device))
    if task.referees is not None and not target.curation.exists():
        with filled_whole(target.curation) as partial:
            shutil.copytree(RunFolder(task.referees).curation, partial, dirs_exist_ok=True)
    for folder, recipe in task.pools.items():
        if not (folder / manifest.NAME).is_file():
            synthesize(target.root, folder, recipe=recipe, device=task.device)


def is_complete(run: RunFolder) -> bool:
    return run.info.is_file() and bool(read_json(run.info)["complete"])


def pool_recipe(recipe: Recipe, per_class: int, truncation: float) -> dict[str, Any]:
    """Settings of `synthesize` for a pool of so many images a class; a study's recipe makes no other request for counts."""
    values = recipe.model_dump()
    return {
        "fit": {"threads": 1},
        "synthesize": {**values["synthesize"], "per_class": per_class, "truncation": truncation},
        "curation": values["curation"],
    }


def split_of(images: ImageSet, number: int, seed: int) -> npt.NDArray[np.str_]:
    """The splits (N,) of a repetition of the split: 0 is the run's own; others share out its training and test images anew, groups
    whole, with as large a share of each class in the test. A validation split stays as it is."""
    if number == 0:
        return images.splits
    rows = np.flatnonzero(images.splits != "valid")
    labels, test = images.labels[rows], images.splits[rows] == "test"
    shares = np.array([test[labels == k].mean() for k in np.unique(labels)])
    groups = np.unique(np.array(images.groups)[rows], return_inverse=True)[1]
    splits = images.splits.copy()
    splits[rows] = np.where(hold_out(labels, groups, shares, seed + SPLIT_SEEDS * number), "test", "train")
    return splits


def fold_of(images: ImageSet, rows: npt.NDArray[np.int64], judged: npt.NDArray[np.int64]) -> npt.NDArray[np.str_]:
    """The splits (N,) of an inner fold: `rows` train, `judged` test, both among the training images; nothing else is there."""
    splits = np.full(len(images.labels), "", images.splits.dtype)
    train = images.indices("train")
    splits[train[rows]], splits[train[judged]] = "train", "test"
    return splits


def hash_of_test(images: ImageSet) -> str:
    """SHA-256 of the test images and their labels."""
    pixels, labels = images.subset("test")
    return hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()


def gan_name(split: int, gan: int) -> str:
    return f"split-{split}-gan-{gan}"


def fold_name(split: int, fold: int) -> str:
    return f"split-{split}-fold-{fold}"


def unit_root(run: Path, study: Path, name: str) -> Path:
    """The run of a unit: that of the first GAN of the first split is the study's own."""
    return run if name == gan_name(0, 0) else study / "units" / name
