"""Which candidates become synthetic images: evidence on each, filters, and a choice that spreads over a class as its real images do."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from ..data.cache import ImageSet
from ..data.duplicates import fingerprint
from ..data.images import Pixels
from ..devices import resolve_precision
from ..gan.judge import AUGMENT
from ..measures import Features
from ..sessions import Busy
from ..settings import CurationSettings, Recipe
from .filters import Evidence, Indices, Limits, Values
from .memorization import Nearest, copy_limits, find_nearest, prepare_real
from .referees import NAME as REFEREES
from .referees import Opinions, Referees, ask, load_referees, save_referees, train_referees

IMAGES_PER_CELL, MAX_CELLS = 5, 8  # real images of a class for each of its cells
PROBABLE = 0.5  # probability of its class from which on an image is not of another
MIN_JUDGED = 4  # real images of a class; with fewer, referees that lack some of them cannot tell it
SHARED_STRENGTH = 20  # images of all classes together that a class's own calibration is weighed against


@dataclass(frozen=True)
class RealImages:
    """Training images, as the tests need them: `images` (n, C, S, S) uint8, `labels` (n,), `files` their names in the data."""

    images: Pixels
    labels: Indices
    groups: npt.NDArray[np.str_]
    files: tuple[str, ...]
    class_names: tuple[str, ...]
    mirror: str
    augment: tuple[str, ...] = AUGMENT  # augmentations that keep the class


@dataclass(frozen=True)
class Curator:
    """Everything that images are tested with."""

    real: RealImages
    referees: Referees
    prepared: Tensor  # (R, n, D): see `memorization.prepare_real`
    nearest: Nearest  # of each real image, among the others
    neighbours: tuple[NearestNeighbors, ...]  # of each referee: the real images that it has seen, by features
    scales: Values  # (J,) usual distance there of a real image that the referee has not seen
    centres: tuple[Features, ...]  # (num_cells, F) of each class, in features of the first referee
    shares: tuple[Values, ...]  # (num_cells,) of each class's real images in each of its cells
    limits: Limits


def real_images(images: ImageSet, recipe: Recipe, rows: Indices | None = None) -> RealImages:
    """What the GAN was trained on: the training split of prepared data, with the unlabeled images whose labels were found; or other
    `rows`."""
    more = images.unlabeled if rows is None else None
    rows = images.indices("train") if rows is None else rows
    pixels, labels, groups = np.asarray(images.images[rows]), images.labels[rows], np.array(images.groups)[rows]
    files = tuple(images.files[row] for row in rows)
    if more is not None:
        found, found_labels = more.sure()
        pixels, labels = np.concatenate([pixels, found]), np.concatenate([labels, found_labels])
        files, groups = (*files, *more.sure_files()), np.concatenate([groups, more.sure_files()])
    return RealImages(pixels, labels, groups, files, images.class_names, recipe.data.mirror, recipe.fit.augment)


def build_curator(
    real: RealImages,
    settings: CurationSettings,
    seed: int,
    device: torch.device,
    store: Path | None = None,
) -> Curator:
    """Trains the referees, or loads them from the folder `store`, where they are then kept; calibrates all limits on real images."""
    num_classes, labels = len(real.class_names), real.labels
    referees = find_referees(real, seed, device, store)
    opinions = ask(referees, real.images)
    prepared = prepare_real(real.images, real.mirror)
    nearest = find_nearest(real.images, prepared, own=np.arange(len(labels)))
    neighbours, strangeness, scales = _neighbourhoods(referees, opinions)
    probability = opinions.probabilities[referees.folds, np.arange(len(labels)), labels].astype(np.float64)
    limits = Limits(
        class_probability=np.minimum(_low_quantiles(probability, labels, num_classes, settings.wrong_class), PROBABLE),
        relative=copy_limits(nearest.relative, labels, num_classes, settings.copy_deviations),
        distance=-_low_quantiles(-nearest.distance, labels, num_classes, settings.outlier),
        strangeness=-_low_quantiles(-strangeness, labels, num_classes, settings.outlier),
        unrealistic=settings.unrealistic,
    )
    limits.class_probability[np.bincount(labels, minlength=num_classes) < MIN_JUDGED] = 0.0
    cells = [_cells_of(opinions.features[0][labels == k], seed) for k in range(num_classes)]
    centres, shares = (tuple(part) for part in zip(*cells, strict=True))
    return Curator(real, referees, prepared, nearest, neighbours, scales, centres, shares, limits)


def find_referees(real: RealImages, seed: int, device: torch.device, store: Path | None) -> Referees:
    """Those in the folder `store`; where there are none, they are trained and kept there."""
    num_classes, (channels, size) = len(real.class_names), real.images.shape[1:3]
    if store is not None and (store / REFEREES).is_file():
        return load_referees(store, len(real.labels), num_classes, size, channels, device)
    dtype = resolve_precision("auto", device)
    referees = train_referees(
        real.images, real.labels, real.groups, num_classes, real.mirror, real.augment, seed, device, dtype
    )
    if store is not None:
        try:
            save_referees(store, referees)
        except (OSError, Busy) as error:  # another process was faster, or is about to be
            if (store / REFEREES).is_file():
                return load_referees(store, len(real.labels), num_classes, size, channels, device)
            if not isinstance(error, Busy):
                raise
    return referees


def examine_candidates(curator: Curator, images: Pixels, labels: Indices, realism: Values | None) -> Evidence:
    """The evidence on images (N, C, S, S) uint8 of the classes `labels` (N,)."""
    opinions = ask(curator.referees, images)
    nearest = find_nearest(images, curator.prepared)
    strangeness = [
        index.kneighbors(features)[0][:, 0] / scale
        for index, features, scale in zip(curator.neighbours, opinions.features, curator.scales, strict=True)
    ]
    cells = np.empty(len(labels), np.int64)
    for k in np.unique(labels):
        mine = labels == k
        cells[mine] = pairwise_distances_argmin(opinions.features[0][mine], curator.centres[k])
    return Evidence(
        labels=labels,
        class_probability=opinions.probabilities[:, np.arange(len(labels)), labels].min(axis=0).astype(np.float64),
        realism=realism,
        nearest=nearest.row,
        distance=nearest.distance,
        relative=nearest.relative,
        strangeness=np.mean(strangeness, axis=0),
        fingerprints=np.stack([fingerprint(image.transpose(1, 2, 0)) for image in images]),
        features=opinions.features[0],
        cells=cells,
    )


def choose_spread(cells: Indices, passed: Sequence[int], shares: Values, taken: Indices, most: int) -> list[int]:
    """Up to `most` of the candidates `passed` (indices into `cells`), in the order in which to take them.

    Each time the next candidate of the cell that lags farthest behind its share of the real images, among the cells that
    have candidates left. `taken` (num_cells,) says how many images each cell has already, and is brought up to date.
    """
    queues = [[i for i in passed if cells[i] == cell] for cell in range(len(shares))]
    chosen: list[int] = []
    while len(chosen) < most and any(queues):
        wanted = shares * (taken.sum() + 1) - taken
        cell = max((c for c in range(len(shares)) if queues[c]), key=lambda c: wanted[c])
        chosen.append(queues[cell].pop(0))
        taken[cell] += 1
    return chosen


def _neighbourhoods(referees: Referees, opinions: Opinions) -> tuple[tuple[NearestNeighbors, ...], Values, Values]:
    """What each referee has seen, ready for look-ups; the strangeness (n,) of the real images; and the scales (J,)."""
    folds = referees.folds
    strangeness, indexes, scales = np.ones(len(folds)), [], []
    for fold, features in enumerate(opinions.features):
        unseen = folds == fold
        if unseen.all():  # a single referee, which has seen everything
            index = NearestNeighbors(n_neighbors=1).fit(features)
            distances = index.kneighbors()[0][:, 0] if len(features) > 1 else np.ones(1)
        else:
            index = NearestNeighbors(n_neighbors=1).fit(features[~unseen])
            distances = index.kneighbors(features[unseen])[0][:, 0]
        scale = max(float(np.median(distances)), 1e-6)
        strangeness[unseen] = distances / scale
        indexes.append(index)
        scales.append(scale)
    return tuple(indexes), strangeness, np.array(scales)


def _low_quantiles(values: Values, labels: Indices, num_classes: int, share: float) -> Values:
    """(num_classes,): the values below which that share of a class lies, where all classes together count as SHARED_STRENGTH
    more images of it."""
    limits = np.empty(num_classes)
    for k in range(num_classes):
        weights = (labels == k) + SHARED_STRENGTH / len(labels)
        limits[k] = np.quantile(values, share, weights=weights, method="inverted_cdf")
    return limits


def _cells_of(features: Features, seed: int) -> tuple[Features, Values]:
    """Centres (num_cells, F) of a class's real images (n, F), and the share of them in each."""
    if not len(features):
        return np.zeros((1, features.shape[1]), np.float32), np.ones(1)
    count = max(1, min(MAX_CELLS, len(features) // IMAGES_PER_CELL))
    found = KMeans(count, n_init=4, random_state=seed).fit(features)
    sizes = np.bincount(found.labels_, minlength=count)
    return found.cluster_centers_.astype(np.float32), sizes / sizes.sum()
