"""One step of the game: the discriminator's update, then the generator's."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.images import to_float
from ..settings import FitSettings
from .balance import Balance, decide, skips_discriminator, track_spreads, variety_weights
from .diffaug import augment, deform, reflect
from .losses import LOSSES, consistency, gradient_penalty, lecam, mode_seeking
from .mixing import AnyGenerator, MixingGenerator, reconstruction
from .networks import SPREAD_GROUP, Discriminator, Verdicts
from .ranks import ALONE, Part
from .stored import StoredImages, take
from .validation import Checkpoint

NUM_HELD_OUT = 16  # images of which the controller learns whether the discriminator memorizes
MANY = 2**10  # images of a class
RECONSTRUCTED = 4  # one in so many real images is reconstructed in the mixing family
GAMMA_EXPONENT = 8 / 3
ANCHOR_RATE = 0.01  # of the moving averages of LeCam


@dataclass
class TrainingState:
    """Everything that changes while a GAN trains; all of it is in a checkpoint."""

    generator: AnyGenerator
    average: AnyGenerator  # exponential moving average: the one that is used afterwards
    discriminator: Discriminator
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    rng: torch.Generator  # on the CPU; noise, labels, data order and augmentation all come from it
    balance: Balance
    anchors: Tensor  # (2,) moving averages of the logits on real and generated images
    spreads: Tensor  # (2, num_classes) moving averages of the spread within groups of real and of generated images
    batch_size: int  # that of the settings, halved whenever the memory did not hold it
    caution: float = 1.0  # factor on both learning rates; halved whenever a training that diverged is rolled back
    step: int = 0
    steps: int | None = None  # of the whole training; None while a budget has not settled them
    seconds: float = 0.0  # of the training so far, those of steps that were rolled back included
    attempts: int = 0  # steps taken in all, with those that were rolled back
    checkpoints: list[Checkpoint] = field(default_factory=list)
    snapshots: dict[int, list[str]] = field(default_factory=dict)  # step -> what names its two files of weights
    part: Part = ALONE  # of every batch that this process computes; not in a checkpoint


@dataclass(frozen=True)
class TrainingData:
    """Images of the classes to learn, on the training device or on their way to it, and where each class lies."""

    images: Tensor | StoredImages  # (N, C, H, W) uint8
    class_rows: tuple[Tensor, ...]  # rows of each class
    labels: tuple[int, ...]  # the network's label of each of these classes
    mirror: str
    held_out: tuple[Tensor, Tensor] | None = (
        None  # images (M, C, H, W) uint8 on their device, the network's labels (M,) on the CPU
    )

    def to_plain(self) -> dict[str, Any]:
        """Tensors, numbers and texts alone, for another process."""
        images = self.images.to_plain() if isinstance(self.images, StoredImages) else self.images
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"images": images}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "TrainingData":
        """Inverts `to_plain`; on the CPU."""
        images = values["images"]
        return cls(**{**values, "images": StoredImages.from_plain(images) if isinstance(images, dict) else images})


def conditioning_at(progress: float, transition: tuple[float, float]) -> float:
    """0 before the transition, 1 after it, linear between. Shahbazi et al. (2022), section 4."""
    begin, end = transition
    return min(1.0, max(0.0, (progress - begin) / max(end - begin, 1e-9)))


def draw_labels(data: TrainingData, batch_size: int, rng: torch.Generator) -> Tensor:
    """(batch_size,) positions in `data.labels`, uniform over the classes, in groups of SPREAD_GROUP of one class."""
    num_groups = -(-batch_size // SPREAD_GROUP)
    return torch.randint(len(data.labels), (num_groups,), generator=rng).repeat_interleave(SPREAD_GROUP)


def draw_real(
    data: TrainingData, classes: Tensor, settings: FitSettings, rng: torch.Generator, part: Part = ALONE
) -> Tensor:
    """Float images (N, C, H, W) in [-1, 1] of the classes asked for, or a part of them, mirrored at random where the data allow it,
    and deformed the more often the fewer images n a class has: with probability d^2 / (d^2 + n^2), d of the settings."""
    drawn = classes[::SPREAD_GROUP].tolist()
    rows = torch.cat([draw_group(data.class_rows[c], rng) for c in drawn])
    images = reflect(to_float(take(data.images, part.of(rows))), data.mirror, rng, part)
    counts = torch.tensor([len(data.class_rows[c]) for c in drawn]).repeat_interleave(SPREAD_GROUP)
    squared = float(settings.deformed_size) ** 2
    return deform(images, settings.augment, squared / (squared + counts.square()), rng, part)


def draw_group(rows: Tensor, rng: torch.Generator) -> Tensor:
    """SPREAD_GROUP of a class's rows, different ones where it has enough: the discriminator sees how much they differ."""
    if len(rows) > MANY:  # too many to put in order for the sake of a few
        drawn = torch.randint(len(rows), (8 * SPREAD_GROUP,), generator=rng)
        return rows[list(dict.fromkeys(drawn.tolist()))[:SPREAD_GROUP]]
    rounds = -(-SPREAD_GROUP // len(rows))
    order = torch.cat([torch.randperm(len(rows), generator=rng) for _ in range(rounds)])
    return rows[order[:SPREAD_GROUP]]


def train_step(
    state: TrainingState, data: TrainingData, settings: FitSettings, conditioning: float, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Both updates, on the same generated images, the average's and the controller's; returns what to log, as tensors on
    the device."""
    autocast = torch.autocast(data.images.device.type, dtype, enabled=dtype != torch.float32)
    set_rates(state, settings.learning_rate)
    real, noise, labels = draw_batch(state, data, settings)
    logged: dict[str, Tensor] = {}
    with autocast:  # one context for each update: it keeps the weights that it has cast
        fake = state.generator(noise, labels, noise.new_full((), conditioning))  # a compiled one is of one number
    if not skips_discriminator(state.balance, state.step, settings.penalty_interval):
        with autocast:
            logged |= discriminator_step(state, real, fake.detach(), labels, conditioning, settings)
        if state.balance.observe(logged["separation"], logged["variety"]):
            with torch.no_grad(), autocast:
                memorized = memorization(state, data, conditioning, settings)
            decide(state.balance, memorized, settings.augment_target, settings.augment_limits)
    with autocast:
        logged |= generator_step(state, real, fake, noise, labels, conditioning, settings)
    state.step += 1
    state.attempts += 1
    update_average(state.average, state.generator, 0.5 ** (1 / max(1.0, settings.ema_half_life * state.step)))
    return logged


def set_rates(state: TrainingState, learning_rate: float) -> None:
    """The generator's rate, and the discriminator's as far as the balance slows it down or speeds it up."""
    for optimizer, pace in ((state.generator_optimizer, 1.0), (state.discriminator_optimizer, state.balance.pace)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * state.caution * pace


def draw_batch(state: TrainingState, data: TrainingData, settings: FitSettings) -> tuple[Tensor, Tensor, Tensor]:
    """This process's part of real images (N, C, H, W), noise (N, latent_size) and the labels (N,) that real and generated images
    share."""
    classes = draw_labels(data, state.batch_size, state.rng)
    part, device = state.part, data.images.device
    labels = part.of(torch.tensor(data.labels)[classes]).to(device, non_blocking=True)
    noise = part.of(torch.randn(len(classes), state.generator.latent_size, generator=state.rng))
    return draw_real(data, classes, settings, state.rng, part), noise.to(device, non_blocking=True), labels


def see(state: TrainingState, images: Tensor, labels: Tensor, settings: FitSettings, grouped: bool = True) -> Verdicts:
    """What the discriminator says of images, augmented as they are now. Those that are not `grouped` are the same in all processes."""
    part = state.part if grouped else ALONE
    augmented = augment(images, settings.augment, state.balance.strength, state.rng, part)
    return judge(state.discriminator, torch.is_grad_enabled())(augmented, labels, grouped)


def judge(discriminator: Discriminator, once: bool) -> Callable[..., Verdicts]:
    """The discriminator, compiled where it is; as it was written where its gradient is to be differentiated again, which compiled
    code cannot, or where there is none, which is too rare to be compiled for."""
    return discriminator if once else discriminator.forward


@contextmanager
def frozen(network: torch.nn.Module) -> Iterator[None]:
    """Without gradients for its weights, which compiled code computes whether they are asked for or not."""
    learning = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in learning:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in learning:
            weight.requires_grad_(True)


def memorization(state: TrainingState, data: TrainingData, conditioning: float, settings: FitSettings) -> Tensor | None:
    """P(D(trained on) > D(held out)) for images of the same classes; None where none is held out."""
    if data.held_out is None:
        return None
    images, labels = data.held_out
    rows = torch.randint(len(labels), (NUM_HELD_OUT,), generator=state.rng)
    classes = [data.labels.index(label) for label in labels[rows].tolist()]
    own = torch.stack([draw_group(data.class_rows[c], state.rng)[0] for c in classes])
    seen = to_float(torch.cat([take(data.images, own), take(images, rows)]))
    asked = labels[rows].to(images.device, non_blocking=True).repeat(2)
    logits = whole_logits(see(state, seen, asked, settings, grouped=False), conditioning)
    return separation(logits[:NUM_HELD_OUT], logits[NUM_HELD_OUT:])


def discriminator_step(
    state: TrainingState, real: Tensor, fake: Tensor, labels: Tensor, conditioning: float, settings: FitSettings
) -> dict[str, Tensor]:
    """min_D L_uncond + conditioning L_cond + classifier_weight CE(real) + penalties (the gradients' lazily, weighted by their
    interval)."""
    strength = state.balance.strength
    seen_real = augment(
        real, settings.augment, strength, state.rng, state.part
    ).detach()  # not the batch itself, which others use
    seen_fake = augment(fake, settings.augment, strength, state.rng, state.part).detach()
    penalize = state.step % settings.penalty_interval == 0
    seen_real.requires_grad_(penalize and settings.r1_weight > 0)
    seen_fake.requires_grad_(penalize and settings.r2_weight > 0)
    ask = judge(state.discriminator, once=not (seen_real.requires_grad or seen_fake.requires_grad))
    on_real, on_fake = ask(seen_real, labels), ask(seen_fake, labels)
    adversarial = LOSSES[settings.loss].discriminator
    loss = adversarial(on_real.unconditional, on_fake.unconditional)
    loss = loss + conditioning * adversarial(on_real.conditional, on_fake.conditional)
    class_loss = F.cross_entropy(on_real.classes, labels)
    total = loss + settings.classifier_weight * class_loss
    real_logits, fake_logits = whole_logits(on_real, conditioning), whole_logits(on_fake, conditioning)
    for weight, logits, images in (
        (settings.r1_weight, real_logits, seen_real),
        (settings.r2_weight, fake_logits, seen_fake),
    ):
        if images.requires_grad:
            gamma = weight * gamma_scale(images.shape[-1])
            total = total + gamma / 2 * settings.penalty_interval * gradient_penalty(logits, images)
    if settings.lecam_weight > 0:
        total = total + settings.lecam_weight * lecam(real_logits, fake_logits, *state.anchors)
    if settings.consistency_weight > 0:
        for logits, images in ((real_logits, real), (fake_logits, fake)):
            again = whole_logits(see(state, images, labels, settings), conditioning)
            total = total + settings.consistency_weight * consistency(logits, again)
    state.discriminator_optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    gradients = [weight.grad for weight in state.discriminator.parameters() if weight.grad is not None]
    logged = {
        "loss_d": loss.detach(),
        "class_loss": class_loss.detach(),
        "class_accuracy": (on_real.classes.detach().argmax(1) == labels).float().mean(),
    }
    anchors = torch.stack([real_logits.detach().mean(), fake_logits.detach().mean()])
    state.part.average([*gradients, *logged.values(), anchors])
    state.discriminator_optimizer.step()
    if settings.lecam_weight > 0:
        state.anchors.lerp_(anchors, ANCHOR_RATE)
    seen = [on_real.unconditional, on_fake.unconditional, on_real.spread[:, 0], on_fake.spread[:, 0], labels.float()]
    on_reals, on_fakes, of_reals, of_fakes, classes = state.part.whole(torch.stack(seen).detach())
    groups = slice(None, None, SPREAD_GROUP)
    track_spreads(state.spreads, of_reals[groups], of_fakes[groups], classes[groups].long())
    state.discriminator.spread.lerp_(of_reals.mean(), 0.05 if state.step else 1.0)
    return logged | {
        "separation": separation(on_reals, on_fakes),
        "variety": of_fakes.mean() / of_reals.mean().clamp_min(1e-6),
    }


def gamma_scale(image_size: int) -> float:
    """How much stronger the gradient penalties of larger images are than those of 32 px: there are more pixels to share the
    gradient, and wider surroundings to be sure of. The exponent is that between gammas known to work, .05 at 32, .5 at 64 and
    2 at 128 px (after Huang et al., 2024, https://arxiv.org/abs/2501.05441)."""
    return float(max(1.0, image_size / 32) ** GAMMA_EXPONENT)


def whole_logits(verdicts: Verdicts, conditioning: float) -> Tensor:
    """(N,): the logit whose gradient the generator follows, as far as conditioning is ramped in."""
    return verdicts.unconditional + conditioning * verdicts.conditional


def separation(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """P(D(x) > D(G(z))) over all pairs of a batch: .5 when the discriminator cannot tell, 1 when it always can."""
    return (real_logits[:, None] > fake_logits[None, :]).float().mean()


def generator_step(
    state: TrainingState,
    real: Tensor,
    fake: Tensor,
    noise: Tensor,
    labels: Tensor,
    conditioning: float,
    settings: FitSettings,
) -> dict[str, Tensor]:
    """min_G L_uncond + conditioning (L_cond + classifier_weight CE(fake)) + diversity_weight MS, and the reconstruction in the mixing
    family. The cross-entropy is that of an auxiliary classifier, Odena et al. (2017), https://arxiv.org/abs/1610.09585;
    deviation: it learns from real images alone. It draws classes that overlap apart (Gong et al., 2019,
    https://arxiv.org/abs/1907.02690), which is why its weight is small.

    `fake` (N, C, H, W) is the generator's output for `noise`, with its graph; `real` pairs with it.
    """
    with frozen(state.discriminator):
        on_fake = see(state, fake, labels, settings)
    adversarial, pairs = LOSSES[settings.loss].generator, LOSSES[settings.loss].pairs
    with torch.no_grad():
        on_real = see(state, real, labels, settings) if pairs else on_fake
    loss = adversarial(on_real.unconditional, on_fake.unconditional)
    loss = loss + conditioning * adversarial(on_real.conditional, on_fake.conditional)
    if isinstance(state.generator, MixingGenerator):
        few = slice(None, -(-len(real) // RECONSTRUCTED))
        again = state.generator.reconstruct(real[few], noise[few], labels[few], conditioning)
        loss = loss + settings.reconstruction_weight * reconstruction(again, real[few])
    pushes = variety_weights(state.spreads)
    diversity = (pushes[labels[0::2]] * mode_seeking(fake, noise)).mean()
    weights = list(state.generator.parameters())
    class_loss = F.cross_entropy(on_fake.classes, labels)
    wanted = loss + conditioning * settings.classifier_weight * class_loss + settings.diversity_weight * diversity
    gradients = torch.autograd.grad(wanted, weights)  # none for the discriminator
    logged = {
        "loss_g": loss.detach(),
        "class_loss_g": class_loss.detach(),
        "mode_seeking": diversity.detach(),
    }
    state.part.average([*gradients, *logged.values()])
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    state.generator_optimizer.step()
    return logged | {"variety_weight": pushes.mean()}


@torch.no_grad()
def update_average(average: torch.nn.Module, current: torch.nn.Module, decay: float) -> None:
    """average <- decay average + (1 - decay) current, for weights and running statistics alike."""
    averages = [value for value in average.state_dict().values() if value.is_floating_point()]
    currents = [value for value in current.state_dict().values() if value.is_floating_point()]
    torch._foreach_lerp_(averages, currents, 1 - decay)
