"""Training loops of others, rewritten from their descriptions and from reading them, so that speed.py can run them on the same networks.

Each does one update of each player a step, as ours does. What decides its speed is its project's: precision, penalties, how many batches it
makes and sees, how it averages the generator. In its favour are left out: augmentation, which ours has, decoding and collecting images,
and most of what it logs.
"""

import copy
from collections.abc import Callable, Iterator
from itertools import cycle, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganaug.data.images import to_float
from ganaug.devices import resolve_precision
from ganaug.gan.losses import gradient_penalty

Step = Callable[[], Any]
Loop = Callable[
    [nn.Module, nn.Module, Tensor, int, int], Step
]  # generator, discriminator, uint8 images, batch, length of the noise

LATENT, CHANNELS = 100, 64  # of the DCGAN example
GAMMA = 0.05  # of R3GAN's penalties


class ExampleGenerator(nn.Module):
    """The example's generator of 64 px, which has no classes: Radford et al. (2016), https://arxiv.org/abs/1511.06434"""

    def __init__(self) -> None:
        super().__init__()
        sizes = [LATENT, *(CHANNELS * k for k in (8, 4, 2, 1))]
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(sizes)):
            stride, padding = (1, 0) if number == 0 else (2, 1)
            layers += [
                nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(True),
            ]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(CHANNELS, 3, 4, 2, 1, bias=False), nn.Tanh())
        self.latent_size = LATENT

    def forward(self, noise: Tensor, labels: Tensor | None = None, conditioning: float = 1.0) -> Tensor:
        return self.layers(noise[:, :, None, None]).float()


class ExampleDiscriminator(nn.Module):
    """The example's discriminator of 64 px -> logits (N,)."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [3, *(CHANNELS * k for k in (1, 2, 4, 8))]
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(sizes)):
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(after)] if number else []
            layers += [nn.LeakyReLU(0.2, True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(sizes[-1], 1, 4, 1, 0, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).float().flatten()


def dcgan_step(generator: nn.Module, discriminator: nn.Module, images: Tensor, batch: int, latent: int) -> Step:
    """PyTorch's DCGAN example: fp32, eager; Adam of 2e-4 and (.5, .999); the real and the generated batch one after the other."""
    optimizers = optimizers_of(discriminator, generator, betas=(0.5, 0.999))
    device = images.device
    batches = batches_of(to_float(images), batch)
    labels, one, zero = (torch.full((batch,), value, device=device) for value in (0, 1.0, 0.0))

    def step() -> float:
        discriminator.zero_grad()
        on_real = F.binary_cross_entropy_with_logits(discriminator(next(batches)), one)
        on_real.backward()
        fake = generator(torch.randn(batch, latent, device=device), labels)
        on_fake = F.binary_cross_entropy_with_logits(discriminator(fake.detach()), zero)
        on_fake.backward()
        optimizers[0].step()
        generator.zero_grad()
        fooled = F.binary_cross_entropy_with_logits(discriminator(fake), one)
        fooled.backward()
        optimizers[1].step()
        return on_real.item() + on_fake.item() + fooled.item()  # the example prints them

    return step


def studiogan_step(generator: nn.Module, discriminator: nn.Module, images: Tensor, batch: int, latent: int) -> Step:
    """StudioGAN's, as its CIFAR-10 configurations of BigGAN and its README's command for them: mixed precision (fp16 on a GPU, bf16 on a
    CPU that has it), hinge loss, players switched on and off weight by weight, two batches of generated images a step. Those take
    five updates of the discriminator for one of the generator; this takes one.
    Kang et al. (2023), https://arxiv.org/abs/2206.09479, https://github.com/POSTECH-CVLab/PyTorch-StudioGAN
    """
    optimizers = optimizers_of(discriminator, generator, betas=(0.5, 0.999))
    device, average = images.device, copy.deepcopy(generator)
    labels = torch.zeros(batch, dtype=torch.int64, device=device)
    batches = loaded(images, batch)
    mixed = mixed_precision(device, torch.float16)
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")

    def made() -> Tensor:
        return generator(torch.randn(batch, latent, device=device), labels)

    def update(
        player: nn.Module, other: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]
    ) -> None:
        for network in (generator, average, discriminator):
            network.train()
        other.requires_grad_(False)
        player.requires_grad_(True)
        optimizer.zero_grad()
        with mixed():
            found = loss()
        scaler.scale(found).backward()
        scaler.step(optimizer)
        scaler.update()

    def of_discriminator() -> Tensor:
        real = next(batches).to(device, non_blocking=True)
        fake = made()
        return F.relu(1 - discriminator(real)).mean() + F.relu(1 + discriminator(fake)).mean()

    def of_generator() -> Tensor:
        return -discriminator(made()).mean()

    def step() -> None:
        update(discriminator, generator, optimizers[0], of_discriminator)
        update(generator, discriminator, optimizers[1], of_generator)
        follow(average, generator, 0.9999)

    return step


