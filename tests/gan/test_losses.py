"""Losses and penalties against numpy, hand-computed values and analytic gradients; one contract for every pair of losses."""

import math

import numpy as np
import pytest
import torch

from ganaug.gan.losses import (
    LOSSES,
    consistency,
    gradient_penalty,
    hinge_discriminator,
    hinge_generator,
    lecam,
    mode_seeking,
    non_saturating_discriminator,
    non_saturating_generator,
    relativistic_discriminator,
    relativistic_generator,
)
from ganaug.settings import FitSettings


def softplus(x):
    return np.log1p(np.exp(x))


EXPECTED = {
    non_saturating_discriminator: lambda real, fake: softplus(-real).mean() + softplus(fake).mean(),
    non_saturating_generator: lambda real, fake: softplus(-fake).mean(),
    hinge_discriminator: lambda real, fake: np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean(),
    hinge_generator: lambda real, fake: -fake.mean(),
    relativistic_discriminator: lambda real, fake: softplus(-(real - fake)).mean(),
    relativistic_generator: lambda real, fake: softplus(-(fake - real)).mean(),
}


def draw_logits(seed=0, scale=3.0):
    return np.random.default_rng(seed).normal(size=(2, 9)) * scale


@pytest.mark.parametrize("loss", EXPECTED, ids=lambda loss: loss.__name__)
def test_losses_against_numpy(loss):
    real, fake = draw_logits()
    found = loss(torch.from_numpy(real), torch.from_numpy(fake))
    assert float(found) == pytest.approx(EXPECTED[loss](real, fake), rel=1e-6)


def test_undecided_logits_cost_ln_2_for_each_softplus():
    zero = torch.zeros(6)
    assert float(non_saturating_discriminator(zero, zero)) == pytest.approx(2 * math.log(2))
    assert float(non_saturating_generator(zero, zero)) == pytest.approx(math.log(2))
    assert float(relativistic_discriminator(zero, zero)) == pytest.approx(math.log(2))
    assert float(relativistic_generator(zero, zero)) == pytest.approx(math.log(2))


def test_hinge_by_hand_and_no_reward_beyond_the_margin():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 0.5])
    assert float(hinge_discriminator(real, fake)) == pytest.approx((0 + 0.5) / 2 + (0 + 1.5) / 2)
    assert float(hinge_generator(real, fake)) == pytest.approx(0.75)
    sure = torch.tensor([1.5, 7.0], requires_grad=True)
    hinge_discriminator(sure, -sure.detach()).backward()
    assert not sure.grad.any()


def test_relativistic_losses_see_nothing_but_the_difference_within_a_pair():
    real, fake = torch.from_numpy(draw_logits())
    shift = torch.linspace(-5, 5, 9)
    for loss in LOSSES["relativistic"][:2]:
        assert float(loss(real + shift, fake + shift)) == pytest.approx(float(loss(real, fake)))
        assert float(loss(real, fake.roll(1))) != pytest.approx(float(loss(real, fake)))  # other pairs


def test_the_table_holds_every_loss_and_the_settings_accept_each():
    assert {loss for pair in LOSSES.values() for loss in (pair.discriminator, pair.generator)} == set(EXPECTED)
    assert [FitSettings(loss=name).loss for name in LOSSES] == list(LOSSES)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_finite_scalars_for_extreme_logits(name):
    extreme = torch.tensor([-1e4, 1e4])
    for loss in LOSSES[name][:2]:
        for fake in (extreme, -extreme):
            found = loss(extreme, fake)
            assert found.shape == () and abs(float(found)) <= 2.1e4


