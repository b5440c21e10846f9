"""What classifiers are made from: images, pools and discriminators, read from the units of a study."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..classify.training import Labeled
from ..data import manifest
from ..data.cache import ImageSet, load
from ..data.images import DecodeError, decode, match_channels, resize
from ..data.source import open_source
from ..errors import GanaugError
from ..gan.member import load_member
from ..gan.networks import Backbone
from ..gan.strategies import members_of
from ..progress import track
from ..recipe import load_recipe
from ..runs import RunFolder, read_json
from ..settings import Recipe

Found = TypeVar("Found")


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
    read: dict[tuple[str, str], Any] = field(default_factory=dict)  # what was read already

    def _once(self, kind: str, name: str, function: Callable[[], Found]) -> Found:
        if (kind, name) not in self.read:
            self.read[kind, name] = function()
        found: Found = self.read[kind, name]
        return found

    def images(self, unit: str) -> ImageSet:
        return self._once("images", unit, lambda: load(self.runs[unit] / "data"))

    def backbone(self, unit: str) -> Backbone:
        """With the weights of the unit's discriminator; of no unit, the study's run."""
        return self._once("backbone", unit, lambda: load_backbone(self.runs[unit] if unit else self.architecture))

    def mirror(self, unit: str) -> str:
        """The reflections that augment the unit's images: those that its own training images were found to survive."""
        recipe = self.runs[unit] / "recipe.yaml"
        return self._once(
            "mirror", unit, lambda: (load_recipe(recipe) if recipe.is_file() else self.recipe).data.mirror
        )

    def judged_rows(self, unit: str) -> npt.NDArray[np.int64]:
        images = self.images(unit)
        dropped = self.copies.get(unit, frozenset())
        rows = images.indices("test")
        return rows[[images.files[row] not in dropped for row in rows]] if dropped else rows

    def truth(self, unit: str) -> npt.NDArray[np.int64]:
        """Labels (N,) of the unit's test images."""
        return self.images(unit).labels[self.judged_rows(unit)]

    def judged_groups(self, unit: str) -> npt.NDArray[np.int64]:
        """(N,): test images of the unit with equal numbers belong together, as the data's groups and copies tell."""
        images = self.images(unit)
        groups = [images.groups[row] for row in self.judged_rows(unit)]
        return np.asarray(np.unique(groups, return_inverse=True)[1], np.int64)

    def pool(self, unit: str, truncation: float, draw: int) -> Labeled:
        """A draw from the synthetic images of a unit: of each class one of as many equal blocks as there are draws."""
        if self.given is not None:
            return self.given
        folder, draws = self.pools[unit, truncation], self.draws[unit]
        pool = self._once("pool", str(folder), lambda: load_synthetic(folder, self.images(unit), self.recipe))
        of_class = [np.flatnonzero(pool.labels == k) for k in np.unique(pool.labels)]
        blocks = [mine[draw * (len(mine) // draws) : (draw + 1) * (len(mine) // draws)] for mine in of_class]
        rows = np.concatenate(blocks)
        if not len(rows):
            raise GanaugError(
                f"{folder} holds fewer images of every class than the {draws} draws of the study need: the GAN's images do not pass "
                "the tests. Train it longer, or loosen them (curation.without, curation.max_candidates)."
            )
        return Labeled(pool.images[rows], pool.labels[rows])

    def material(
        self, unit: str, gan: str, draw: int, truncation: float | None, own: bool, unlabeled: bool = False
    ) -> Material:
        """`gan`: the unit whose discriminator and synthetic images are used, or none; `truncation` None where no image is; `own`: the
        classifier has the discriminator's architecture; `unlabeled`: images without labels are trained on, too."""
        images = self.images(unit)
        train, num_classes = Labeled(*images.subset("train")), len(images.class_names)
        if unlabeled:
            train = joined(train, found_labels(images, unit))
        pool = None if truncation is None else self.pool(gan, truncation, draw)
        beside = self.given if pool is None else pool
        return Material(
            train=train,
            judged=np.asarray(images.images[self.judged_rows(unit)]),
            pool=pool or Labeled(train.images[:0], train.labels[:0]),
            num_beside=np.full(num_classes, self.recipe.compare.pool_per_class)
            if beside is None
            else np.bincount(beside.labels, minlength=num_classes),
            backbone=self.backbone(gan) if own else None,
            num_classes=num_classes,
            mirror=self.mirror(unit),
        )


def found_labels(images: ImageSet, unit: str) -> Labeled:
    """The unlabeled images of a unit in which its `fit` found a class."""
    if images.unlabeled is None or images.unlabeled.labels is None:
        raise GanaugError(f"{unit} has no unlabeled images whose classes were found. Fit it with --unlabeled.")
    return Labeled(*images.unlabeled.sure())


def joined(one: Labeled, other: Labeled) -> Labeled:
    return Labeled(np.concatenate([one.images, other.images]), np.concatenate([one.labels, other.labels]))


def load_backbone(run: Path) -> Backbone:
    """The trunk of the run's most trained discriminator."""
    return load_member(RunFolder(run), most_trained_member(read_json(run / "run.json")))[1].backbone


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
    files = [file for file in source.files if file.name not in real]
    pixels, labels = [], []
    with track("reading synthetic images", len(files)) as advance:
        for file in files:
            try:
                decoded = decode(source.read(file.name)).pixels
            except DecodeError as error:
                raise GanaugError(f"{folder}: {file.name} cannot be decoded ({error}). Repair or remove it.") from None
            square = resize(decoded, images.image_size, recipe.data.resize)
            pixels.append(match_channels(square, images.channels).transpose(2, 0, 1))
            labels.append(images.class_names.index(file.class_name))
            advance(len(labels))
    if not pixels:
        raise GanaugError(f"{folder} holds no synthetic image.")
    return Labeled(np.stack(pixels), np.array(labels, np.int64))


def most_trained_member(info: Mapping[str, Any]) -> str:
    """The member whose discriminator has seen the most images: the joint one where there is one."""
    counts = list(info["counts"]["train"].values())
    members = members_of(info["strategy"], len(counts))
    return max(members, key=lambda member: sum(counts[k] for k in member.classes)).name
