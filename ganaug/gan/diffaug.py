"""Differentiable augmentation of real and generated images alike: Zhao et al. (2020), https://arxiv.org/abs/2006.10738,
with a strength that a controller may adapt, as in Karras et al. (2020), https://arxiv.org/abs/2006.06676.

Each function takes images (N, C, H, W) in [-1, 1], the probability that an image is changed, and a generator on the CPU. Where the
images are one process's `part` of a batch, the whole batch is drawn for. What was drawn goes to the device without waiting for it.
"""

from collections.abc import Collection
from math import pi

import torch
from torch import Generator, Tensor

from ..warp import affine_maps, resample
from .ranks import ALONE, Part

TURN, SHEAR, ZOOM = 10 / 180 * pi, 0.17, 0.2  # standard deviations of a deformation: radians, a slope, powers of 2


def augment(images: Tensor, operations: Collection[str], strength: float, rng: Generator, part: Part = ALONE) -> Tensor:
    """Applies the named operations, each to an image with probability `strength`."""
    if strength <= 0:
        return images
    if "color" in operations:
        images = color(images, strength, rng, part)
    if "translation" in operations:
        images = translation(images, strength, rng, part)
    if "scale" in operations or "rotation" in operations:
        images = affine(images, operations, strength, rng, part)
    if "cutout" in operations:
        images = cutout(images, strength, rng, part)
    return images


def reflect(images: Tensor, mirror: str, rng: Generator, part: Part = ALONE) -> Tensor:
    """Each image reflected, with probability 1/2, along the axes that `mirror` names as harmless."""
    for axis, names in ((3, ("horizontal", "both")), (2, ("vertical", "both"))):
        if mirror in names:
            flipped = _chosen(images, 0.5, rng, part) > 0
            images = torch.where(flipped, images.flip(axis), images)
    return images


def color(images: Tensor, strength: float, rng: Generator, part: Part = ALONE) -> Tensor:
    """Brightness +-.2 (of a range of 2), contrast x .8 to 1.2 and, in colour, saturation x .5 to 1.5."""
    brightness = _chosen(images, strength, rng, part) * _uniform(images, -0.2, 0.2, rng, part)
    contrast = 1 + _chosen(images, strength, rng, part) * _uniform(images, -0.2, 0.2, rng, part)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * contrast + mean + brightness
    if images.shape[1] == 3:
        saturation = 1 + _chosen(images, strength, rng, part) * _uniform(images, -0.5, 0.5, rng, part)
        gray = images.mean(dim=1, keepdim=True)
        images = (images - gray) * saturation + gray
    return images


def translation(images: Tensor, strength: float, rng: Generator, part: Part = ALONE) -> Tensor:
    """Shifts by up to 1/8 of the side along both axes, by whole pixels, so that nothing is blurred; borders mirror."""
    n, _, height, width = images.shape
    whole = part.size_of_whole(images)
    chosen = torch.rand(whole, 1, generator=rng) < strength
    limits = torch.tensor([height // 8, width // 8])
    reach = (torch.rand(whole, 2, generator=rng) * 2 - 1) * (limits + 0.5)
    shift = part.of(reach.round().long().clamp(-limits, limits) * chosen)
    rows = _mirrored(torch.arange(height) + shift[:, :1], height).to(images.device, non_blocking=True)  # (N, H)
    columns = _mirrored(torch.arange(width) + shift[:, 1:], width).to(images.device, non_blocking=True)  # (N, W)
    picked = torch.arange(n, device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[picked, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _mirrored(positions: Tensor, size: int) -> Tensor:
    """Positions outside of [0, size) reflected back at the borders."""
    positions = torch.where(positions < 0, -positions - 1, positions)
    return torch.where(positions >= size, 2 * size - 1 - positions, positions)


def affine(images: Tensor, operations: Collection[str], strength: float, rng: Generator, part: Part = ALONE) -> Tensor:
    """Scales by 2^+-.25 and turns by up to 12 degrees, in one resampling of the chosen images; borders mirror.

    One draw chooses an image for both: resampling blurs, and the discriminator must see enough images that are sharp.
    """
    chosen = torch.where(torch.rand(part.size_of_whole(images), generator=rng) < strength)[0]
    n = len(chosen)
    log_scale = (torch.rand(n, generator=rng) - 0.5) / 2 * ("scale" in operations)
    angle = (torch.rand(n, generator=rng) - 0.5) * (24 / 180 * pi) * ("rotation" in operations)
    zoom = (2.0**log_scale)[:, None].expand(n, 2)
    maps = affine_maps(angle, torch.zeros(n, 2), zoom, torch.zeros(n, 2))
    return _resampled(images, chosen, maps, "bilinear", part)


def deform(
    images: Tensor, operations: Collection[str], probability: Tensor, rng: Generator, part: Part = ALONE
) -> Tensor:
    """Real images (N, C, H, W), each with its `probability` (those of the whole batch) turned and sheared ("rotation") and zoomed
    along each axis ("scale"), as far as these are among the operations; in one bicubic resampling, borders mirror. Draws are normal, cut at
    2 standard deviations.

    Not differentiable, and of real images alone: the generator learns the deformed images, too.
    """
    chosen = torch.where(torch.rand(len(probability), generator=rng) < probability)[0]
    if not {"rotation", "scale"} & set(operations):
        return images
    draws = torch.randn(len(chosen), 4, generator=rng).clamp(-2, 2)
    angle, shear = TURN * draws[:, 0] * ("rotation" in operations), SHEAR * draws[:, 1] * ("rotation" in operations)
    zoom = 2 ** (ZOOM * draws[:, 2:] * ("scale" in operations))
    zeros = torch.zeros(len(chosen), 2)
    maps = affine_maps(angle, torch.stack([shear, zeros[:, 0]], 1), zoom, zeros)
    return _resampled(images, chosen, maps, "bicubic", part).clamp(-1, 1)


def cutout(images: Tensor, strength: float, rng: Generator, part: Part = ALONE) -> Tensor:
    """A grey square of half the side at a random place."""
    (_, _, height, width), n = images.shape, part.size_of_whole(images)
    chosen = torch.rand(n, 1, 1, generator=rng) < strength
    centre_y, centre_x = torch.rand(n, 1, 1, generator=rng) * height, torch.rand(n, 1, 1, generator=rng) * width
    inside_y = (torch.arange(height)[None, :, None] - centre_y).abs() < height / 4
    inside_x = (torch.arange(width)[None, None, :] - centre_x).abs() < width / 4
    keep = part.of(~(inside_y & inside_x & chosen))  # (N, H, W)
    return images * keep[:, None].to(images, non_blocking=True)


def _resampled(images: Tensor, chosen: Tensor, maps: Tensor, mode: str, part: Part) -> Tensor:
    """The images with those `chosen` (n,) of the whole batch seen through the affine `maps` (n, 2, 3); borders mirror."""
    mine, chosen = part.find(chosen)
    if not len(chosen):
        return images
    chosen = chosen.to(images.device, non_blocking=True)
    return images.index_copy(0, chosen, resample(images[chosen], maps[mine], mode))


def _chosen(images: Tensor, strength: float, rng: Generator, part: Part) -> Tensor:
    chosen = part.of(torch.rand(part.size_of_whole(images), 1, 1, 1, generator=rng) < strength)
    return chosen.to(images, non_blocking=True)


def _uniform(images: Tensor, low: float, high: float, rng: Generator, part: Part) -> Tensor:
    drawn = part.of(torch.rand(part.size_of_whole(images), 1, 1, 1, generator=rng) * (high - low) + low)
    return drawn.to(images, non_blocking=True)
