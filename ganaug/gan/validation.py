"""Which moment of a training to keep: generated images against held-out real ones, in features of the user's own domain.

The score is the kernel score of images and classes together: with k the cubic kernel of the kernel inception distance
between images of one class and 0 between classes, E k(g, g') - 2 E k(g, x) is the squared MMD of the two joint distributions
but for a constant (Gretton et al., 2012, eq. 3, https://jmlr.org/papers/v13/gretton12a.html; Binkowski et al., 2018). A wrong
class, a missing mode and an unreal picture all raise it. Copies lower it, which is why they have a veto.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics.pairwise import polynomial_kernel
from torch import Tensor

from ..data.images import to_float, to_uint8
from ..measures import Features, coverage, nearest_distances
from .judge import Judge, examine, shrink
from .mixing import AnyGenerator
from .stored import StoredImages

IMAGES_PER_CLASS, MAX_IMAGES = 40, 800
COPY_SIZE, COPY_SHIFT, COPY_QUANTILE = 16, 1, 0.05
DUPLICATE = 0.1  # of the median distance between real images: nearer ones are copies of each other
COPY_VETO = (
    0.2  # share of generated images nearer to a training image than all but COPY_QUANTILE of real ones to another
)
PATIENCE = 5  # checkpoints without a gain after which a training ends


@dataclass(frozen=True)
class LabeledTensors:
    """Images (N, C, S, S) uint8 and the data's classes (N,) of them, on the CPU."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class TrainingImages:
    """The same, of which there may be too many to hold."""

    images: Tensor | StoredImages
    labels: Tensor


@dataclass(frozen=True)
class Reference:
    """What generated images are held against."""

    judge: Judge
    train: LabeledTensors
    held_out: LabeledTensors


@dataclass(frozen=True)
class Checkpoint:
    """A moment of the training and what was measured there; `score` and `gap` are better when lower."""

    step: int
    gap: float
    scores: tuple[float, ...] = ()  # of each held-out image; empty where none is held out
    kid: float = 0.0  # mean over the classes: the mean score but for a constant that makes 0 of equal distributions
    coverage: float = 0.0  # mean over the classes
    consistency: float = 0.0  # share of generated images in which the judge sees their class
    copies: float = 0.0

    @property
    def score(self) -> float:
        return float(np.mean(self.scores)) if self.scores else 0.0

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Checkpoint":
        return cls(**{**values, "scores": tuple(values["scores"])})


