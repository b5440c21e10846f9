"""The second family of generators: new images from the mixed features of two real ones of a class.

After ChimeraMix, Reinders et al. (2022), https://arxiv.org/abs/2202.11616. Two training images are encoded, a mask blends
their features, and a decoder makes one picture of them that the discriminator must take for real.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.images import to_float
from .networks import Generator, num_channels

GRID = 4  # the mask is drawn on GRID x GRID cells
SHARPNESS = 3.0  # of the mask's borders between the two parents
NUM_LEVELS = 4  # of the Laplacian pyramid


class MixingGenerator(nn.Module):
    """Noise (N, latent_size) and labels (N,) -> images (N, channels, image_size, image_size) in [-1, 1].

    The first two numbers of the noise choose the parents among the images of the class, which the generator keeps; the
    others draw the mask. So one noise gives one image, as in the other family, and a run needs nothing beside itself.
    """

    latent_size = 2 + GRID * GRID
    images: Tensor  # (M, C, S, S) uint8, the training images in the order of their labels
    first_rows: Tensor  # (num_classes,) where each class begins in them
    counts: Tensor  # (num_classes,) and how many it has

    def __init__(self, class_counts: Sequence[int], image_size: int, channels: int, width: int) -> None:
        super().__init__()
        self.register_buffer(
            "images", torch.zeros(sum(class_counts), channels, image_size, image_size, dtype=torch.uint8)
        )
        counts = torch.tensor(class_counts)
        self.register_buffer("counts", counts)
        self.register_buffer("first_rows", counts.cumsum(0) - counts)
        sizes = [num_channels(image_size // 2**i, image_size, width) for i in range(3)]  # at S, S / 2 and S / 4
        self.encode_first = nn.Conv2d(channels, sizes[0], 3, padding=1)
        self.encoders = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1) for before, after in pairwise(sizes)
        )
        self.refiners = nn.ModuleList(nn.Conv2d(sizes[-1], sizes[-1], 3, padding=1, bias=False) for _ in range(2))
        self.refiner_norms = nn.ModuleList(nn.BatchNorm2d(sizes[-1]) for _ in range(2))
        self.decoders = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1, bias=False) for before, after in pairwise(sizes[::-1])
        )
        self.decoder_norms = nn.ModuleList(nn.BatchNorm2d(size) for size in sizes[-2::-1])
        self.to_image = nn.Conv2d(sizes[0], channels, 3, padding=1)

    def keep(self, images: Tensor) -> None:
        """Takes the training images (M, C, S, S) uint8, ordered by label."""
        self.images.copy_(images)

    def forward(self, noise: Tensor, labels: Tensor, conditioning: float = 1.0) -> Tensor:
        """`conditioning` plays no part: the parents bring the class."""
        first, second = self.parents(noise, labels)
        mask = draw_mask(noise[:, 2:], self.images.shape[-1] // 4)
        encoded = self.encode(to_float(torch.cat([self.images[first], self.images[second]])))
        one, other = encoded.chunk(2)
        return self.decode(mask * one + (1 - mask) * other)

    def reconstruct(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))

    def parents(self, noise: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Two rows (N,) of `images` each, different ones where a class has two: normal numbers become uniform ranks."""
        counts = self.counts[labels]
        uniform = torch.special.ndtr(noise[:, :2].float()).clamp(0, 1 - 1e-6)
        first = (uniform[:, 0] * counts).long()
        others = (counts - 1).clamp_min(1)
        second = (first + 1 + (uniform[:, 1] * others).long()) % counts
        return self.first_rows[labels] + first, self.first_rows[labels] + second

    def encode(self, images: Tensor) -> Tensor:
        features = F.leaky_relu(self.encode_first(images), 0.2)
        for convolution in self.encoders:
            features = F.leaky_relu(convolution(features), 0.2)
        return features

    def decode(self, features: Tensor) -> Tensor:
        refined = features
        for convolution, norm in zip(self.refiners, self.refiner_norms, strict=True):
            refined = F.leaky_relu(norm(convolution(refined)), 0.2)
        features = features + refined
        for convolution, norm in zip(self.decoders, self.decoder_norms, strict=True):
            features = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
            features = F.leaky_relu(norm(convolution(features)), 0.2)
        return torch.tanh(self.to_image(features).float())


AnyGenerator = Generator | MixingGenerator


def draw_mask(noise: Tensor, side: int) -> Tensor:
    """(N, GRID * GRID) -> (N, 1, side, side) in [0, 1]; half of every image comes from each parent."""
    cells = (noise - noise.mean(dim=1, keepdim=True)).view(-1, 1, GRID, GRID)
    return torch.sigmoid(SHARPNESS * F.interpolate(cells, size=(side, side), mode="bilinear", align_corners=False))


def reconstruction(images: Tensor, target: Tensor) -> Tensor:
    """Mean squared error plus the mean absolute difference of Laplacian pyramids: Bojanowski et al. (2018), section 3.1,
    https://arxiv.org/abs/1707.05776, which weighs the levels 2^(2 j)."""
    loss = F.mse_loss(images, target)
    difference = images - target
    for level in range(NUM_LEVELS):
        if difference.shape[-1] < 4:
            break
        coarse = F.avg_pool2d(difference, 2)
        band = difference - F.interpolate(coarse, scale_factor=2, mode="nearest")
        loss = loss + 4.0**-level * band.abs().mean()
        difference = coarse
    return loss
