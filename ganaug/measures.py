"""How good synthetic images are, from features or pixels alone: pure functions, no pretrained network, no random numbers.

Features are (N, F) float arrays of any extractor of images; compare figures only where the extractor is the same.
"""

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import pairwise_distances
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional as F

Features = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

NEIGHBOURS = 5  # k of coverage
MAX_SHIFT = 2  # pixels by which a copy may be displaced


def kid(first: Features, second: Features) -> float:
    """Kernel inception distance: the unbiased MMD^2 with the kernel (x y / F + 1)^3 of two sets of features, 0 for equal
    distributions. Binkowski et al. (2018), section 4, https://arxiv.org/abs/1801.01401. May be slightly negative.

    Needs two images of each kind.
    """
    n, m = len(first), len(second)
    within_first, within_second = polynomial_kernel(first), polynomial_kernel(second)
    apart = polynomial_kernel(first, second)
    return float(
        (within_first.sum() - within_first.trace()) / (n * (n - 1))
        + (within_second.sum() - within_second.trace()) / (m * (m - 1))
        - 2 * apart.mean()
    )


def precision(real: Features, synthetic: Features, neighbours: int = NEIGHBOURS) -> float:
    """Share of synthetic images that lie nearer to some real one than its `neighbours`-th real neighbour.

    Kynkaanniemi et al. (2019), eq. 2, https://arxiv.org/abs/1904.06991. With the arguments exchanged it is their recall.
    """
    return float((pairwise_distances(synthetic, real) < _radii(real, neighbours)).any(axis=1).mean())


def density(real: Features, synthetic: Features, neighbours: int = NEIGHBOURS) -> float:
    """Mean number of real images whose `neighbours`-th real neighbour is farther than a synthetic image, over `neighbours`: about 1
    for equal distributions, unbounded above. Naeem et al. (2020), eq. 8, https://arxiv.org/abs/2002.09797."""
    k = min(neighbours, len(real) - 1)
    return float((pairwise_distances(synthetic, real) < _radii(real, neighbours)).sum(axis=1).mean() / k)


def coverage(real: Features, synthetic: Features, neighbours: int = NEIGHBOURS, subset: int | None = None) -> float:
    """Share of real images, or of the first `subset` of them, with a synthetic one nearer than their `neighbours`-th real one.

    Naeem et al. (2020), eq. 9, https://arxiv.org/abs/2002.09797. More synthetic images cover more: compare equal counts.
    """
    nearest = NearestNeighbors(n_neighbors=1).fit(synthetic).kneighbors(real)[0][:, 0]
    return float((nearest < _radii(real, neighbours))[:subset].mean())


def _radii(real: Features, neighbours: int) -> Features:
    """(N,): the distance of each image to its `neighbours`-th neighbour, itself not counted, or the farthest of fewer."""
    found: Features = NearestNeighbors(n_neighbors=min(neighbours, len(real) - 1)).fit(real).kneighbors()[0][:, -1]
    return found


def diversity(features: Features) -> float:
    """Mean Euclidean distance of all pairs of two different images; 0 for a single one."""
    n = len(features)
    return float(pairwise_distances(features).sum() / (n * (n - 1))) if n > 1 else 0.0


def high_frequency_power(images: Pixels) -> float:
    """Mean power of images (N, C, S, S) at spatial frequencies above 3/4 of the Nyquist frequency, along either axis.

    Too much of it shows as checkerboards (Odena et al., 2016, https://distill.pub/2016/deconv-checkerboard), too little
    as blur. A Hann window keeps opposite borders, which meet in the transform, from counting as an edge.
    """
    values = images.astype(np.float32) / 127.5 - 1
    window = np.hanning(images.shape[-1] + 2)[1:-1]
    centred = values - values.mean(axis=(2, 3), keepdims=True)
    power = np.abs(np.fft.fft2(centred * np.outer(window, window))) ** 2
    frequency = np.abs(np.fft.fftfreq(images.shape[-1]))  # .5 is the Nyquist frequency
    high = np.maximum(frequency[:, None], frequency[None, :]) >= 0.375
    return float(power[..., high].mean())


def nearest_distances(
    images: Pixels, others: Pixels | None = None, mirror: bool = True, max_shift: int = MAX_SHIFT
) -> npt.NDArray[np.float32]:
    """(N,): root-mean-square difference, in units of the range [-1, 1], of each of `images` (N, C, S, S) to the nearest of
    `others` (M, C, S, S), shifted by up to `max_shift` pixels along both axes and, with `mirror`, reflected left to right.
    Without `others`: to the nearest other one of `images`, infinite where there is none.
    """
    queries = _flat(torch.from_numpy(images))
    best = torch.full((len(images),), torch.inf)
    own = torch.eye(len(images), dtype=torch.bool) if others is None else None
    padded = F.pad(torch.from_numpy(images if others is None else others).float(), [max_shift] * 4, mode="replicate")
    size = images.shape[-1]
    for top in range(2 * max_shift + 1):
        for left in range(2 * max_shift + 1):
            shifted = padded[:, :, top : top + size, left : left + size]
            for variant in (shifted, shifted.flip(3)) if mirror else (shifted,):
                distances = torch.cdist(queries, _flat(variant))
                if own is not None:
                    distances = distances.masked_fill(own, torch.inf)
                best = torch.minimum(best, distances.min(dim=1).values)
    found: npt.NDArray[np.float32] = (best / queries.shape[1] ** 0.5).numpy()
    return found


def _flat(images: Tensor) -> Tensor:
    return (images.float() / 127.5 - 1).flatten(1)
