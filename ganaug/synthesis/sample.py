"""From seeds to images: each image's noise comes from its own seed, whatever the batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..data.images import to_float, to_uint8
from ..gan.mixing import AnyGenerator
from ..gan.networks import Discriminator

CHUNK = 64  # images in every call of a network: convolutions may round differently for other sizes


@dataclass(frozen=True)
class Samples:
    """Images with the discriminator's opinion of each."""

    images: npt.NDArray[np.uint8]  # (N, C, H, W)
    realism: npt.NDArray[np.float64]  # (N,) logits


def image_seed(seed: int, class_index: int, number: int) -> int:
    """The seed of a class's image of that number, from the seed of the request: 63 bits, well mixed."""
    return int(np.random.SeedSequence([seed, class_index, number]).generate_state(1, np.uint64)[0] >> 1)


def noise_of(seeds: Sequence[int], latent_size: int, truncation: float) -> Tensor:
    """(N, latent_size): for each seed its own draw from N(0, truncation^2 I). The same on every device."""
    draws = [torch.randn(latent_size, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(draws) * truncation


@torch.inference_mode()
def generate(
    generator: AnyGenerator, seeds: Sequence[int], label: int, truncation: float, device: torch.device
) -> Iterator[Tensor]:
    """Yields the images (CHUNK, C, S, S) uint8 of the class that is `label` to the generator, on `device`, the last of the seeds repeated
    until they fill the last chunk. The generator is in evaluation mode, on `device`."""
    _lay_out(generator)
    for begin in range(0, len(seeds), CHUNK):
        chunk = list(seeds[begin : begin + CHUNK])
        noise = noise_of(chunk + chunk[-1:] * (CHUNK - len(chunk)), generator.latent_size, truncation)
        labels = torch.full((CHUNK,), label, device=device)
        yield to_uint8(generator(noise.to(device), labels))


@torch.inference_mode()
def sample(
    generator: AnyGenerator,
    discriminator: Discriminator,
    seeds: Sequence[int],
    label: int,
    truncation: float,
    device: torch.device,
) -> Samples:
    """Images of the class that is `label` to both networks, with the discriminator's realism. The networks are in evaluation
    mode, on `device`."""
    images, realism = [], []
    _lay_out(discriminator)
    for made in generate(generator, seeds, label, truncation, device):
        labels = torch.full((CHUNK,), label, device=device)
        verdicts = discriminator(to_float(made), labels, grouped=False)
        images.append(made.cpu())
        realism.append((verdicts.unconditional + verdicts.conditional).double().cpu())
    return Samples(torch.cat(images)[: len(seeds)].numpy(), torch.cat(realism)[: len(seeds)].numpy())


def _lay_out(network: torch.nn.Module) -> None:
    """Weights with their channels last, as trainings have them: convolutions take little more than half the time."""
    with torch.inference_mode(False), torch.no_grad():
        network.to(memory_format=torch.channels_last)
