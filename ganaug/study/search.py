"""What every arm of a study is given alike: a training tuned by the same small search, a mixing, and enough updates to converge.

All of it is chosen on inner folds of the training images, with GANs that were trained without the fold. An under-trained or
untuned baseline makes any augmentation look good.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from sklearn.model_selection import StratifiedGroupKFold

from ..classify.training import Mixing, Training
from ..errors import GanaugError
from ..settings import CompareSettings, Recipe
from .arms import ARMS, BASELINE, MIXED, Init
from .material import Sources
from .pieces import Outcome, Piece, make_piece

LEAST_UPDATES = 800  # the first number of them that is tried; half as many favour weak augmentation
TOLERANCE = 0.005  # in accuracy: gains up to half a point do not count
ROUNDING = 1e-9  # of sums of weights: one image in two hundred is half a point
LOSS_TOLERANCE = 0.05  # relative, in log loss, and at least
LEAST_LOSS_TOLERANCE = 0.01  # in nats: what half a point of errors costs, at two nats each

TOO_FEW = (
    "too few images to choose the number of updates: a class with two images, in two groups, is needed. "
    "Set it: --set compare.updates=500 --set compare.tune=false."
)

Floats = npt.NDArray[np.float64]
Train = Callable[[str, Sequence[Piece]], dict[str, Outcome]]


@dataclass(frozen=True)
class Score:
    """An arm on the inner folds. `losses`, `hits` and `weights` (N,): of each image; the weights make classes count alike."""

    losses: Floats
    hits: Floats
    weights: Floats
    num_classes: int

    @property
    def loss(self) -> float:
        return float(self.weights @ self.losses)

    @property
    def accuracy(self) -> float:
        return float(self.weights @ self.hits)


@dataclass(frozen=True)
class Candidate:
    """One thing that was tried, for the record."""

    arm: str
    step: str  # training, mixing or updates
    setting: dict[str, Any]
    balanced_accuracy: float
    log_loss: float
    chosen: bool


@dataclass(frozen=True)
class Choice:
    """`converged`: arms -> whether twice as many updates as some that were tried gained nothing that counts; empty where it was not
    measured. `worth_mixing`: whether synthetic images beside the real ones did better than none on the inner folds; None where
    that was not asked."""

    updates: int
    trainings: dict[str, Training]
    mixing: Mixing
    worth_mixing: bool | None
    converged: dict[str, bool]
    candidates: tuple[Candidate, ...]

    def training_of(self, arm: str) -> Training:
        """Its own, or where it was not tuned, the baseline's."""
        return self.trainings.get(arm, self.trainings[BASELINE])

    def to_json(self) -> dict[str, Any]:
        return {
            "chosen": self.updates,
            "converged": all(self.converged.values()) if self.converged else None,
            "converged_arms": self.converged,
            "mixing": asdict(self.mixing),
            "worth_mixing": self.worth_mixing,
            "candidates": [asdict(candidate) for candidate in self.candidates],
        }


def base_training(settings: CompareSettings) -> Training:
    return Training(
        updates=settings.updates or settings.max_updates,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        label_smoothing=settings.label_smoothing,
        precision=settings.precision,
    )


def base_mixing(recipe: Recipe) -> Mixing:
    """As set; the truncation is that of `synthesize`."""
    settings = recipe.compare
    ratio, weight, share = settings.synthetic_ratio, settings.synthetic_weight, settings.real_only_share
    return Mixing(ratio, weight, share, recipe.synthesize.truncation)


def training_candidates(base: Training, init: Init) -> tuple[Training, ...]:
    """The search of an arm, as long for all: as set; more augmentation and decay; the same with CutMix; and from scratch a quarter of
    the rate without smoothing, from the discriminator the second one with a third of the rate for its layers."""
    strong = replace(base, strength=1.6, weight_decay=min(1.0, 10 * base.weight_decay))
    gentle = replace(base, learning_rate=base.learning_rate / 4, label_smoothing=0.0)
    slow = replace(strong, backbone_rate=0.3)
    return base, strong, replace(strong, cutmix=0.5), slow if init == "discriminator" else gentle


def mixing_candidates(base: Mixing) -> tuple[Mixing, ...]:
    """As set; fewer; more, with full weight; as many, with full weight; truncated; a longer end on real images alone."""
    full = min(1.0, 2 * base.weight)
    return (
        base,
        replace(base, ratio=base.ratio / 2),
        replace(base, ratio=2 * base.ratio, weight=full),
        replace(base, weight=full),
        replace(base, truncation=0.7 * base.truncation),
        replace(base, real_only_share=min(1.0, 2 * base.real_only_share)),
    )


