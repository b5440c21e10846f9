"""The runs that a study needs beside the one it is given: other GANs, other splits, GANs of inner folds; and their images.

A unit is a run whose test images judge classifiers of its training images. An inner fold is a unit, too: the run of a GAN that
was trained without the fold. The test images of the study are in no fold's run.
"""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..classify.training import Labeled
from ..data import manifest
from ..data.cache import ImageSet, load, resplit
from ..data.images import DecodeError, decode, match_channels, resize
from ..data.source import open_source
from ..data.split import hold_out
from ..errors import GanaugError
from ..gan.member import load_member
from ..gan.networks import Backbone
from ..gan.strategies import STRATEGIES
from ..gan.training import refit
from ..runs import RunFolder, filled_whole, read_json
from ..settings import Recipe
from ..synthesis.plan import COUNT_REQUESTS
from ..synthesis.synthesize import open_curator, synthesize

FOLD_SEEDS, SPLIT_SEEDS = 1000, 10_000  # added to the run's seed for the GANs of folds and of other splits


@dataclass(frozen=True)
class Task:
    """A unit to make, where it is not complete, and pools to draw from its GAN."""

    run: Path  # the study's own
    target: Path  # the unit's; the same as `run` where it is the study's own
    splits: npt.NDArray[np.str_]  # of the images of `run`
    seed: int
    train: bool  # a GAN; else there are the images alone
    referees: Path | None  # a unit with the same training images, whose classifiers of real images serve here, too
    pools: Mapping[Path, Mapping[str, Any]]  # folder -> recipe of the synthesis

    def is_done(self) -> bool:
        target = RunFolder(self.target)
        made = is_complete(target) if self.train else (target.data / "set.json").is_file()
        return made and all((folder / manifest.NAME).is_file() for folder in self.pools)


def make_unit(task: Task) -> None:
    """Does what is not done yet. The same task gives the same files in any process."""
    torch.set_num_threads(1)
    run, target = RunFolder(task.run), RunFolder(task.target)
    if not task.train:
        resplit(run.data, target.data, task.splits)
    elif not is_complete(target):
        refit(run, target, task.splits, task.seed)
    if task.referees is not None and not target.curation.exists():
        with filled_whole(target.curation) as partial:
            shutil.copytree(RunFolder(task.referees).curation, partial, dirs_exist_ok=True)
    for folder, recipe in task.pools.items():
        if not (folder / manifest.NAME).is_file():
            synthesize(target.root, folder, recipe=recipe)


def is_complete(run: RunFolder) -> bool:
    return run.info.is_file() and bool(read_json(run.info)["complete"])


def train_referees_of(run: Path, recipe: Recipe) -> None:
    """Trains the classifiers of the run's real images, where they are not there yet."""
    torch.set_num_threads(1)
    open_curator(RunFolder(run), recipe, torch.device("cpu"))


def pool_recipe(recipe: Recipe, per_class: int, truncation: float) -> dict[str, Any]:
    """Settings of `synthesize` for a pool of so many images a class."""
    request = {**dict.fromkeys(COUNT_REQUESTS), "per_class": per_class, "truncation": truncation, "classes": ()}
    values = recipe.model_dump()
    return {
        "fit": {"threads": 1},
        "synthesize": {**values["synthesize"], **request},
        "curation": values["curation"],
    }


def split_of(images: ImageSet, number: int, seed: int) -> npt.NDArray[np.str_]:
    """The splits (N,) of a repetition of the split: 0 is the run's own; others hold out as large a share of all images, groups
    whole, and draw as many training images."""
    if number == 0:
        return images.splits
    test = images.splits == "test"
    share = float(test.mean())
    groups = np.unique(np.array(images.groups), return_inverse=True)[1]
    held = hold_out(images.labels, groups, share, seed + SPLIT_SEEDS * number)
    return np.where(held, "test", "train")


def fold_of(images: ImageSet, rows: npt.NDArray[np.int64], judged: npt.NDArray[np.int64]) -> npt.NDArray[np.str_]:
    """The splits (N,) of an inner fold: `rows` train, `judged` test, both among the training images; nothing else is there."""
    splits = np.full(len(images.labels), "", images.splits.dtype)
    train = images.indices("train")
    splits[train[rows]], splits[train[judged]] = "train", "test"
    return splits


@dataclass(frozen=True)
class Material:
    """What one classifier is made from: arrays, so that it can be sent anywhere."""

    train: Labeled
    judged: npt.NDArray[np.uint8]  # the images whose classes are asked for; their labels are not here
    pool: Labeled
    num_beside: npt.NDArray[np.int64]  # (K,) images of each class that an arm puts beside the real ones
    backbone: Backbone | None  # with the discriminator's weights; None for a classifier of torchvision's
    num_classes: int
    mirror: str