@pytest.mark.parametrize("name", LOSSES)
def test_the_players_pull_in_opposite_directions(name):
    """Within the margin of the hinge a step down raises D(x), lowers D(G(z)); the generator's raises every D(G(z))."""
    real, fake = torch.from_numpy(draw_logits(scale=0.3)).requires_grad_(True)
    assert max(real.abs().max(), fake.abs().max()) < 1
    on_real, on_fake = torch.autograd.grad(LOSSES[name].discriminator(real, fake), (real, fake))
    assert (on_real < 0).all() and (on_fake > 0).all()
    (on_fake,) = torch.autograd.grad(LOSSES[name].generator(real, fake), fake)
    assert (on_fake < 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_pairs_says_whether_the_generator_looks_at_real_logits(name):
    real, fake = torch.from_numpy(draw_logits())
    generator = LOSSES[name].generator
    assert (float(generator(real + 1, fake)) != float(generator(real, fake))) == LOSSES[name].pairs


@pytest.mark.parametrize("name", LOSSES)
def test_the_generator_still_has_a_gradient_where_the_discriminator_is_sure(name):
    real, fake = torch.tensor([20.0]), torch.tensor([-20.0], requires_grad=True)
    LOSSES[name].generator(real, fake).backward()
    assert float(fake.grad) == pytest.approx(-1.0)


def test_the_penalty_against_the_gradient_of_a_quadratic_discriminator():
    """D(x) = w . x + a / 2 |x|^2 has the gradient w + a x, so R1 = mean |w + a x|^2, and dR1/dw = 2 mean (w + a x)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(5, 3, 4, 4, generator=generator, dtype=torch.float64).requires_grad_(True)
    w = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64).requires_grad_(True)
    a = 0.7
    logits = (w * images).sum(dim=(1, 2, 3)) + a / 2 * images.square().sum(dim=(1, 2, 3))
    penalty = gradient_penalty(logits, images)
    gradient = (w + a * images).detach()
    assert float(penalty.detach()) == pytest.approx(float(gradient.square().sum() / 5), rel=1e-5)
    penalty.backward()
    torch.testing.assert_close(w.grad, 2 * gradient.mean(dim=0), rtol=1e-5, atol=1e-6)


def test_r1_and_r2_each_judge_the_slope_at_their_own_images():
    """D(x) = sum tanh x is steep, slope 1, at grey real images, and nearly flat at a generator's black and white ones."""
    real = torch.zeros(2, 1, 4, 4, requires_grad=True)
    fake = torch.tensor([3.0, -3.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4).clone().requires_grad_(True)
    r1, r2 = (gradient_penalty(images.tanh().sum(dim=(1, 2, 3)), images).item() for images in (real, fake))
    assert r1 == pytest.approx(16)
    assert r2 == pytest.approx(16 * (1 - math.tanh(3) ** 2) ** 2, rel=1e-4)


def test_lecam_against_numpy():
    real, fake = draw_logits()
    found = lecam(torch.from_numpy(real), torch.from_numpy(fake), torch.tensor(0.8), torch.tensor(-0.5))
    assert float(found) == pytest.approx(((real + 0.5) ** 2).mean() + ((fake - 0.8) ** 2).mean(), rel=1e-6)


def test_lecam_draws_each_kind_of_logits_towards_the_others_average():
    real_anchor, fake_anchor = torch.tensor(2.0), torch.tensor(-1.0)
    real, fake = torch.tensor([3.0, -1.0], requires_grad=True), torch.tensor([-4.0, 2.0], requires_grad=True)
    lecam(real, fake, real_anchor, fake_anchor).backward()
    assert real.grad.tolist() == pytest.approx([4.0, 0.0])  # 2 (D(x) - a_F) / 2
    assert fake.grad.tolist() == pytest.approx([-6.0, 0.0])


def test_consistency_is_the_mean_squared_change_and_0_without_any():
    logits, augmented = draw_logits()
    found = consistency(torch.from_numpy(logits), torch.from_numpy(augmented))
    assert float(found) == pytest.approx(((logits - augmented) ** 2).mean(), rel=1e-6)
    assert float(consistency(torch.from_numpy(logits), torch.from_numpy(logits))) == 0


@pytest.mark.parametrize(("side", "window"), [(16, 2), (32, 4)])
def test_mode_seeking_against_numpy(side, window):
    rng = np.random.default_rng(1)
    images = rng.uniform(-1, 1, (6, 3, side, side))
    noise = rng.normal(size=(6, 4))
    small = images.reshape(6, 3, side // window, window, side // window, window).mean(axis=(3, 5)).reshape(6, -1)
    shape = (small - small.mean(1, keepdims=True)) / (small.std(1, keepdims=True) + 0.05)
    expected = []
    for first, second in ((0, 1), (2, 3), (4, 5)):
        ratio = np.abs(shape[first] - shape[second]).mean() / np.abs(noise[first] - noise[second]).mean()
        expected.append(1 / (ratio + 0.05))
    found = mode_seeking(torch.from_numpy(images), torch.from_numpy(noise))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_mode_seeking_is_not_satisfied_by_brightness_or_by_checkerboards():
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 1, 16, 16, generator=generator)
    noise = torch.randn(2, 4, generator=generator)
    checkers = 0.3 * (-1.0) ** (torch.arange(16)[:, None] + torch.arange(16))[None, None]
    same = float(mode_seeking(torch.cat([picture, picture]), noise))
    assert same == pytest.approx(20.0)  # 1 / 0.05: no distance at all
    assert float(mode_seeking(torch.cat([picture, picture + 0.4]), noise)) == pytest.approx(same, rel=1e-3)
    assert float(mode_seeking(torch.cat([picture, picture + checkers]), noise)) == pytest.approx(same, rel=1e-3)
    other = torch.rand(1, 1, 16, 16, generator=generator)
    assert float(mode_seeking(torch.cat([picture, other]), noise)) < 5
