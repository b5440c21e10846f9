"""Differentiable augmentation of real and generated images alike: Zhao et al. (2020), https://arxiv.org/abs/2006.10738,
with a strength that a controller may adapt, as in Karras et al. (2020), https://arxiv.org/abs/2006.06676.

Each function takes images (N, C, H, W) in [-1, 1], the probability that an image is changed, and a generator on the CPU.
"""

from collections.abc import Collection
from math import pi

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

SPATIAL = ("translation", "scale", "rotation")


def augment(images: Tensor, operations: Collection[str], strength: float, rng: Generator) -> Tensor:
    """Applies the named operations, each to an image with probability `strength`."""
    if strength <= 0:
        return images
    with torch.autocast(images.device.type, enabled=False):  # coordinates need all their bits
        if "color" in operations:
            images = color(images, strength, rng)
        if any(name in operations for name in SPATIAL):
            images = affine(images, operations, strength, rng)
        if "cutout" in operations:
            images = cutout(images, strength, rng)
    return images


def color(images: Tensor, strength: float, rng: Generator) -> Tensor:
    """Brightness +-.25 (of a range of 2), contrast x .6 to 1.4 and, in colour, saturation x 0 to 2."""
    brightness = _chosen(images, strength, rng) * _uniform(images, -0.25, 0.25, rng)
    contrast = 1 + _chosen(images, strength, rng) * _uniform(images, -0.4, 0.4, rng)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * contrast + mean + brightness
    if images.shape[1] == 3:
        saturation = 1 + _chosen(images, strength, rng) * _uniform(images, -1, 1, rng)
        gray = images.mean(dim=1, keepdim=True)
        images = (images - gray) * saturation + gray
    return images


def affine(images: Tensor, operations: Collection[str], strength: float, rng: Generator) -> Tensor:
    """Shifts by up to 1/8 of the side, scales by 2^+-.25 and turns by up to 12 degrees, in one resampling; borders mirror."""
    n = len(images)
    shift, log_scale, angle = torch.zeros(n, 2), torch.zeros(n), torch.zeros(n)
    if "translation" in operations:
        shift = (torch.rand(n, 1, generator=rng) < strength) * (torch.rand(n, 2, generator=rng) - 0.5) / 2
    if "scale" in operations:
        log_scale = (torch.rand(n, generator=rng) < strength) * (torch.rand(n, generator=rng) - 0.5) / 2
    if "rotation" in operations:
        angle = (torch.rand(n, generator=rng) < strength) * (torch.rand(n, generator=rng) - 0.5) * (24 / 180 * pi)
    zoom = 2.0**log_scale
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    rows = torch.stack(
        [torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1
    )  # (N, 2, 3)
    grid = F.affine_grid(rows.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def cutout(images: Tensor, strength: float, rng: Generator) -> Tensor:
    """A grey square of half the side at a random place."""
    n, _, height, width = images.shape
    chosen = torch.rand(n, 1, 1, generator=rng) < strength
    centre_y, centre_x = torch.rand(n, 1, 1, generator=rng) * height, torch.rand(n, 1, 1, generator=rng) * width
    inside_y = (torch.arange(height)[None, :, None] - centre_y).abs() < height / 4
    inside_x = (torch.arange(width)[None, None, :] - centre_x).abs() < width / 4
    keep = ~(inside_y & inside_x & chosen)  # (N, H, W)
    return images * keep[:, None].to(images)


def _chosen(images: Tensor, strength: float, rng: Generator) -> Tensor:
    return (torch.rand(len(images), 1, 1, 1, generator=rng) < strength).to(images)


def _uniform(images: Tensor, low: float, high: float, rng: Generator) -> Tensor:
    return (torch.rand(len(images), 1, 1, 1, generator=rng) * (high - low) + low).to(images)
