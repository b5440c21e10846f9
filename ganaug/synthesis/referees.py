"""Classifiers of the real images, each trained without one fold of them, so that no image is judged by what was learned by heart."""

import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from ..data.images import Pixels
from ..errors import GanaugError
from ..gan.judge import Judge, examine, train_judge
from ..measures import Features
from ..progress import track
from ..runs import SCHEMA, filled_whole, load_weights, read_json, save_weights, write_json

NUM_FOLDS = 5
NAME = "referees.json"  # in a folder of them

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Referees:
    """`judges[f]` has not seen the real images whose `folds` (n,) are f."""

    judges: tuple[Judge, ...]
    folds: Indices


@dataclass(frozen=True)
class Opinions:
    """What each of J referees says of N images: `features` (J, N, F) and class `probabilities` (J, N, num_classes)."""

    features: Features
    probabilities: npt.NDArray[np.float32]


def assign_folds(labels: Indices, groups: npt.NDArray[np.str_], seed: int) -> Indices:
    """(n,): a fold for each real image. Classes are spread evenly, and groups stay whole where there are enough of them."""
    num_folds = min(NUM_FOLDS, int(np.bincount(labels).max()))
    folds = np.zeros(len(labels), np.int64)
    if num_folds < 2:
        return folds
    splitter = StratifiedGroupKFold if len(np.unique(groups)) >= 2 * num_folds else StratifiedKFold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer images than folds: some folds lack them
        parts = splitter(num_folds, shuffle=True, random_state=seed).split(labels, labels, groups)
        for fold, (_, held) in enumerate(parts):
            folds[held] = fold
    return folds


def train_referees(
    images: Pixels,
    labels: Indices,
    groups: npt.NDArray[np.str_],
    num_classes: int,
    mirror: str,
    augment: Collection[str],
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Referees:
    """A referee for each fold of the real images (n, C, S, S). With a single fold there is one, which has seen all."""
    folds = assign_folds(labels, groups, seed)
    on_device, targets = torch.from_numpy(images).to(device), torch.from_numpy(labels)
    judges = []
    with track("classifiers of the real images", int(folds.max()) + 1) as advance:
        for fold in range(int(folds.max()) + 1):
            seen = torch.from_numpy(folds != fold) if folds.any() else torch.ones(len(folds), dtype=torch.bool)
            pixels, own_seed = on_device[seen.to(device)], seed + fold
            judges.append(train_judge(pixels, targets[seen], num_classes, mirror, own_seed, dtype, augment))
            advance(fold + 1)
    return Referees(tuple(judges), folds)


def ask(referees: Referees, images: Pixels) -> Opinions:
    """The opinions on images (N, C, S, S)."""
    device = next(referees.judges[0].parameters()).device
    found = []
    with track("asking the classifiers", len(referees.judges)) as advance:
        for judge in referees.judges:
            found.append(examine(judge, torch.from_numpy(images).to(device)))
            advance(len(found))
    features, probabilities = (np.stack([part.numpy() for part in parts]) for parts in zip(*found, strict=True))
    return Opinions(features, probabilities)


def save_referees(folder: Path, referees: Referees) -> None:
    """Writes a folder of weights and folds, whole or not at all."""
    with filled_whole(folder) as partial:
        weights = [
            save_weights(partial / f"referee-{fold}.safetensors", judge) for fold, judge in enumerate(referees.judges)
        ]
        write_json(partial / NAME, {"schema": SCHEMA, "folds": referees.folds.tolist(), "weights": weights})


def load_referees(
    folder: Path, num_images: int, num_classes: int, image_size: int, channels: int, device: torch.device
) -> Referees:
    """Inverts `save_referees`. Raises `GanaugError` if something in the folder is damaged."""
    stored = read_json(folder / NAME)
    given = stored.get("folds")
    sound = isinstance(given, list) and all(type(fold) is int and 0 <= fold < NUM_FOLDS for fold in given)
    folds = np.array(given if sound else (), np.int64)
    num_judges = int(folds.max(initial=-1)) + 1
    checkpoints = stored.get("weights", [None] * num_judges)
    if len(folds) != num_images or not isinstance(checkpoints, list) or len(checkpoints) != num_judges:
        raise GanaugError(f"{folder} is damaged. Delete it: it is made anew.")
    judges = []
    for fold, checkpoint in enumerate(checkpoints):
        judge = Judge(num_classes, image_size, channels)
        load_weights(folder / f"referee-{fold}.safetensors", judge, checkpoint)
        judges.append(judge.to(device, memory_format=torch.channels_last).eval().requires_grad_(False))  # type: ignore[call-overload]
    return Referees(tuple(judges), folds)
