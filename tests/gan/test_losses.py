"""Losses against numpy, hand-computed values and an analytic gradient."""

import math

import numpy as np
import pytest
import torch

from ganaug.gan.losses import mode_seeking, non_saturating_discriminator, non_saturating_generator, r1_penalty


def softplus(x):
    return np.log1p(np.exp(x))


def test_undecided_logits_cost_ln_2_for_each_term():
    zero = torch.zeros(6)
    assert float(non_saturating_discriminator(zero, zero)) == pytest.approx(2 * math.log(2))
    assert float(non_saturating_generator(zero)) == pytest.approx(math.log(2))


def test_non_saturating_losses_against_numpy():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=9).astype(np.float32) * 3, rng.normal(size=9).astype(np.float32) * 3
    on_real, on_fake = torch.from_numpy(real), torch.from_numpy(fake)
    expected = softplus(-real).mean() + softplus(fake).mean()
    assert float(non_saturating_discriminator(on_real, on_fake)) == pytest.approx(expected, rel=1e-5)
    assert float(non_saturating_generator(on_fake)) == pytest.approx(softplus(-fake).mean(), rel=1e-5)


def test_losses_stay_finite_for_extreme_logits():
    extreme = torch.tensor([-1e4, 1e4])
    assert float(non_saturating_discriminator(extreme, extreme)) == pytest.approx(1e4)
    assert float(non_saturating_generator(extreme)) == pytest.approx(5e3)


def test_the_generator_still_has_a_gradient_where_the_discriminator_is_sure():
    logits = torch.tensor([-20.0], requires_grad=True)
    non_saturating_generator(logits).backward()
    assert float(logits.grad) == pytest.approx(-1.0)


def test_r1_against_the_gradient_of_a_quadratic_discriminator():
    """D(x) = w . x + a / 2 |x|^2 has the gradient w + a x, so R1 = mean |w + a x|^2, and dR1/dw = 2 mean (w + a x)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(5, 3, 4, 4, generator=generator, dtype=torch.float64).requires_grad_(True)
    w = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64).requires_grad_(True)
    a = 0.7
    logits = (w * images).sum(dim=(1, 2, 3)) + a / 2 * images.square().sum(dim=(1, 2, 3))
    penalty = r1_penalty(logits, images)
    gradient = (w + a * images).detach()
    assert float(penalty.detach()) == pytest.approx(float(gradient.square().sum() / 5), rel=1e-5)
    penalty.backward()
    torch.testing.assert_close(w.grad, 2 * gradient.mean(dim=0), rtol=1e-5, atol=1e-6)


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
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)


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
