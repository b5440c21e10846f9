"""Studies of which the truth is known: an arm against itself, on predictions that are kept, and arms of a model with a known effect.

Run by verdict.py; apart from it, so that its processes can import them.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from ganaug.study.statistics import paired_differences

METRIC = "balanced_accuracy"
PER_STUDY = 6  # repetitions of a study of an arm against itself
Labels = npt.NDArray[np.int64]

REPETITIONS, TEST_IMAGES, NUM_CLASSES = (5, 10, 20), (200, 600, 2000), 10
# Logits of a right answer: of the image, of the effect on it, of the repetition (shared by both arms), of the repetition in one
# arm, and of each image in each training; standard deviations, but for the two means.
# `few`: so many test images of every second class, where it is given; else as many of each. `groups`: so many groups of test images,
# say of one board each, whose effects differ by `of_groups`, too; study and truth are of other groups.
MIXED = {"easy": 3.0, "image": 2.5, "effect": 0.3, "effects": 0.6, "shared": 0.25, "arm": 0.15, "noise": 1.0}
SITUATIONS: dict[str, dict[str, float]] = {
    "mixed": MIXED,
    "images matter": {
        "easy": 3.0,
        "image": 2.5,
        "effect": 0.3,
        "effects": 1.5,
        "shared": 0.1,
        "arm": 0.02,
        "noise": 0.2,
    },
    "few of some classes": {**MIXED, "few": 10},
    "in groups": {**MIXED, "groups": 12, "of_groups": 0.6},
    "seeds matter": {"easy": 3.0, "image": 2.5, "effect": 0.3, "effects": 0.2, "shared": 0.3, "arm": 0.5, "noise": 0.5},
}


def draw_answers(
    of: dict[str, float], repetitions: int, groups: Labels, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Probabilities (R, N) of a right answer in both arms."""
    images = len(groups)
    image = of["easy"] + of["image"] * rng.normal(size=images)
    effect = of["effect"] + of["effects"] * rng.normal(size=images)
    if "groups" in of:
        effect += of["of_groups"] * rng.normal(size=groups.max() + 1)[groups]
    shared = of["shared"] * rng.normal(size=(repetitions, 1))

    def arm(sign: float) -> npt.NDArray[np.float64]:
        own = of["arm"] * rng.normal(size=(repetitions, 1)) + of["noise"] * rng.normal(size=(repetitions, images))
        return np.asarray(expit(image + sign * effect / 2 + shared + own))

    return arm(1), arm(-1)


def true_accuracy(of: dict[str, float], sign: float) -> float:
    """The probability of a right answer over all images, repetitions and trainings: the logit is normal, and so integrated by
    Gauss and Hermite's quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    deviation = sum(of[key] ** 2 for key in ("image", "shared", "arm", "noise")) + (of["effects"] / 2) ** 2
    deviation += (of.get("of_groups", 0.0) / 2) ** 2
    chances = expit(of["easy"] + sign * of["effect"] / 2 + deviation**0.5 * nodes)
    return float(weights @ chances / weights.sum())


def simulated_study(of: dict[str, float], repetitions: int, images: int, number: int) -> tuple[float, float]:
    rng = np.random.default_rng([number, repetitions, images])
    few = int(of.get("few", images // NUM_CLASSES))
    truth = np.repeat(np.arange(NUM_CLASSES), [few, 2 * images // NUM_CLASSES - few] * (NUM_CLASSES // 2))
    groups = rng.permutation(np.arange(images) % int(of.get("groups", images)))
    arm, baseline = (
        np.where(
            rng.random(chance.shape) < chance, truth, (truth + rng.integers(1, NUM_CLASSES, chance.shape)) % NUM_CLASSES
        )
        for chance in draw_answers(of, repetitions, groups, rng)
    )
    found = paired_differences(truth, arm, baseline, NUM_CLASSES, groups=groups if "groups" in of else None)[METRIC]
    return found.low, found.high


def study_of_itself(truth: Labels, predictions: Labels, number: int) -> tuple[float, float]:
    """The interval of a study whose two arms have seeds of the same arm; test images are drawn anew within the classes."""
    rng = np.random.default_rng([number, 5])
    seeds = rng.permutation(len(predictions))[: 2 * PER_STUDY]
    rows = np.concatenate([rng.choice(np.flatnonzero(truth == k), (truth == k).sum()) for k in np.unique(truth)])
    arm, baseline = predictions[seeds][:, rows].reshape(2, PER_STUDY, -1)
    found = paired_differences(truth[rows], arm, baseline, int(truth.max()) + 1)[METRIC]
    return found.low, found.high
