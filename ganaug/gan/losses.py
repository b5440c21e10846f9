"""Losses and penalties of the two players, each a plain function with its equation.

Logits have shape (N,); images (N, C, H, W) in [-1, 1]. Every function returns a scalar tensor.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def non_saturating_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[softplus(-D(x))] + E[softplus(D(G(z)))]. Goodfellow et al. (2014), eq. 1, https://arxiv.org/abs/1406.2661"""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def non_saturating_generator(fake_logits: Tensor) -> Tensor:
    """E[softplus(-D(G(z)))]. Goodfellow et al. (2014), section 3, https://arxiv.org/abs/1406.2661"""
    return F.softplus(-fake_logits).mean()


def r1_penalty(real_logits: Tensor, real_images: Tensor) -> Tensor:
    """E[|grad_x D(x)|^2], to be weighted by gamma / 2. Mescheder et al. (2018), eq. 9, https://arxiv.org/abs/1801.04406

    `real_images` must require a gradient and be what the discriminator was given.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real_images, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()


def mode_seeking(images: Tensor, noise: Tensor) -> Tensor:
    """1 / (d(G(z1), G(z2)) / d(z1, z2) + eps), the mean over pairs of one class. Mao et al. (2019), eq. 3 and section 3.2,
    https://arxiv.org/abs/1903.05628

    Pairs are neighbours in the batch: (0, 1), (2, 3), ... Deviation from the paper: d compares images averaged over 4 x 4
    pixels, each with its own mean and contrast removed, since a distance in pixels rewards checkerboards, and one that sees
    brightness is satisfied by brightness alone.
    """
    coarse = F.avg_pool2d(images.float(), 4 if images.shape[-1] >= 32 else 2).flatten(1)  # (N, C * h * w)
    centred = coarse - coarse.mean(dim=1, keepdim=True)
    contrast = centred.square().mean(dim=1, keepdim=True).sqrt().detach() + 0.05
    shape = centred / contrast
    image_distance = (shape[0::2] - shape[1::2]).abs().mean(dim=1)
    noise_distance = (noise[0::2] - noise[1::2]).abs().mean(dim=1)
    return (1 / (image_distance / noise_distance + 0.05)).mean()
