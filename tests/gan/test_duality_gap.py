"""The duality gap: nothing at an equilibrium, something away from it, and no trace in the training that it measures."""

import copy
import math

import pytest
import torch
from game import make_state, seeded, with_changes
from torch import nn

from ganaug.gan.checkpoints import capture
from ganaug.gan.convergence import RIVAL_STEPS, adversarial_loss, duality_gap, rivals
from ganaug.gan.losses import LOSSES
from ganaug.gan.steps import TrainingData, train_step


def draw_data(num_images=4):
    """Two classes of random images of 16 x 16 pixels."""
    images = torch.randint(256, (2 * num_images, 1, 16, 16), generator=seeded())
    return TrainingData(images.to(torch.uint8), torch.arange(2 * num_images).chunk(2), (0, 1), "none")


class Pictures(nn.Module):
    """A generator of one picture for each class, whatever the noise."""

    latent_size = 4

    def __init__(self, pictures):
        super().__init__()
        self.pictures = nn.Parameter(pictures)

    def forward(self, noise, labels, conditioning=1.0):
        return self.pictures[labels]


def make_game(settings):
    """At its equilibrium: one real picture for each class, a generator that shows them, a discriminator that says 0."""
    data = draw_data(num_images=1)
    state = make_state(settings, data=data)
    state.generator = Pictures(data.images.float() / 127.5 - 1)
    state.generator_optimizer = torch.optim.Adam(
        state.generator.parameters(), lr=settings.learning_rate, betas=(0.0, 0.9)
    )
    state.balance.strength = 0.0
    with torch.no_grad():
        for part in ("unconditional", "conditional", "projection"):
            for weight in getattr(state.discriminator, part).parameters():
                weight.zero_()
    return state, data


def leaves(value):
    """All numbers of nested dicts, lists and tensors, copied."""
    if isinstance(value, dict):
        return [leaf for key in value for leaf in (key, *leaves(value[key]))]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [(value.dtype, value.tolist())] if isinstance(value, torch.Tensor) else [value]


def game_of(loss, **changes):
    """Nothing but the adversarial losses and R1, on the images as they are."""
    return with_changes(loss=loss, diversity_weight=0.0, classifier_weight=0.0, augment=(), **changes)


@pytest.mark.parametrize("loss", LOSSES)
def test_an_equilibrium_has_no_gap(loss):
    """Neither player can do better."""
    settings = game_of(loss)
    state, data = make_game(settings)
    undecided = {"non-saturating": 4 * math.log(2), "hinge": 4.0, "relativistic": 2 * math.log(2)}[loss]
    with torch.no_grad():
        assert adversarial_loss(copy.copy(state), data, settings) == pytest.approx(undecided, rel=1e-5)
    assert duality_gap(state, data, settings, torch.float32) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_further_the_pictures_are_from_the_real_ones_the_wider_the_gap(loss):
    settings = game_of(loss, learning_rate=1e-3)
    gaps = []
    for paleness in (0.0, 0.4, 2.0):  # 2 makes negatives
        state, data = make_game(settings)
        with torch.no_grad():
            state.generator.pictures.mul_(1 - paleness)
        gaps.append(duality_gap(state, data, settings, torch.float32))
    assert gaps[0] < 0.01 and gaps[1] > 0.05 and gaps[2] > 1


@pytest.mark.parametrize("family", ["noise", "mixing"])
def test_measuring_changes_nothing_and_repeats(family):
    """Not a bit of the weights, optimizers, random numbers, controller and counters; the next steps are the same, too."""
    settings, data = with_changes(family=family, lecam_weight=0.1), draw_data()
    measured, unmeasured = (make_state(settings, data=data) for _ in range(2))
    for state in (measured, unmeasured):
        for _ in range(3):
            train_step(state, data, settings, 1.0, torch.float32)
    before, random_state = leaves(capture(measured)), torch.random.get_rng_state()
    gaps = [duality_gap(measured, data, settings, torch.float32) for _ in range(2)]
    assert leaves(capture(measured)) == before
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert gaps[0] == gaps[1] >= 0 and math.isfinite(gaps[0])
    for state in (measured, unmeasured):
        train_step(state, data, settings, 1.0, torch.float32)
    assert leaves(capture(measured)) == leaves(capture(unmeasured))


def test_the_rivals_optimizers_train_the_rivals():
    settings, data = with_changes(), draw_data()
    state = make_state(settings, data=data)
    train_step(state, data, settings, 1.0, torch.float32)
    play = rivals(state)
    for optimizer, network in (
        (play.generator_optimizer, play.generator),
        (play.discriminator_optimizer, play.discriminator),
    ):
        held = [weight for group in optimizer.param_groups for weight in group["params"]]
        assert [id(weight) for weight in held] == [id(weight) for weight in network.parameters()]
        assert set(optimizer.state) == set(held)  # with what Adam knows of them
    assert play.rng is not state.rng and play.balance is not state.balance and RIVAL_STEPS > 0
