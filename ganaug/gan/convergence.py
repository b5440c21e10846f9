"""How far the two players are from an equilibrium: the duality gap of Grnarova et al. (2019), https://arxiv.org/abs/1811.05512"""

import copy
from collections.abc import Callable
from dataclasses import replace

import torch

from ..settings import FitSettings
from .losses import LOSSES
from .steps import TrainingData, TrainingState, discriminator_step, draw_batch, generator_step, see

CONDITIONING = 1.0  # the gap is that of the whole, conditional game
NUM_JUDGED = 4  # batches that a value of the game is averaged over
RIVAL_STEPS = 10  # that each player is given to find a better answer to the other

Rival = Callable[[TrainingState, TrainingData, FitSettings], None]


def duality_gap(state: TrainingState, data: TrainingData, settings: FitSettings, dtype: torch.dtype) -> float:
    """max_D' M(G, D') - min_G' M(G', D), with M minus the discriminator's adversarial loss; 0 at a Nash equilibrium.

    Eq. 3 of the paper. A rival starts from a player's own weights and takes RIVAL_STEPS steps, so that the gap is a lower
    bound; the player itself is a candidate, too, so that it is never negative. All are judged on batches that no rival
    trained on. The training is left as it was: copies play, with random numbers of their own.
    """
    now, after_discriminator, after_generator = (
        loss_after(rival, state, data, settings, dtype) for rival in (None, train_discriminator, train_generator)
    )
    return max(now, after_generator) - min(now, after_discriminator)


def loss_after(
    rival: Rival | None, state: TrainingState, data: TrainingData, settings: FitSettings, dtype: torch.dtype
) -> float:
    """The discriminator's adversarial loss, once one of the players has been trained against the other."""
    play = rivals(state)
    autocast = torch.autocast(data.images.device.type, dtype, enabled=dtype != torch.float32)
    for _ in range(RIVAL_STEPS if rival else 0):
        with autocast:
            rival(play, data, settings)  # type: ignore[misc]
        play.step += 1
    play.rng.manual_seed(state.step + 1)
    with torch.no_grad(), autocast:
        return sum(adversarial_loss(play, data, settings) for _ in range(NUM_JUDGED)) / NUM_JUDGED


def train_discriminator(play: TrainingState, data: TrainingData, settings: FitSettings) -> None:
    real, noise, labels = draw_batch(play, data, settings)
    with torch.no_grad():
        fake = play.generator(noise, labels, CONDITIONING)
    discriminator_step(play, real, fake, labels, CONDITIONING, settings)


def train_generator(play: TrainingState, data: TrainingData, settings: FitSettings) -> None:
    real, noise, labels = draw_batch(play, data, settings)
    fake = play.generator(noise, labels, CONDITIONING)
    generator_step(play, real, fake, noise, labels, CONDITIONING, settings)


def rivals(state: TrainingState) -> TrainingState:
    """A copy of the two players and their optimizers, with random numbers of its own."""
    rng = state.rng
    state.rng = torch.Generator()  # random number generators cannot be copied
    play = copy.deepcopy(state)
    state.rng = rng
    return replace(play, rng=torch.Generator().manual_seed(state.step))


def adversarial_loss(state: TrainingState, data: TrainingData, settings: FitSettings) -> float:
    """The discriminator's adversarial loss on one batch."""
    real, noise, labels = draw_batch(state, data, settings)
    on_real = see(state, real, labels, settings)
    on_fake = see(state, state.generator(noise, labels, CONDITIONING), labels, settings)
    loss = LOSSES[settings.loss].discriminator
    unconditional = loss(on_real.unconditional, on_fake.unconditional)
    whole = unconditional + CONDITIONING * loss(on_real.conditional, on_fake.conditional)
    return float(state.part.mean(whole))
