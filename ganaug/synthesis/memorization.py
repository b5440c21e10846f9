"""Is an image a copy of a training image? The nearest one in pixels, how much nearer it is than others, and whether a generator
comes nearer to its training images than other real images do.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor
from torch.nn import functional as F

from ..data.images import Pixels, to_float
from ..progress import track

LARGEST = 64  # pixels: larger images are averaged down before they are shifted
SIDE = 16  # pixels, about, to which all are averaged down before they are compared
MAX_SHIFT = 2  # pixels at the size at which images are shifted
CONTRAST_FLOOR = 0.05  # standard deviation, in units of [-1, 1], below which an image's contrast is not made up for
NUM_OTHERS = 10  # nearest other real images, with whose distance that of the nearest is compared
QUERIES = 64  # images compared at a time
SHARED_STRENGTH = 20  # images of all classes together that a class's own calibration is weighed against
LOW_QUANTILE, NORMAL_QUANTILE = 0.05, 1.645
KNOWN_COPY = 0.1  # relative distance below which two real images are copies themselves and tell nothing of others

Distances = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Nearest:
    """Of each of N images: the `row` (N,) of the nearest real one; its `distance` (N,), the root-mean-square difference of the
    standardized images, between 0 and 2; and `relative` (N,), the distance divided by the mean of those to the next
    NUM_OTHERS real images (after Carlini et al., 2023, section 4.2, https://arxiv.org/abs/2301.13188): about .8 for an
    image like any other, near 0 for a copy."""

    row: Indices
    distance: Distances
    relative: Distances


def prepare_real(real: Pixels, mirror: str) -> Tensor:
    """Real images (n, C, S, S) -> (R, n, D): standardized and shrunk, in each of the R reflections that `mirror` names."""
    images = _at_most(to_float(torch.from_numpy(np.asarray(real))), LARGEST)
    axes = {"none": ((),), "horizontal": ((), (3,)), "vertical": ((), (2,)), "both": ((), (3,), (2,), (2, 3))}[mirror]
    return torch.stack([_window(images.flip(axis) if axis else images, 0, 0) for axis in axes])


def find_nearest(images: Pixels, prepared: Tensor, own: Indices | None = None) -> Nearest:
    """The nearest real image to each of `images` (N, C, S, S), shifted by up to MAX_SHIFT pixels along both axes.

    `own` (N,): rows of the real images that the images are themselves, which do not count.
    """
    found = []
    with track("comparing with the real images", len(images)) as advance:
        for begin in range(0, len(images), QUERIES):
            rows = None if own is None else own[begin : begin + QUERIES]
            found.append(_nearest_of(_distances(images[begin : begin + QUERIES], prepared), rows))
            advance(min(begin + QUERIES, len(images)))
    return Nearest(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _distances(images: Pixels, prepared: Tensor) -> Tensor:
    """(N, n): to every real image, the least over shifts and reflections."""
    queries = _at_most(to_float(torch.from_numpy(images)), LARGEST)
    shifts = range(-MAX_SHIFT, MAX_SHIFT + 1)
    shifted = torch.cat([_window(queries, top, left) for top in shifts for left in shifts])
    best = None
    for reflected in prepared:
        distances = torch.cdist(shifted, reflected, compute_mode="use_mm_for_euclid_dist")
        least = distances.view(len(shifts) ** 2, len(images), -1).amin(dim=0)
        best = least if best is None else torch.minimum(best, least)
    assert best is not None
    return best


def _nearest_of(distances: Tensor, own: Indices | None) -> tuple[Indices, Distances, Distances]:
    if own is not None:
        distances = distances.clone()
        distances[torch.arange(len(own)), torch.from_numpy(own)] = torch.inf
    num_real = distances.shape[1] - (own is not None)
    if num_real < 1:
        return np.zeros(len(distances), np.int64), np.full(len(distances), 2.0), np.ones(len(distances))
    least, rows = distances.topk(min(num_real, NUM_OTHERS + 1), dim=1, largest=False)
    others = least[:, 1:].mean(dim=1) if num_real > 1 else torch.full((len(least),), 2**0.5)  # of unrelated images
    relative = least[:, 0] / others.clamp_min(1e-6)
    return rows[:, 0].numpy(), least[:, 0].double().numpy(), relative.double().numpy()


def _at_most(images: Tensor, size: int) -> Tensor:
    return F.adaptive_avg_pool2d(images, size) if images.shape[-1] > size else images


def _window(images: Tensor, top: int, left: int) -> Tensor:
    """(N, C, S, S) -> (N, D): the interior seen through a window shifted by (top, left), averaged to about SIDE pixels, with
    mean 0 and, but for flat images, norm 1."""
    size = images.shape[-1]
    rows, columns = (slice(MAX_SHIFT + offset, size - MAX_SHIFT + offset) for offset in (top, left))
    factor = max(1, size // SIDE)
    small = F.avg_pool2d(images[:, :, rows, columns], factor) if factor > 1 else images[:, :, rows, columns]
    flat = small.flatten(1)
    centred = flat - flat.mean(dim=1, keepdim=True)
    contrast = centred.square().mean(dim=1, keepdim=True).sqrt().clamp_min(CONTRAST_FLOOR)
    return centred / (contrast * sqrt(flat.shape[1]))


def copy_limits(relative: Distances, labels: Indices, num_classes: int, deviations: float) -> Distances:
    """(num_classes,): relative distances below which an image is a copy, from those of real images to other real images.

    `deviations` standard deviations below the class's median, on a logarithmic scale. The deviation is that of the lower half,
    shared by all classes; the median of a small class is drawn towards that of all. With 4, less than one in a
    hundred real images of any set measured (recipes/benchmarks/curation.py) is taken for a copy.
    """
    sound = relative > KNOWN_COPY
    if sound.sum() < 2:
        return np.full(num_classes, KNOWN_COPY)
    logs, classes = np.log(relative[sound]), labels[sound]
    overall = np.median(logs)
    centres = np.full(num_classes, overall)
    for k in np.unique(classes):
        own = logs[classes == k]
        centres[k] = (len(own) * np.median(own) + SHARED_STRENGTH * overall) / (len(own) + SHARED_STRENGTH)
    below = centres[classes] - logs
    deviation = np.quantile(below, 1 - LOW_QUANTILE) / NORMAL_QUANTILE
    limits: Distances = np.maximum(np.exp(centres - deviations * deviation), KNOWN_COPY)
    return limits


def data_copying(generated: Distances, real: Distances) -> float:
    """C_T of Meehan, Chaudhuri & Dasgupta (2020), eq. 3, https://arxiv.org/abs/2004.05675, with the whole class as its cell: the
    z-score of the Mann-Whitney statistic of the distances of generated images (N,) and of other real images (M,) to the
    training images. Below -3: generated images come nearer to the training images than real ones do; NaN without any.
    """
    if not len(generated) or not len(real):
        return float("nan")
    n, m = len(generated), len(real)
    statistic = float(mannwhitneyu(generated, real).statistic)  # pairs in which the generated one is farther
    return (statistic - n * m / 2) / sqrt(n * m * (n + m + 1) / 12)
