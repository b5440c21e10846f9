"""The textbook conditional GAN that the benchmark of generators is measured against: a DCGAN (Radford et al., 2016,
https://arxiv.org/abs/1511.06434) with a projection discriminator (Miyato & Koyama, 2018, https://arxiv.org/abs/1802.05637)
and none of the remedies for few images.
"""

import time
from math import log2

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganaug.data.images import to_float

LATENT, WIDTH, BATCH, RATE = 100, 32, 64, 2e-4


class PlainGenerator(nn.Module):
    """Noise (N, LATENT) and labels (N,) -> images (N, channels, size, size) in [-1, 1], by transposed convolutions."""

    def __init__(self, num_classes: int, size: int, channels: int) -> None:
        super().__init__()
        doublings = int(log2(size)) - 2
        self.embedding = nn.Embedding(num_classes, LATENT)
        self.first = nn.Linear(2 * LATENT, WIDTH * 2 ** (doublings - 1) * 16)
        layers: list[nn.Module] = [nn.BatchNorm2d(WIDTH * 2 ** (doublings - 1)), nn.ReLU()]
        for i in range(doublings - 1, 0, -1):
            layers += [nn.ConvTranspose2d(WIDTH * 2**i, WIDTH * 2 ** (i - 1), 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(WIDTH * 2 ** (i - 1)), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(WIDTH, channels, 4, 2, 1), nn.Tanh())

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        start = self.first(torch.cat([noise, self.embedding(labels)], dim=1))
        return self.layers(start.view(len(noise), -1, 4, 4)).float()  # type: ignore[no-any-return]


class PlainDiscriminator(nn.Module):
    """Images and labels -> logits (N,)."""

    def __init__(self, num_classes: int, size: int, channels: int) -> None:
        super().__init__()
        doublings = int(log2(size)) - 2
        layers: list[nn.Module] = [nn.Conv2d(channels, WIDTH, 4, 2, 1), nn.LeakyReLU(0.2)]
        for i in range(doublings - 1):
            layers += [nn.Conv2d(WIDTH * 2**i, WIDTH * 2 ** (i + 1), 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(WIDTH * 2 ** (i + 1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        features = WIDTH * 2 ** (doublings - 1) * 16
        self.linear, self.projection = nn.Linear(features, 1), nn.Embedding(num_classes, features)
        nn.init.normal_(self.projection.weight, std=features**-0.5)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        features = self.layers(images).flatten(1).float()
        return self.linear(features).squeeze(1) + (self.projection(labels) * features).sum(dim=1)  # type: ignore[no-any-return]


def train_plain(
    images: Tensor, labels: Tensor, seconds: float, seed: int, dtype: torch.dtype
) -> tuple[PlainGenerator, int]:
    """The generator after `seconds`, and its steps, on images (N, C, S, S) uint8, in evaluation mode."""
    torch.manual_seed(seed)
    shape = (int(labels.max()) + 1, images.shape[-1], images.shape[1])
    generator, discriminator = PlainGenerator(*shape), PlainDiscriminator(*shape)
    players: tuple[nn.Module, nn.Module] = (generator, discriminator)
    for player in players:
        player.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizers = [torch.optim.Adam(player.parameters(), RATE, betas=(0.5, 0.999), foreach=True) for player in players]
    pixels, end = to_float(images), time.monotonic() + seconds
    steps = 0
    while time.monotonic() < end:
        steps += 1
        rows = torch.randint(len(pixels), (BATCH,))
        chosen, noise = labels[rows], torch.randn(BATCH, LATENT)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            fake = generator(noise, chosen)
            on_real, on_fake = discriminator(pixels[rows], chosen), discriminator(fake.detach(), chosen)
        loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
        optimizers[1].zero_grad(set_to_none=True)
        loss.backward()
        optimizers[1].step()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = F.softplus(-discriminator(fake, chosen)).mean()
        optimizers[0].zero_grad(set_to_none=True)
        loss.backward()
        optimizers[0].step()
    return generator.eval(), steps
