"""Losses and penalties of the two players, each a plain function with its equation.

Logits have shape (N,); images (N, C, H, W) in [-1, 1]. Every function returns a scalar tensor, to be minimized,
but for mode seeking, which has a value for each pair. The losses
of one player share a signature; LOSSES names the pairs.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


def non_saturating_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[softplus(-D(x))] + E[softplus(D(G(z)))]. Goodfellow et al. (2014), eq. 1, https://arxiv.org/abs/1406.2661"""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def non_saturating_generator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[softplus(-D(G(z)))]; real logits play no part. Goodfellow et al. (2014), section 3."""
    return F.softplus(-fake_logits).mean()


def hinge_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]. Lim & Ye (2017), eq. 7, https://arxiv.org/abs/1705.02894"""
    return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


def hinge_generator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E[D(G(z))]; real logits play no part. Lim & Ye (2017), eq. 8."""
    return -fake_logits.mean()


def relativistic_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[softplus(-(D(x) - D(G(z))))], over the pairs of one position: a real image and a generated one of its class.

    Jolicoeur-Martineau (2018), https://arxiv.org/abs/1807.00734; as in Huang et al. (2024), eq. 2, https://arxiv.org/abs/2501.05441
    """
    return F.softplus(fake_logits - real_logits).mean()


def relativistic_generator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[softplus(-(D(G(z)) - D(x)))]. See `relativistic_discriminator`."""
    return F.softplus(real_logits - fake_logits).mean()


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """E[|grad_x D(x)|^2], to be weighted by gamma / 2. Mescheder et al. (2018), eq. 9, https://arxiv.org/abs/1801.04406

    On real images it is R1, on generated ones R2. `images` must require a gradient and be what the discriminator was given.
    Where it compares the images of a group, an image's gradient is that of the logits of its whole group.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()


def lecam(real_logits: Tensor, fake_logits: Tensor, real_anchor: Tensor, fake_anchor: Tensor) -> Tensor:
    """E[(D(x) - a_F)^2] + E[(D(G(z)) - a_R)^2], with moving averages a_R, a_F of the logits on real and generated images.

    Tseng et al. (2021), eq. 4, https://arxiv.org/abs/2104.03310. It keeps the logits of a discriminator that has few images
    from running away.
    """
    return (real_logits - fake_anchor).square().mean() + (fake_logits - real_anchor).square().mean()


def consistency(logits: Tensor, logits_of_augmented: Tensor) -> Tensor:
    """E[(D(x) - D(T(x)))^2]. Zhang et al. (2020), eq. 4, https://arxiv.org/abs/1910.12027

    On real and on generated images it is the balanced consistency of Zhao et al. (2021), https://arxiv.org/abs/2002.04724
    Deviation: with differentiable augmentation both logits are of augmented views.
    """
    return (logits - logits_of_augmented).square().mean()


def mode_seeking(images: Tensor, noise: Tensor) -> Tensor:
    """(N / 2,): 1 / (d(G(z1), G(z2)) / d(z1, z2) + eps) for pairs of one class. Mao et al. (2019), eq. 3 and section 3.2,
    https://arxiv.org/abs/1903.05628

    Pairs are neighbours in the batch: (0, 1), (2, 3), ... Deviation from the paper: d compares images averaged over 4 x 4
    pixels (2 x 2 below 32 px), each with its own mean and contrast removed, since a distance in pixels rewards checkerboards,
    and one that sees brightness is satisfied by brightness alone.
    """
    coarse = F.avg_pool2d(images.float(), 4 if images.shape[-1] >= 32 else 2).flatten(1)  # (N, C * h * w)
    centred = coarse - coarse.mean(dim=1, keepdim=True)
    contrast = centred.square().mean(dim=1, keepdim=True).sqrt().detach() + 0.05
    shape = centred / contrast
    image_distance = (shape[0::2] - shape[1::2]).abs().mean(dim=1)
    noise_distance = (noise[0::2] - noise[1::2]).abs().mean(dim=1)
    return 1 / (image_distance / noise_distance + 0.05)


Loss = Callable[[Tensor, Tensor], Tensor]  # of real and generated images' logits


class Losses(NamedTuple):
    """What each player minimizes."""

    discriminator: Loss
    generator: Loss
    pairs: bool  # does the generator's loss look at real logits?


LOSSES: dict[str, Losses] = {
    "non-saturating": Losses(non_saturating_discriminator, non_saturating_generator, pairs=False),
    "hinge": Losses(hinge_discriminator, hinge_generator, pairs=False),
    "relativistic": Losses(relativistic_discriminator, relativistic_generator, pairs=True),
}