def truncations(recipe: Recipe) -> tuple[float, ...]:
    """Those that the mixings to try need."""
    return tuple(dict.fromkeys(mixing.truncation for mixing in mixing_candidates(base_mixing(recipe))))


def lengths(longest: int) -> list[int]:
    """Numbers of updates to try, each twice the one before, the last `longest`; at least two where there is room.

    >>> lengths(2400), lengths(1000), lengths(1)
    ([1200, 2400], [500, 1000], [1])
    """
    found = [longest]
    while found[0] >= 2 * LEAST_UPDATES or (len(found) == 1 and found[0] > 1):
        found.insert(0, found[0] // 2)
    return found


def choose(
    arms: Sequence[str],
    tune: bool,
    folds: Sequence[str],
    sources: Sources,
    longest: int,
    train: Train,
) -> Choice:
    """What the arms get. `folds` are units; `arms` those that can be judged on them. Trainings and the mixing are tuned at the
    first number of updates; that is then doubled for the arms that still gain. `longest`: most updates that are tried. `train` gives
    the outcomes of pieces by name, and is told what these are trained for."""
    settings = sources.recipe.compare
    base, mixing = base_training(settings), base_mixing(sources.recipe)
    steps = [settings.updates] if settings.updates is not None else lengths(longest)
    truth = [sources.truth(fold) for fold in folds]
    candidates: list[Candidate] = []

    def judge(step: str, wanted: Sequence[tuple[str, Training, Mixing]]) -> list[Score]:
        pieces = [
            [make_piece(arm, fold, fold, 0, number, training, mixed) for number, fold in enumerate(folds)]
            for arm, training, mixed in wanted
        ]
        outcomes = train(step, [piece for row in pieces for piece in row])
        return [score(truth, [outcomes[piece.name].probabilities for piece in row]) for row in pieces]

    def record(step: str, tried: Sequence[tuple[str, dict[str, Any]]], scores: Sequence[Score], chosen: int) -> None:
        for number, ((arm, setting), found) in enumerate(zip(tried, scores, strict=True)):
            rounded = (round(found.accuracy, 5), round(found.loss, 5))
            candidates.append(Candidate(arm, step, setting, *rounded, chosen=number == chosen))

    trainings = dict.fromkeys(arms, replace(base, updates=steps[0]))
    worth = None
    if tune:
        offered = {arm: training_candidates(training, ARMS[arm].init) for arm, training in trainings.items()}
        found = iter(judge("trainings", [(arm, option, mixing) for arm in arms for option in offered[arm]]))
        for arm, options in offered.items():
            mine = [next(found) for _ in options]
            best = best_of(mine)
            trainings[arm] = options[best]
            record("training", [(arm, asdict(option)) for option in options], mine, best)
    if tune and MIXED in arms:
        mixes = mixing_candidates(mixing)
        tried = [(BASELINE, trainings[BASELINE], mixing), (BASELINE, trainings[MIXED], mixing)]
        one, other, *some = judge("mixings", [*tried, *((MIXED, trainings[MIXED], mixed) for mixed in mixes)])
        none = min(one, other, key=lambda found: found.loss)  # with its own training or that of the mixed arm
        best = best_of(some)
        mixing, worth = mixes[best], is_better(some[best], none)
        settings_tried = [(MIXED, {"ratio": 0.0}), *((MIXED, asdict(mixed)) for mixed in mixes)]
        record("mixing", settings_tried, [none, *some], best + 1)
    updates, converged = find_updates(arms, trainings, mixing, steps, judge, record)
    trainings = {arm: replace(training, updates=updates) for arm, training in trainings.items()}
    marked = (replace(c, chosen=c.chosen or c.setting == {"updates": updates}) for c in candidates)
    return Choice(updates, trainings, mixing, worth, converged, tuple(marked))


def find_updates(
    arms: Sequence[str],
    trainings: Mapping[str, Training],
    mixing: Mixing,
    steps: Sequence[int],
    judge: Callable[[str, Sequence[tuple[str, Training, Mixing]]], list[Score]],
    record: Callable[[str, Sequence[tuple[str, dict[str, Any]]], Sequence[Score], int], None],
) -> tuple[int, dict[str, bool]]:
    """The first number of updates at which no arm does better than after half as many, and of every arm whether that was seen. The
    longer of the two is taken: it costs time, where a training too short makes any augmentation look good."""

    def judge_at(updates: int, asked: Sequence[str]) -> dict[str, Score]:
        pieces = [(arm, replace(trainings[arm], updates=updates), mixing) for arm in asked]
        scores = judge(f"{updates:,} updates", pieces)
        record("updates", [(arm, {"updates": updates}) for arm in asked], scores, -1)
        return dict(zip(asked, scores, strict=True))

    if len(steps) == 1:
        return steps[0], {}
    converged = dict.fromkeys(arms, False)
    before = judge_at(steps[0], arms)
    for updates in steps[1:]:
        after = judge_at(updates, list(before))
        converged |= {arm: has_converged(before[arm], found) for arm, found in after.items()}
        before = {arm: found for arm, found in after.items() if not converged[arm]}
        if not before:
            return updates, converged
    return steps[-1], converged


def judged_arms(arms: Sequence[str], tune: bool, with_gans: bool) -> list[str]:
    """The arms that the inner folds judge. Those that use a GAN only where the folds have their own; without these, those with other
    images beside the real ones are not tuned either, so that all of them stay alike."""
    if not tune:
        return [BASELINE]
    return [
        arm
        for arm in arms
        if not ARMS[arm].is_tuned_as_baseline and (with_gans or not (ARMS[arm].needs_fit or ARMS[arm].mixes))
    ]


def score(truth: Sequence[npt.NDArray[np.int64]], probabilities: Sequence[npt.NDArray[np.float32]]) -> Score:
    """Scores class probabilities (n, K) of each fold against its labels (n,).

    The log loss is that after temperature scaling (Guo et al., 2017, https://arxiv.org/abs/1706.04599), with one temperature for all
    folds, so that label smoothing and long training, which change the confidence, are judged by what is recognised.
    """
    labels = np.concatenate(truth)
    logs = np.log(np.concatenate(probabilities).astype(np.float64).clip(1e-12))
    counts = np.bincount(labels, minlength=logs.shape[1])
    weights = 1 / (counts[labels] * np.count_nonzero(counts))
    rows = np.arange(len(labels))

    def losses(log_temperature: float) -> Floats:
        scaled = logs * np.exp(-log_temperature)
        top = scaled.max(axis=1)
        normalizer = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        each: Floats = normalizer - scaled[rows, labels]
        return each

    best = minimize_scalar(lambda value: float(weights @ losses(value)), bounds=(-3.0, 3.0), method="bounded")
    hits = (logs.argmax(axis=1) == labels).astype(np.float64)
    return Score(losses(float(best.x)), hits, weights, logs.shape[1])


def standard_error(differences: Floats, weights: Floats) -> float:
    """Of a weighted mean over independent images."""
    centered = differences - weights @ differences
    return float(np.sqrt((weights**2 * centered**2).sum()))


def is_better(one: Score, other: Score) -> bool:
    """Whether `one` has a lower log loss than `other` by more than one standard error of the paired difference."""
    differences = other.losses - one.losses
    return one.loss < other.loss - standard_error(differences, one.weights)


def best_of(scores: Sequence[Score]) -> int:
    """The candidate with the lowest log loss; of equals the first, which is the default."""
    return min(range(len(scores)), key=lambda number: scores[number].loss)


def has_converged(half: Score, whole: Score) -> bool:
    """Whether twice as many updates gained nothing that counts, in accuracy or log loss, and something was learned. No gain is
    forgiven for being within chance: on a hundred images, a standard error hides gains of two points."""
    more_hits = whole.accuracy - half.accuracy > TOLERANCE + ROUNDING
    less_loss = half.loss - whole.loss > max(LOSS_TOLERANCE * half.loss, LEAST_LOSS_TOLERANCE)
    return whole.accuracy > 1 / whole.num_classes and not (more_hits or less_loss)


def inner_folds(
    labels: npt.NDArray[np.int64], groups: Sequence[str], num_folds: int
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """(rows to train on, rows to judge on) of each fold, stratified by class, groups kept together. Groups without which a class
    would have nothing to train on are not judged."""
    keys = np.unique(np.asarray(groups), return_inverse=True)[1]
    groups_of_class = [len(np.unique(keys[labels == k])) for k in np.unique(labels)]
    num_folds = min(num_folds, max(groups_of_class))
    if num_folds < 2:
        raise GanaugError(TOO_FEW)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # it is then missing from some folds
        splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=0)
        folds = list(splitter.split(np.zeros(len(labels)), labels, keys))
    found = []
    for rows, judged in folds:
        lost = np.setdiff1d(labels[judged], labels[rows])
        kept = np.isin(keys[judged], keys[judged][np.isin(labels[judged], lost)])
        if not kept.all():
            found.append((np.sort(np.concatenate([rows, judged[kept]])), judged[~kept]))
    if not found:
        raise GanaugError(TOO_FEW)
    return found