def validate(
    generator: AnyGenerator,
    reference: Reference,
    classes: Sequence[int],
    labels: Sequence[int],
    step: int,
    gap: float,
) -> Checkpoint:
    """Measures the averaged generator, in evaluation mode, on `classes` of the data, which are `labels` to the network."""
    held_out, train = (only(part, classes) for part in (reference.held_out, reference.train))
    if not len(held_out.images):
        return Checkpoint(step, gap)
    count = min(IMAGES_PER_CLASS, max(2, MAX_IMAGES // len(labels)))
    made = LabeledTensors(
        generate(generator, labels, count, held_out.images.device), torch.tensor(classes).repeat_interleave(count)
    )
    features, chances = examine(reference.judge, made.images)
    of_held_out, of_train = (examine(reference.judge, part.images)[0] for part in (held_out, train))
    scores, kids, covered, distances = np.zeros(len(held_out.images)), [], [], []
    for k in torch.unique(held_out.labels).tolist():
        ours, theirs = features[made.labels == k].numpy(), of_held_out[held_out.labels == k].numpy()
        real = np.concatenate([theirs, of_train[train.labels == k].numpy()])
        scores[(held_out.labels == k).numpy()] = kernel_scores(ours, theirs)
        kids.append(float(kernel_scores(ours, theirs).mean() + mean_kernel(real)))
        covered.append(coverage(real, ours, subset=len(theirs)))
        distances.append(relative_distances(made, train, held_out, k))
    num_held_out = torch.bincount(held_out.labels)[held_out.labels].numpy()
    weighted = scores * len(scores) / num_held_out / len(kids)  # every class counts alike
    of_made, of_others = (np.concatenate(part) for part in zip(*distances, strict=True))
    threshold = np.quantile(of_others, COPY_QUANTILE) if len(of_others) else 0.0
    return Checkpoint(
        step=step,
        gap=gap,
        scores=tuple(weighted.tolist()),
        kid=float(np.mean(kids)),
        coverage=float(np.mean(covered)),
        consistency=float((chances.argmax(dim=1) == made.labels).float().mean()),
        copies=float((of_made <= threshold).mean()),
    )


@torch.no_grad()
def generate(generator: AnyGenerator, labels: Sequence[int], count: int, device: torch.device) -> Tensor:
    """uint8 (len(labels) * count, C, S, S): `count` images of every label in turn, from the same noise in every call."""
    rng = torch.Generator().manual_seed(0)
    made = []
    for label in labels:
        noise = torch.randn(count, generator.latent_size, generator=rng).to(device)
        made.append(to_uint8(generator(noise, torch.full((count,), label, device=device))))
    return torch.cat(made)


def only(part: LabeledTensors, classes: Sequence[int]) -> LabeledTensors:
    kept = torch.isin(part.labels, torch.tensor(classes))
    if kept.all():
        return part
    return LabeledTensors(part.images[kept.to(part.images.device)], part.labels[kept])


def kernel_scores(generated: Features, real: Features) -> npt.NDArray[np.float64]:
    """(len(real),): E k(g, g') - 2 E k(g, x) for each real x, unbiased; k(x, y) = (x y / F + 1)^3."""
    scores: npt.NDArray[np.float64] = mean_kernel(generated) - 2 * polynomial_kernel(real, generated).mean(axis=1)
    return scores


def mean_kernel(features: Features) -> float:
    """E k(x, x') over pairs of two different images."""
    kernel = polynomial_kernel(features)
    n = len(features)
    return float((kernel.sum() - kernel.trace()) / (n * (n - 1)))


def relative_distances(
    made: LabeledTensors, train: LabeledTensors, held_out: LabeledTensors, k: int
) -> tuple[Features, Features]:
    """Distances of a class's generated images to its nearest training image, and of its real images, held out or not, to the
    nearest other one; both over the mean of the latter, so that all classes, of few images each, can share one threshold."""
    generated, trained_on, others = (
        to_uint8(shrink(to_float(part.images[(part.labels == k).to(part.images.device)]), COPY_SIZE)).cpu().numpy()
        for part in (made, train, held_out)
    )
    usual = nearest_distances(np.concatenate([trained_on, others]), max_shift=COPY_SHIFT)
    usual = usual[np.isfinite(usual)]
    usual = usual[usual > DUPLICATE * np.median(usual)] if len(usual) else usual  # real copies tell nothing of others
    scale = usual.mean() if len(usual) else 1.0
    return nearest_distances(generated, trained_on, max_shift=COPY_SHIFT) / scale, usual / scale


def choose(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """The latest checkpoint whose score is within one standard error of the best, paired over the held-out images.

    Checkpoints with too many copies are out, unless all are; then the one with the fewest is taken. Without held-out
    images it is the last.
    """
    free = [checkpoint for checkpoint in checkpoints if checkpoint.copies <= COPY_VETO]
    if not free:
        return min(checkpoints, key=lambda checkpoint: checkpoint.copies)
    best = min(free, key=lambda checkpoint: checkpoint.score)
    return next(c for c in reversed(free) if c.score - best.score <= standard_error(c, best))


def standard_error(first: Checkpoint, second: Checkpoint) -> float:
    """Of the difference of two checkpoints' scores, over the held-out images."""
    if len(first.scores) < 2:
        return 0.0
    return float(np.std(np.subtract(first.scores, second.scores), ddof=1) / len(first.scores) ** 0.5)


def has_stalled(checkpoints: Sequence[Checkpoint]) -> bool:
    """True when neither the score nor the duality gap has reached a new low in the last PATIENCE checkpoints."""
    before, since = checkpoints[:-PATIENCE], checkpoints[-PATIENCE:]
    if not before or not checkpoints[-1].scores:
        return False
    return min(c.score for c in since) >= min(c.score for c in before) and (
        min(c.gap for c in since) >= min(c.gap for c in before)
    )