@dataclass(frozen=True)
class Sources:
    """Where the units of a study and their pools lie; reads each once."""

    architecture: Path  # the run whose discriminator's architecture every classifier has
    runs: dict[str, Path]  # unit -> run
    pools: dict[tuple[str, float], Path]  # (unit, truncation) -> folder of synthetic images
    given: Labeled | None  # synthetic images that serve every unit
    recipe: Recipe
    draws: Mapping[str, int]  # unit -> disjoint draws in its pool
    copies: Mapping[str, frozenset[str]] = field(default_factory=dict)  # unit -> test files that are left out

    def images(self, unit: str) -> ImageSet:
        return _load(self.runs[unit] / "data")

    def judged_rows(self, unit: str) -> npt.NDArray[np.int64]:
        images = self.images(unit)
        dropped = self.copies.get(unit, frozenset())
        rows = images.indices("test")
        return rows[[images.files[row] not in dropped for row in rows]] if dropped else rows

    def truth(self, unit: str) -> npt.NDArray[np.int64]:
        """Labels (N,) of the unit's test images."""
        return self.images(unit).labels[self.judged_rows(unit)]

    def pool(self, unit: str, truncation: float, draw: int) -> Labeled:
        """A draw from the synthetic images of a unit: of each class one block."""
        if self.given is not None:
            return self.given
        pool = _load_pool(self.pools[unit, truncation], self.runs[unit], self.recipe)
        of_class = [np.flatnonzero(pool.labels == k) for k in np.unique(pool.labels)]
        rows = np.concatenate([np.array_split(mine, self.draws[unit])[draw] for mine in of_class])
        return Labeled(pool.images[rows], pool.labels[rows])

    def num_beside(self, num_classes: int) -> npt.NDArray[np.int64]:
        """Images (K,) of each class in a draw."""
        if self.given is not None:
            return np.bincount(self.given.labels, minlength=num_classes)
        return np.full(num_classes, self.recipe.compare.pool_per_class)

    def material(self, unit: str, gan: str, draw: int, truncation: float | None, own: bool) -> Material:
        """`gan`: the unit whose discriminator and synthetic images are used, or none; `truncation` None where no image is; `own`: the
        classifier has the discriminator's architecture."""
        images = self.images(unit)
        train = Labeled(*images.subset("train"))
        return Material(
            train=train,
            judged=np.asarray(images.images[self.judged_rows(unit)]),
            pool=Labeled(train.images[:0], train.labels[:0])
            if truncation is None
            else self.pool(gan, truncation, draw),
            num_beside=self.num_beside(len(images.class_names)),
            backbone=_load_backbone(self.runs[gan] if gan else self.architecture) if own else None,
            num_classes=len(images.class_names),
            mirror=self.recipe.data.mirror,
        )


@lru_cache(maxsize=64)
def _load(folder: Path) -> ImageSet:
    return load(folder)


@lru_cache(maxsize=64)
def _load_pool(folder: Path, run: Path, recipe: Recipe) -> Labeled:
    return load_synthetic(folder, _load(run / "data"), recipe)


@lru_cache(maxsize=64)
def _load_backbone(run: Path) -> Backbone:
    info = read_json(run / "run.json")
    return load_member(RunFolder(run), most_trained_member(info))[1].backbone


def load_synthetic(folder: Path, images: ImageSet, recipe: Recipe) -> Labeled:
    """The synthetic images of a folder of class folders, made square as the run's own were, with as many channels.

    Real images that a manifest lists are left out, and a class may have none. Raises `GanaugError` for classes that the
    run does not know, unreadable files, and a folder without any image.
    """
    source = open_source(folder)
    unknown = sorted(set(source.class_names) - set(images.class_names))
    if unknown:
        raise GanaugError(
            f"{folder} has classes that the run does not know: {', '.join(unknown)}. Remove or rename these folders."
        )
    real = manifest.real_files(source)
    pixels, labels = [], []
    for file in source.files:
        if file.name in real:
            continue
        try:
            decoded = decode(source.read(file.name)).pixels
        except DecodeError as error:
            raise GanaugError(f"{folder}: {file.name} cannot be decoded ({error}). Repair or remove it.") from None
        square = resize(decoded, images.image_size, recipe.data.resize)
        pixels.append(match_channels(square, images.channels).transpose(2, 0, 1))
        labels.append(images.class_names.index(file.class_name))
    if not pixels:
        raise GanaugError(f"{folder} holds no synthetic image.")
    return Labeled(np.stack(pixels), np.array(labels, np.int64))


def most_trained_member(info: Mapping[str, Any]) -> str:
    """The member whose discriminator has seen the most images: the joint one where there is one."""
    counts = list(info["counts"]["train"].values())
    members = STRATEGIES[info["strategy"]](len(counts))
    return max(members, key=lambda member: sum(counts[k] for k in member.classes)).name


def hash_of_test(images: ImageSet) -> str:
    """SHA-256 of the test images and their labels."""
    pixels, labels = images.subset("test")
    return hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()


def gan_name(split: int, gan: int) -> str:
    return f"split-{split}-gan-{gan}"


def fold_name(split: int, fold: int) -> str:
    return f"split-{split}-fold-{fold}"
