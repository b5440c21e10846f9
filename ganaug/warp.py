"""Affine maps of images, each image with its own."""

import torch
from torch import Tensor
from torch.nn import functional as F


def affine_maps(angle: Tensor, shear: Tensor, zoom: Tensor, shift: Tensor) -> Tensor:
    """Maps (N, 2, 3) from the places of an output to those of its input, both in [-1, 1] along x and y.

    angle  (N,) radians; shear (N, 2) slopes of x over y and of y over x; zoom (N, 2) along x and y, more than 1 shows more, negative
    ones reflect; shift (N, 2)
    """
    cos, sin = angle.cos(), angle.sin()
    over_y, over_x = shear.unbind(1)
    x, y = zoom.unbind(1)
    right, down = shift.unbind(1)
    return torch.stack(
        [torch.stack([cos * x, (over_y - sin) * y, right], 1), torch.stack([(over_x + sin) * x, cos * y, down], 1)], 1
    )


def resample(images: Tensor, maps: Tensor, mode: str = "bilinear") -> Tensor:
    """Images (N, C, H, W) seen through maps (N, 2, 3), on the images' device; borders mirror. Differentiable."""
    with torch.autocast(images.device.type, enabled=False):  # coordinates need all their bits
        grid = F.affine_grid(maps.to(images, non_blocking=True), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode=mode, padding_mode="reflection", align_corners=False)
