"""The second family of generators: new images from the mixed features of two real ones of a class.

After ChimeraMix, Reinders et al. (2022), https://arxiv.org/abs/2202.11616. Two training images are encoded, a mask blends
their features, and a decoder makes one picture of them that the discriminator must take for real.
"""

from collections.abc import Collection, Sequence
from itertools import pairwise
from math import pi

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.images import to_float
from ..warp import affine_maps, resample
from .networks import Generator, ModulatedNorm, num_channels

GRID = 4  # the mask is drawn on GRID x GRID cells
SHARPNESS = 4.0  # of the mask's borders between the two parents
NUM_LEVELS = 3  # of the Laplacian pyramid
CHOICE, MASK, WARP = (
    2,
    GRID * GRID,
    6,
)  # numbers of the noise that choose the parents, draw the mask and warp each parent
TURN, ZOOM, SHIFT = pi / 30, 0.08, 0.05  # standard deviations of a warp: radians, powers of 2, shares of the side


class MixingGenerator(nn.Module):
    """Noise (N, latent_size) and labels (N,) -> images (N, channels, image_size, image_size) in [-1, 1].

    One part of the noise chooses the parents among the images of the class, which the generator keeps, a part warps each a
    little, a part draws the mask, and the rest modulates the decoder. So one noise gives one image, as in the other family,
    and a run needs nothing beside itself. Deviations from the paper: the warps, and noise and class in the decoder.
    """

    images: Tensor  # (M, C, S, S) uint8, the training images in the order of their labels
    first_rows: Tensor  # (num_classes,) where each class begins in them
    counts: Tensor  # (num_classes,) and how many it has

    def __init__(
        self,
        class_counts: Sequence[int],
        image_size: int,
        channels: int,
        style_size: int,  # numbers of the noise that modulate the decoder
        width: int,  # see num_channels
        mirror: str,  # reflections of the parents that keep their class
        operations: Collection[str],  # of "rotation", "scale" and "translation", those by which parents are warped
    ) -> None:
        super().__init__()
        self.latent_size = CHOICE + MASK + 2 * WARP + style_size
        self.mirrored = torch.tensor([mirror in ("horizontal", "both"), mirror in ("vertical", "both")])
        turn, zoom, shift = (name in operations for name in ("rotation", "scale", "translation"))
        self.allowed = torch.tensor([turn, zoom, shift, shift, True, True])  # numbers of a warp
        stored = torch.zeros(sum(class_counts), channels, image_size, image_size, dtype=torch.uint8)
        counts = torch.tensor(class_counts)
        self.register_buffer("images", stored)
        self.register_buffer("counts", counts)
        self.register_buffer("first_rows", counts.cumsum(0) - counts)
        self.embedding = nn.Embedding(len(class_counts), style_size)
        sizes = [num_channels(image_size // 2**i, image_size, width) for i in range(3)]  # at S, S / 2 and S / 4
        self.encode_first = nn.Conv2d(channels, sizes[0], 3, padding=1)
        self.encoders = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1) for before, after in pairwise(sizes)
        )
        self.refiners = nn.ModuleList(nn.Conv2d(sizes[-1], sizes[-1], 3, padding=1, bias=False) for _ in range(2))
        self.refiner_norms = nn.ModuleList(ModulatedNorm(sizes[-1], 2 * style_size) for _ in range(2))
        self.decoders = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1, bias=False) for before, after in pairwise(sizes[::-1])
        )
        self.decoder_norms = nn.ModuleList(ModulatedNorm(size, 2 * style_size) for size in sizes[-2::-1])
        self.to_image = nn.Conv2d(sizes[0], channels, 3, padding=1)

    def keep(self, images: Tensor) -> None:
        """Takes the training images (M, C, S, S) uint8, ordered by label."""
        self.images.copy_(images)

    def forward(self, noise: Tensor, labels: Tensor, conditioning: float | Tensor = 1.0) -> Tensor:
        """`conditioning` in [0, 1] scales the class embedding; the class of the parents it leaves as it is."""
        choice, cells, warps, style = torch.split(
            noise, [CHOICE, MASK, 2 * WARP, noise.shape[1] - CHOICE - MASK - 2 * WARP], 1
        )
        with torch.no_grad():
            parents = [
                warp(to_float(self.images[rows]), by * self.allowed.to(by.device), self.mirrored)
                for rows, by in zip(self.parents(choice, labels), warps.chunk(2, dim=1), strict=True)
            ]
        one, other = self.encode(torch.cat(parents)).chunk(2)
        mask = draw_mask(cells, one.shape[-1])
        return self.decode(mask * one + (1 - mask) * other, style, labels, conditioning)

    def reconstruct(self, images: Tensor, noise: Tensor, labels: Tensor, conditioning: float | Tensor = 1.0) -> Tensor:
        """Images (N, C, S, S) encoded and decoded, unmixed."""
        return self.decode(self.encode(images), noise[:, CHOICE + MASK + 2 * WARP :], labels, conditioning)

    def parents(self, choice: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Two rows (N,) of `images` each, different ones where a class has two: normal numbers become uniform ranks."""
        counts = self.counts[labels]
        uniform = torch.special.ndtr(choice.float()).clamp(0, 1 - 1e-6)
        first = (uniform[:, 0] * counts).long()
        others = (counts - 1).clamp_min(1)
        second = (first + 1 + (uniform[:, 1] * others).long()) % counts
        return self.first_rows[labels] + first, self.first_rows[labels] + second

    def encode(self, images: Tensor) -> Tensor:
        features = F.leaky_relu(self.encode_first(images), 0.2)
        for convolution in self.encoders:
            features = F.leaky_relu(convolution(features), 0.2)
        return features

    def decode(self, features: Tensor, style: Tensor, labels: Tensor, conditioning: float | Tensor) -> Tensor:
        of_class = conditioning * F.normalize(self.embedding(labels)) * style.shape[1] ** 0.5
        latent = torch.cat([style, of_class], dim=1)
        refined = features
        for convolution, norm in zip(self.refiners, self.refiner_norms, strict=True):
            refined = F.leaky_relu(norm(convolution(refined), latent), 0.2)
        features = features + refined
        for convolution, norm in zip(self.decoders, self.decoder_norms, strict=True):
            features = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
            features = F.leaky_relu(norm(convolution(features), latent), 0.2)
        return torch.tanh(self.to_image(features).float())


def warp(images: Tensor, noise: Tensor, mirrored: Tensor) -> Tensor:
    """Images (N, C, S, S) turned, zoomed and shifted a little, and reflected along the axes (x, y) in `mirrored`, all by
    the normal numbers (N, WARP), cut at 2 standard deviations; borders mirror."""
    noise = noise.float().clamp(-2, 2)
    flips = torch.where((noise[:, 4:6] < 0) & mirrored.to(noise.device), -1.0, 1.0)
    zoom = flips * 2 ** (ZOOM * noise[:, 1:2])
    maps = affine_maps(TURN * noise[:, 0], torch.zeros_like(zoom), zoom, 2 * SHIFT * noise[:, 2:4])
    return resample(images, maps)


AnyGenerator = Generator | MixingGenerator


def draw_mask(noise: Tensor, side: int) -> Tensor:
    """(N, GRID * GRID) -> (N, 1, side, side) in [0, 1]; half of every image comes from each parent."""
    cells = (noise - noise.mean(dim=1, keepdim=True)).view(-1, 1, GRID, GRID)
    return torch.sigmoid(SHARPNESS * F.interpolate(cells, size=(side, side), mode="bilinear", align_corners=False))


def reconstruction(images: Tensor, target: Tensor) -> Tensor:
    """Mean squared error plus the mean absolute difference at every level of a Laplacian pyramid. Bojanowski et al. (2018),
    section 3.1, https://arxiv.org/abs/1707.05776, whose weights 2^(2 j) of sums are equal weights of means."""
    loss = F.mse_loss(images, target)
    difference = images - target
    for _ in range(NUM_LEVELS):
        coarse = F.avg_pool2d(difference, 2)
        band = difference - F.interpolate(coarse, scale_factor=2, mode="nearest")
        loss = loss + band.abs().mean()
        difference = coarse
    return loss
