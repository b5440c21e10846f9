"""One step of the game: the discriminator's update, then the generator's."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.images import to_float
from ..settings import FitSettings
from .balance import Balance, adapt
from .diffaug import augment
from .losses import mode_seeking, non_saturating_discriminator, non_saturating_generator, r1_penalty
from .networks import SPREAD_GROUP, Discriminator, Generator


@dataclass
class TrainingState:
    """Everything that changes while a GAN trains; all of it is in a checkpoint."""

    generator: Generator
    average: Generator  # exponential moving average: the one that is used afterwards
    discriminator: Discriminator
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    rng: torch.Generator  # on the CPU; noise, labels, data order and augmentation all come from it
    balance: Balance
    step: int = 0
    steps: int | None = None  # of the whole training; None while a budget has not settled them
    seconds: float = 0.0


@dataclass(frozen=True)
class TrainingData:
    """Images of the classes to learn, on the training device, and where each class lies."""

    images: Tensor  # (N, C, H, W) uint8
    class_rows: tuple[Tensor, ...]  # rows of each class
    labels: tuple[int, ...]  # the network's label of each of these classes
    mirror: str


def conditioning_at(progress: float, transition: tuple[float, float]) -> float:
    """0 before the transition, 1 after it, linear between. Shahbazi et al. (2022), section 4."""
    begin, end = transition
    return min(1.0, max(0.0, (progress - begin) / max(end - begin, 1e-9)))


def draw_labels(data: TrainingData, batch_size: int, rng: torch.Generator) -> Tensor:
    """(batch_size,) positions in `data.labels`, uniform over the classes, in groups of SPREAD_GROUP of one class."""
    num_groups = -(-batch_size // SPREAD_GROUP)
    return torch.randint(len(data.labels), (num_groups,), generator=rng).repeat_interleave(SPREAD_GROUP)


def draw_real(data: TrainingData, classes: Tensor, rng: torch.Generator) -> Tensor:
    """Float images (N, C, H, W) in [-1, 1] of the classes asked for, mirrored at random where the data allow it."""
    groups = [draw_group(data.class_rows[c], rng) for c in classes[::SPREAD_GROUP].tolist()]
    rows = torch.cat(groups)
    images = to_float(data.images[rows.to(data.images.device)])
    for axis, names in ((3, ("horizontal", "both")), (2, ("vertical", "both"))):
        if data.mirror in names:
            flipped = torch.rand(len(images), 1, 1, 1, generator=rng).to(images.device) < 0.5
            images = torch.where(flipped, images.flip(axis), images)
    return images


def draw_group(rows: Tensor, rng: torch.Generator) -> Tensor:
    """SPREAD_GROUP of a class's rows, different ones where it has enough: the discriminator sees how much they differ."""
    rounds = -(-SPREAD_GROUP // len(rows))
    order = torch.cat([torch.randperm(len(rows), generator=rng) for _ in range(rounds)])
    return rows[order[:SPREAD_GROUP]]


def train_step(
    state: TrainingState, data: TrainingData, settings: FitSettings, conditioning: float, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Both updates and the average's; returns what to log, as tensors on the device."""
    network_labels = torch.tensor(data.labels)
    device = data.images.device
    autocast = torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
    classes = draw_labels(data, settings.batch_size, state.rng)
    labels = network_labels[classes].to(device)
    noise = torch.randn(len(labels), state.generator.latent_size, generator=state.rng).to(device)
    real = draw_real(data, classes, state.rng)
    with autocast:  # one context for each update: it keeps the weights that it has cast
        logged = discriminator_step(state, real, noise, labels, conditioning, settings)
    labels = network_labels[draw_labels(data, settings.batch_size, state.rng)].to(device)
    noise = torch.randn(len(labels), state.generator.latent_size, generator=state.rng).to(device)
    with autocast:
        logged |= generator_step(state, noise, labels, conditioning, settings)
    adapt(state.balance, logged["separation"], settings.augment_target, settings.augment_limits)
    state.step += 1
    update_average(state.average, state.generator, 0.5 ** (1 / max(1.0, settings.ema_half_life * state.step)))
    return logged


def discriminator_step(
    state: TrainingState, real: Tensor, noise: Tensor, labels: Tensor, conditioning: float, settings: FitSettings
) -> dict[str, Tensor]:
    """min_D L_uncond + conditioning L_cond + class_weight CE(real) + gamma / 2 R1 (lazily, weighted by its interval)."""
    with torch.no_grad():
        fake = state.generator(noise, labels, conditioning)
    strength = state.balance.strength
    real = augment(real, settings.augment, strength, state.rng)
    fake = augment(fake, settings.augment, strength, state.rng)
    penalize = settings.r1_weight > 0 and state.step % settings.r1_interval == 0
    real.requires_grad_(penalize)
    on_real, on_fake = state.discriminator(real, labels), state.discriminator(fake, labels)
    loss = non_saturating_discriminator(on_real.unconditional, on_fake.unconditional)
    loss = loss + conditioning * non_saturating_discriminator(on_real.conditional, on_fake.conditional)
    class_loss = F.cross_entropy(on_real.classes, labels)
    total = loss + settings.class_weight * class_loss
    if penalize:
        penalty = r1_penalty(on_real.unconditional + conditioning * on_real.conditional, real)
        total = total + settings.r1_weight / 2 * settings.r1_interval * penalty
    state.discriminator_optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    state.discriminator_optimizer.step()
    state.discriminator.spread.lerp_(on_real.spread.detach().mean(), 0.05 if state.step else 1.0)
    return {
        "loss_d": loss.detach(),
        "class_loss": class_loss.detach(),
        "class_accuracy": (on_real.classes.detach().argmax(1) == labels).float().mean(),
        "separation": separation(on_real.unconditional.detach(), on_fake.unconditional.detach()),
    }


def separation(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """P(D(x) > D(G(z))) over all pairs of a batch: .5 when the discriminator cannot tell, 1 when it always can."""
    return (real_logits[:, None] > fake_logits[None, :]).float().mean()


def generator_step(
    state: TrainingState, noise: Tensor, labels: Tensor, conditioning: float, settings: FitSettings
) -> dict[str, Tensor]:
    """min_G L_uncond + conditioning L_cond + diversity_weight MS."""
    images = state.generator(noise, labels, conditioning)
    verdicts = state.discriminator(augment(images, settings.augment, state.balance.strength, state.rng), labels)
    loss = non_saturating_generator(verdicts.unconditional) + conditioning * non_saturating_generator(
        verdicts.conditional
    )
    diversity = mode_seeking(images, noise)
    weights = list(state.generator.parameters())
    gradients = torch.autograd.grad(loss + settings.diversity_weight * diversity, weights)  # none for the discriminator
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    state.generator_optimizer.step()
    return {"loss_g": loss.detach(), "mode_seeking": diversity.detach()}


@torch.no_grad()
def update_average(average: torch.nn.Module, current: torch.nn.Module, decay: float) -> None:
    """average <- decay average + (1 - decay) current, for weights and running statistics alike."""
    averages = [value for value in average.state_dict().values() if value.is_floating_point()]
    currents = [value for value in current.state_dict().values() if value.is_floating_point()]
    torch._foreach_lerp_(averages, currents, 1 - decay)
