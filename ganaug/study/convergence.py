"""How many updates every arm gets: enough for the baseline to converge, chosen on folds of the training images alone.

An under-trained baseline makes any augmentation look good. The choice is made for the baseline arm, on images that it has
not seen; the discriminator and the synthetic images have seen all training images, so their arms could not be judged on them.
"""

import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold

from ..classify.backbones import build_classifier
from ..classify.training import train_classifier
from ..errors import GanaugError
from ..settings import CompareSettings
from .arms import ARMS, BASELINE
from .pieces import Material, Piece, train_pieces
from .statistics import confusion_matrices, score

TOLERANCE = 0.005  # in accuracy: gains up to half a point do not count
LOSS_TOLERANCE = 0.05  # relative: from one candidate to the next, which is twice as long
DIVISORS = (8, 4, 2, 1)  # of the longest candidate
PROBE_UPDATES = 30
SHARED_CORES = 1.2  # a training beside others on the same machine takes so many times as long as one alone


@dataclass(frozen=True)
class Candidate:
    updates: int
    balanced_accuracy: float
    log_loss: float


@dataclass(frozen=True)
class Choice:
    """`converged` is False where the longest candidate was chosen and still better than the next, by more than TOLERANCE in
    accuracy or LOSS_TOLERANCE in log loss, or where nothing was learned; None where the updates were set by hand."""

    chosen: int
    converged: bool | None
    candidates: tuple[Candidate, ...]

    def to_json(self) -> dict[str, object]:
        return {"chosen": self.chosen, "converged": self.converged, "candidates": [asdict(c) for c in self.candidates]}


def candidate_updates(longest: int) -> list[int]:
    """An eighth, a quarter, a half and the whole of `longest`; at least 1 each, none twice.

    >>> candidate_updates(2400)
    [300, 600, 1200, 2400]
    """
    return sorted({max(1, longest // divisor) for divisor in DIVISORS})


def affordable_updates(material: Material, settings: CompareSettings, device: torch.device, jobs: int) -> int:
    """The most updates an arm, up to max_updates, for which the whole study stays within the budget, by a short measurement."""
    if settings.budget is None:
        return settings.max_updates
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    model = build_classifier(material.backbone, material.num_classes, "scratch", 0)
    for _ in range(2):  # the first run warms up
        begun = time.monotonic()
        train_classifier(model, material.train, None, PROBE_UPDATES, settings, material.mirror, 0, device)
        seconds = (time.monotonic() - begun) / PROBE_UPDATES * (SHARED_CORES if jobs > 1 else 1)
    torch.set_num_threads(threads)
    mixed = 1 + settings.synthetic_ratio * (1 - settings.real_only_share)
    for_arms = settings.seeds * sum(mixed if arm.synthetic else 1 for arm in ARMS.values())
    for_choice = settings.inner_folds * sum(1 / divisor for divisor in DIVISORS)
    return max(8, min(settings.max_updates, int(settings.budget * jobs / (seconds * (for_arms + for_choice)))))


def choose_updates(
    material: Material,
    groups: Sequence[str],
    settings: CompareSettings,
    longest: int,
    folder: Path,
    device: torch.device,
    jobs: int,
) -> Choice:
    """The updates at which the baseline does best on inner folds; of those that cannot be told apart, the most.

    `groups` (num_train,): images of one stay in one fold.
    """
    labels = material.train.labels
    folds = inner_folds(labels, groups, settings.inner_folds)
    candidates = candidate_updates(longest)
    pieces = [
        Piece(f"inner-{updates}-{number}", BASELINE, number, updates, rows, judged)
        for updates in reversed(candidates)
        for number, (rows, judged) in enumerate(folds)
    ]
    outcomes = train_pieces("choose updates", pieces, material, settings, folder, device, jobs)
    scored = []
    for updates in candidates:
        mine = [piece for piece in pieces if piece.updates == updates]
        truth = np.concatenate([labels[piece.judged] for piece in mine])
        probabilities = np.concatenate([outcomes[piece.name].probabilities for piece in mine])
        scored.append(_score(updates, truth, probabilities))
    chosen = longest_of_the_best(scored, num_images=sum(len(judged) for _, judged in folds))
    return Choice(chosen, has_converged(scored, chosen, material.num_classes), tuple(scored))


def longest_of_the_best(scored: Sequence[Candidate], num_images: int) -> int:
    """The longest candidate within a standard error of the best: a few images cannot tell them apart, and a baseline that
    is trained too long loses less than one that is trained too briefly. After the one-standard-error rule of Breiman et al.
    (1984), section 3.4.3, turned towards the longer training."""
    best = max(candidate.balanced_accuracy for candidate in scored)
    error = (best * (1 - best) / num_images) ** 0.5
    return max(candidate.updates for candidate in scored if candidate.balanced_accuracy >= best - max(error, TOLERANCE))


def has_converged(scored: Sequence[Candidate], chosen: int, num_classes: int) -> bool:
    """Whether a longer training than `chosen` would gain nothing that counts; `scored` in increasing order of updates."""
    if max(candidate.balanced_accuracy for candidate in scored) <= 1 / num_classes or len(scored) < 2:
        return False
    if chosen < scored[-1].updates:
        return True
    before, last = scored[-2], scored[-1]
    gained = last.balanced_accuracy - before.balanced_accuracy > TOLERANCE
    return not gained and last.log_loss > (1 - LOSS_TOLERANCE) * before.log_loss


def inner_folds(
    labels: npt.NDArray[np.int64], groups: Sequence[str], num_folds: int
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """(rows to train on, rows to judge on) of each fold, stratified by class, groups kept together."""
    groups_of_class = [len({g for g, label in zip(groups, labels, strict=True) if label == k}) for k in set(labels)]
    num_folds = min(num_folds, max(groups_of_class))
    if num_folds < 2:
        raise GanaugError(
            "too few images to choose the number of updates: a class with two images, in two groups, is needed. "
            "Set it: --set compare.updates=500."
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # it is then missing from some folds
        splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=0)
        folds = list(splitter.split(np.zeros(len(labels)), labels, np.asarray(groups)))
    return [(rows, judged) for rows, judged in folds if len(rows) and len(judged)]


def _score(updates: int, truth: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32]) -> Candidate:
    num_classes = probabilities.shape[1]
    confusion = confusion_matrices(truth, probabilities.argmax(axis=1)[None], num_classes)
    balanced = float(score(confusion)["balanced_accuracy"][0])
    exact = probabilities.astype(np.float64)
    loss = log_loss(truth, exact / exact.sum(axis=1, keepdims=True), labels=list(range(num_classes)))
    return Candidate(updates, round(balanced, 5), round(float(loss), 5))
