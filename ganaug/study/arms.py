"""The arms of a study: functions from training images and a pool of synthetic ones to what a classifier is trained on.

Two arms differ in nothing but what their lines say. A new one is a line, and a function where none of these fits.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..classify.training import Diet, Labeled

Init = Literal["scratch", "discriminator"]
Counts = npt.NDArray[np.int64]  # (K,) images of each class that stand beside the real ones
SMOTE_NEIGHBORS = 5


def real(train: Labeled, pool: Labeled, counts: Counts, seed: int) -> Diet:
    """The training images alone."""
    return Diet(train)


def with_synthetic(train: Labeled, pool: Labeled, counts: Counts, seed: int) -> Diet:
    """Synthetic images beside the real ones."""
    return Diet(train, pool)


def duplicated(train: Labeled, pool: Labeled, counts: Counts, seed: int) -> Diet:
    """The real images once more in place of the synthetic ones, as many of each class: as large updates, nothing new in them."""
    rows = [np.resize(np.flatnonzero(train.labels == k), n) for k, n in enumerate(counts) if (train.labels == k).any()]
    copies = np.concatenate(rows)
    return Diet(train, Labeled(train.images[copies], train.labels[copies]))


def oversampled(train: Labeled, pool: Labeled, counts: Counts, seed: int) -> Diet:
    """Images of the smaller classes repeated until all are as large as the largest."""
    from imblearn.over_sampling import RandomOverSampler

    rows, _ = RandomOverSampler(random_state=seed).fit_resample(np.arange(len(train.labels))[:, None], train.labels)
    return Diet(Labeled(train.images[rows[:, 0]], train.labels[rows[:, 0]]))


def smote(train: Labeled, pool: Labeled, counts: Counts, seed: int) -> Diet:
    """Mixtures of neighbouring real images, in pixels, in place of the synthetic ones and as many: Chawla et al. (2002),
    https://arxiv.org/abs/1106.1813. A class of one image, which has no neighbour, is repeated."""
    from imblearn.over_sampling import SMOTE

    flat = train.images.reshape(len(train.labels), -1).astype(np.float32)
    images, labels = [train.images[:0]], [train.labels[:0]]
    for k in np.intersect1d(train.labels, np.flatnonzero(counts)):
        mine = np.flatnonzero(train.labels == k)
        if len(mine) > 1:  # each class for itself, so that a small one does not take neighbours from the others
            neighbors, whole = min(SMOTE_NEIGHBORS, len(mine) - 1), int(len(mine) + counts[k])
            sampler = SMOTE(sampling_strategy={1: whole}, k_neighbors=neighbors, random_state=seed + int(k))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="After over-sampling")  # more than the largest class has
                values, _ = sampler.fit_resample(flat, (train.labels == k).astype(np.int64))
            images.append(np.round(values[len(flat) :]).astype(np.uint8).reshape(-1, *train.images.shape[1:]))
        else:
            images.append(train.images[np.resize(mine, counts[k])])
        labels.append(np.full(counts[k], k))
    return Diet(train, Labeled(np.concatenate(images), np.concatenate(labels)))


def synthetic_only(train: Labeled, pool: Labeled, counts: Counts, seed: int) -> Diet:
    """No real image: the Classification Accuracy Score of Ravuri & Vinyals (2019), https://arxiv.org/abs/1905.10887"""
    return Diet(pool)


@dataclass(frozen=True)
class Arm:
    """One way to train the classifier."""

    init: Init  # where the backbone's weights come from
    diet: Callable[[Labeled, Labeled, Counts, int], Diet]
    augmentation: str = "classical"
    given_the_gans_time: bool = False  # trained longer by the time that the GAN took
    seed_shift: int = 0  # other seeds than the rest of the repetition has
    unlabeled: bool = False  # unlabeled images are real ones, too, of the classes that `fit` found in them

    @property
    def uses_pool(self) -> bool:
        return self.diet in (with_synthetic, synthetic_only)

    @property
    def mixes(self) -> bool:
        """Whether something stands beside the main images, so that the mixing counts."""
        return self.diet in (with_synthetic, duplicated, smote)

    @property
    def uses_gan(self) -> bool:
        return self.uses_pool or self.init == "discriminator"

    @property
    def needs_fit(self) -> bool:
        """Whether it needs what `fit` made of the training images that it is judged with."""
        return self.uses_gan or self.unlabeled

    @property
    def is_tuned_as_baseline(self) -> bool:
        """Whether it takes over what was chosen for the baseline, from which it differs in nothing that could be tuned."""
        return self.given_the_gans_time or self.seed_shift != 0


BASELINE = "scratch/real"
MIXED = "scratch/real+synthetic"
SELF_TRAINED = "scratch/real+unlabeled"
CONTROL = "scratch/other-seeds"  # of the study itself: what chance alone does

ARMS: dict[str, Arm] = {
    BASELINE: Arm("scratch", real),
    MIXED: Arm("scratch", with_synthetic),
    "discriminator/real": Arm("discriminator", real),
    "discriminator/real+synthetic": Arm("discriminator", with_synthetic),
    SELF_TRAINED: Arm("scratch", real, unlabeled=True),
    "scratch/real+unlabeled+synthetic": Arm("scratch", with_synthetic, unlabeled=True),
    "scratch/duplicated": Arm("scratch", duplicated),
    "scratch/oversampled": Arm("scratch", oversampled),
    "scratch/smote": Arm("scratch", smote),
    "scratch/trivialaugment": Arm("scratch", real, augmentation="trivial"),
    "scratch/synthetic": Arm("scratch", synthetic_only),
    "scratch/longer": Arm("scratch", real, given_the_gans_time=True),
    CONTROL: Arm("scratch", real, seed_shift=1_000_000),
}

FACTORIAL = (BASELINE, MIXED, "discriminator/real", "discriminator/real+synthetic")


SYNTHETIC_QUESTIONS = (
    (MIXED, BASELINE),
    ("discriminator/real+synthetic", "discriminator/real"),
    ("scratch/real+unlabeled+synthetic", SELF_TRAINED),
)
RIVALS = (
    SELF_TRAINED,
    "scratch/duplicated",
    "scratch/oversampled",
    "scratch/smote",
    "scratch/trivialaugment",
    "scratch/longer",
)


def questions(arms: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """(arm, baseline) of what a study with these arms asks. The first is the one that the verdict answers, decided before any
    result is seen: what synthetic images do, or where there is nothing to tell that by, what the first other arm does. Then every
    arm against the baseline, and synthetic images against what could have done the same without a GAN."""
    asked = [(arm, BASELINE) for arm in arms if arm != BASELINE]
    for within in SYNTHETIC_QUESTIONS[1:]:
        if set(within) <= set(arms):
            asked.insert(asked.index((within[0], BASELINE)), within)
    if MIXED in arms:
        asked += [(MIXED, rival) for rival in RIVALS if rival in arms]
    first = next((pair for pair in SYNTHETIC_QUESTIONS if pair in asked), asked[0])
    return (first, *(pair for pair in asked if pair != first))
