"""Generator and discriminator for square images of 16 to 256 px and 1 to 4 channels. No data and no training code here."""

from itertools import pairwise
from math import log2
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

REFINED_FROM = 64  # pixels of a side
DETAIL_GAIN = 4.0  # of an image's difference from its 3 x 3 means
SPREAD_GROUP = 4  # neighbours in a batch that share a class; the discriminator sees how much they differ


def num_channels(resolution: int, image_size: int, width: int) -> int:
    """Channels of a layer: `width` at half the image's side, doubled with each halving, at most 8 times `width`.

    >>> [num_channels(r, 32, 32) for r in (4, 8, 16, 32)]
    [128, 64, 32, 16]
    """
    return min(width * image_size // (2 * resolution), 8 * width)


class ModulatedNorm(nn.Module):
    """Batch normalization whose gain and bias come from noise and class. Chen et al. (2019), https://arxiv.org/abs/1810.01365"""

    def __init__(self, channels: int, latent_size: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Linear(latent_size, channels)
        self.bias = nn.Linear(latent_size, channels)
        for layer in (self.gain, self.bias):
            nn.init.normal_(layer.weight, std=0.1 / latent_size**0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, latent: Tensor) -> Tensor:
        gain = 1 + self.gain(latent)[:, :, None, None]  # (N, C, 1, 1)
        out: Tensor = self.norm(features) * gain + self.bias(latent)[:, :, None, None]
        return out


class Refinement(nn.Module):
    """One more modulated convolution on a shortcut: He et al. (2016), https://arxiv.org/abs/1512.03385"""

    def __init__(self, channels: int, latent_size: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = ModulatedNorm(channels, latent_size)

    def forward(self, features: Tensor, latent: Tensor) -> Tensor:
        return features + F.leaky_relu(self.norm(self.convolution(features), latent), 0.2)


class Generator(nn.Module):
    """Noise (N, latent_size) and labels (N,) -> images (N, channels, image_size, image_size) in [-1, 1].

    Bilinear resizing and 3 x 3 convolutions: no transposed convolution, hence no checkerboards (Odena et al., 2016,
    https://distill.pub/2016/deconv-checkerboard). Noise and class enter at every resolution. Images of REFINED_FROM pixels and
    more, which have more of a layout, are refined at resolutions between 8 and a quarter of theirs.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int,  # 16, 32, ..., 256
        channels: int,
        latent_size: int,
        width: int,  # see num_channels
    ) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.embedding = nn.Embedding(num_classes, latent_size)
        resolutions = [4 * 2**i for i in range(int(log2(image_size // 4)) + 1)]
        sizes = [num_channels(r, image_size, width) for r in resolutions]
        self.first = nn.Linear(2 * latent_size, sizes[0] * 16)
        self.first_norm = ModulatedNorm(sizes[0], 2 * latent_size)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1, bias=False) for before, after in pairwise(sizes)
        )
        self.norms = nn.ModuleList(ModulatedNorm(size, 2 * latent_size) for size in sizes[1:])
        refined = [r for r in resolutions if 8 <= r <= image_size // 4 and image_size >= REFINED_FROM]
        self.refinements = nn.ModuleDict(
            {str(r): Refinement(num_channels(r, image_size, width), 2 * latent_size) for r in refined}
        )
        self.to_image = nn.Conv2d(sizes[-1], channels, 3, padding=1)

    def forward(self, noise: Tensor, labels: Tensor, conditioning: float | Tensor = 1.0) -> Tensor:
        """`conditioning` in [0, 1] scales the class embedding: 0 is an unconditional generator."""
        latent = torch.cat([noise, conditioning * F.normalize(self.embedding(labels)) * self.latent_size**0.5], dim=1)
        features = self.first(latent).view(len(noise), -1, 4, 4)
        features = F.leaky_relu(self.first_norm(features, latent), 0.2)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            features = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
            features = F.leaky_relu(norm(convolution(features), latent), 0.2)
            if (resolution := str(features.shape[-1])) in self.refinements:
                features = self.refinements[resolution](features, latent)
        return torch.tanh(self.to_image(features).float())


class Backbone(nn.Module):
    """Images (N, channels, image_size, image_size) -> features (N, num_features).

    The discriminator's trunk and, after the training of the GAN, the classifier's. No normalization, so that an image's
    features never depend on its batch. Beside the image it sees its fine detail, amplified: high spatial frequencies carry
    so little power that a discriminator of pixels alone lets a generator get them wrong (Schwarz et al., 2021,
    https://arxiv.org/abs/2111.02447).
    """

    def __init__(self, image_size: int, channels: int, width: int, num_features: int = 256) -> None:
        super().__init__()
        self.num_features = num_features
        resolutions = [image_size // 2**i for i in range(1, int(log2(image_size // 4)) + 1)]
        sizes = [2 * channels, *(num_channels(r, image_size, width) for r in resolutions)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1) for before, after in pairwise(sizes)
        )
        self.project = nn.Linear(sizes[-1] * 16, num_features)
        self.initialize()

    def initialize(self) -> None:
        """Draws all weights anew: He et al. (2015), https://arxiv.org/abs/1502.01852"""
        for layer in (*self.convolutions, self.project):
            nn.init.kaiming_normal_(layer.weight, a=0.2)
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        features = torch.cat([images, DETAIL_GAIN * (images - local_means(images))], dim=1)
        for convolution in self.convolutions:
            features = F.leaky_relu(convolution(features), 0.2)
        return F.leaky_relu(self.project(features.flatten(1)), 0.2)


def local_means(images: Tensor) -> Tensor:
    """Means over 3 x 3 pixels of images (N, C, H, W), with borders repeated; ten times as fast as average pooling of so few
    channels on a CPU."""
    if torch.compiler.is_compiling():  # which takes the gradient of the padding for contiguous, as it is not
        rows = torch.cat([images[:, :, :1], images, images[:, :, -1:]], dim=2)
        padded = torch.cat([rows[..., :1], rows, rows[..., -1:]], dim=3)
    else:
        padded = F.pad(images.contiguous(), (1, 1, 1, 1), mode="replicate")
    rows = padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]
    return (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / 9


class Verdicts(NamedTuple):
    """What the discriminator says of a batch."""

    unconditional: Tensor  # (N,) logits: a real image?
    conditional: Tensor  # (N,) logits: a real image of this class?
    classes: Tensor  # (N, num_classes) logits: which class?
    spread: Tensor  # (N, 1) spread of the features within the image's group


class Discriminator(nn.Module):
    """Images and labels -> `Verdicts`. Projection for the conditional logit: Miyato & Koyama (2018), eq. 3,
    https://arxiv.org/abs/1802.05637; beside an unconditional one, for transitional training: Shahbazi et al. (2022),
    https://arxiv.org/abs/2201.06578; and a classifier of the real images.

    The mean spread of features within groups of one class is one more feature (after the minibatch standard deviation of
    Karras et al., 2018, section 3, https://arxiv.org/abs/1710.10196): one picture per class is seen at once.
    """

    spread: Tensor

    def __init__(self, num_classes: int, image_size: int, channels: int, width: int) -> None:
        super().__init__()
        self.backbone = Backbone(image_size, channels, width)
        size = self.backbone.num_features
        self.unconditional = nn.Linear(size + 1, 1)
        self.conditional = nn.Linear(size + 1, 1)
        self.projection = nn.Embedding(num_classes, size)
        self.classifier = nn.Linear(size, num_classes)
        nn.init.normal_(self.projection.weight, std=size**-0.5)
        self.register_buffer("spread", torch.zeros(()))  # running mean over real images, for judging single ones

    def forward(self, images: Tensor, labels: Tensor, grouped: bool = True) -> Verdicts:
        """`grouped`: neighbours share a class in groups of SPREAD_GROUP; if not, the spread of real images is assumed."""
        features = self.backbone(images).float()
        spread = self.group_spread(features) if grouped else self.spread.expand(len(features), 1)
        seen = torch.cat([features, spread], dim=1)  # (N, num_features + 1)
        projected = (self.projection(labels) * features).sum(dim=1)
        with torch.autocast(images.device.type, enabled=False):
            return Verdicts(
                self.unconditional(seen).squeeze(1),
                self.conditional(seen).squeeze(1) + projected,
                self.classifier(features),
                spread,
            )

    @staticmethod
    def group_spread(features: Tensor) -> Tensor:
        """(N, F) -> (N, 1): the standard deviation within each group of neighbours, averaged over the features."""
        groups = features.view(-1, SPREAD_GROUP, features.shape[1])
        variance = (groups - groups.mean(dim=1, keepdim=True)).square().mean(dim=1)
        spread = (variance + 1e-8).sqrt().mean(dim=1)
        return torch.repeat_interleave(spread, SPREAD_GROUP)[:, None]