def r3gan_step(generator: nn.Module, discriminator: nn.Module, images: Tensor, batch: int, latent: int) -> Step:
    """R3GAN's: bf16 (there its stages of most pixels, here all; on a CPU only where it has it), a relativistic loss, the gradient penalties
    R1 and R2 in every step, real images for the generator's update, too, and gradients that go through one flat tensor.
    Huang et al. (2024), https://arxiv.org/abs/2501.05441, https://github.com/brownvc/R3GAN
    """
    optimizers = optimizers_of(discriminator, generator, betas=(0.0, 0.9))
    device, average = images.device, copy.deepcopy(generator)
    labels = torch.zeros(batch, dtype=torch.int64, device=device)
    batches = loaded(images, batch)
    mixed = mixed_precision(device, torch.bfloat16)
    for network in (generator, discriminator, average):
        network.requires_grad_(False)

    def judged(images: Tensor) -> Tensor:
        with mixed():
            return discriminator(images).float()

    def made() -> Tensor:
        with mixed():
            return generator(torch.randn(batch, latent, device=device), labels).float()

    def update(
        player: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[Tensor], Tensor], real: Tensor
    ) -> None:
        optimizer.zero_grad(set_to_none=True)
        player.requires_grad_(True)
        loss(real).backward()
        player.requires_grad_(False)
        weights = [weight for weight in player.parameters() if weight.grad is not None]
        flat = torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None])
        for weight, gradient in zip(weights, flat.split([weight.numel() for weight in weights]), strict=True):
            weight.grad = gradient.reshape(weight.shape)
        optimizer.step()

    def of_discriminator(real: Tensor) -> Tensor:
        real = real.detach().requires_grad_(True)
        fake = made().detach().requires_grad_(True)
        on_real, on_fake = judged(real), judged(fake)
        penalties = gradient_penalty(on_real, real) + gradient_penalty(on_fake, fake)
        return F.softplus(on_fake - on_real).mean() + GAMMA / 2 * penalties

    def of_generator(real: Tensor) -> Tensor:
        return F.softplus(judged(real) - judged(made())).mean()

    def step() -> None:
        for_discriminator, for_generator = (next(batches).to(device, non_blocking=True) for _ in range(2))
        update(discriminator, optimizers[0], of_discriminator, for_discriminator)
        update(generator, optimizers[1], of_generator, for_generator)
        follow(average, generator, 0.999)

    return step


LOOPS: dict[str, Loop] = {"the example": dcgan_step, "StudioGAN": studiogan_step, "R3GAN": r3gan_step}


def mixed_precision(device: torch.device, on_gpu: torch.dtype) -> Callable[[], torch.autocast]:
    """Contexts of it; on a CPU bf16, where it is fast there."""
    dtype = on_gpu if device.type == "cuda" else resolve_precision("auto", device)
    return lambda: torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def optimizers_of(*players: nn.Module, betas: tuple[float, float]) -> list[torch.optim.Adam]:
    """Of Adam, with the rate of all three."""
    return [torch.optim.Adam(player.parameters(), lr=2e-4, betas=betas) for player in players]


def batches_of(pixels: Tensor, batch: int) -> Iterator[Tensor]:
    """Without end, in another order each time round."""
    while True:
        for rows in torch.randperm(len(pixels)).split(batch)[: len(pixels) // batch]:
            yield pixels[rows]


def loaded(images: Tensor, batch: int) -> Iterator[Tensor]:
    """The same few batches without end, which costs a loop less than its project's loader does: floats on the host, pinned for a GPU."""
    pixels = to_float(images.cpu())
    found = pixels.split(batch)[: len(pixels) // batch]
    return cycle([one.pin_memory() if images.device.type == "cuda" else one for one in found])


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Weight by weight, as both projects do; running statistics are taken over, as R3GAN does."""
    for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
        mean.copy_(weight.lerp(mean, decay))
    for kept, buffer in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(buffer)
