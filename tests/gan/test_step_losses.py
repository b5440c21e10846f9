"""What each player descends: the gradients of its step against those of the formula, written out."""

import copy

import pytest
import torch
from game import PLAIN, make_data, make_state, seeded, with_changes

from ganaug.gan import steps
from ganaug.gan.losses import LOSSES, mode_seeking
from ganaug.gan.mixing import reconstruction
from ganaug.gan.steps import ANCHOR_RATE, discriminator_step, draw_real, generator_step


def softplus(x):
    return (1 + x.exp()).log()


ADVERSARIAL = {  # (discriminator's, generator's), written out
    "non-saturating": (
        lambda real, fake: softplus(-real).mean() + softplus(fake).mean(),
        lambda real, fake: softplus(-fake).mean(),
    ),
    "hinge": (
        lambda real, fake: (1 - real).clamp_min(0).mean() + (1 + fake).clamp_min(0).mean(),
        lambda real, fake: -fake.mean(),
    ),
    "relativistic": (lambda real, fake: softplus(fake - real).mean(), lambda real, fake: softplus(real - fake).mean()),
}


def squared_slope(verdicts, conditioning, images):
    logits = (verdicts.unconditional + conditioning * verdicts.conditional).sum()
    (slope,) = torch.autograd.grad(logits, images, create_graph=True)
    return slope.flatten(1).norm(dim=1).square().mean()


def assert_gradients(network, expected):
    for (name, weight), other in zip(network.named_parameters(), expected.parameters(), strict=True):
        wanted = torch.zeros_like(other) if other.grad is None else other.grad
        torch.testing.assert_close(
            weight.grad, wanted, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("conditioning", "step"), [(0.0, 1), (0.6, 1), (1.0, 0), (0.6, 8)])
def test_the_discriminator_descends_the_sum_of_its_losses(monkeypatch, loss, conditioning, step):
    """The gradients against those of the formula: adversarial terms, cross-entropy, LeCam, consistency, at 0, 8, ... R1 and R2.

    What is seen a second time, for the consistency, is half as bright.
    """
    weights = {
        "r1_weight": 0.5,
        "r2_weight": 0.3,
        "lecam_weight": 0.2,
        "consistency_weight": 0.7,
        "classifier_weight": 0.4,
    }
    settings = with_changes(loss=loss, penalty_interval=8, **weights)
    state = make_state(settings)
    state.step, state.anchors = step, torch.tensor([0.4, -0.1])
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    real, noise = draw_real(make_data(), labels, PLAIN, seeded()), torch.randn(8, 4, generator=seeded())
    generator, discriminator = copy.deepcopy((state.generator, state.discriminator))
    fake = generator(noise, labels, conditioning).detach().requires_grad_(True)
    x = real.clone().requires_grad_(True)
    on_real, on_fake = discriminator(x, labels), discriminator(fake, labels)
    adversarial = ADVERSARIAL[loss][0]
    total = adversarial(on_real.unconditional, on_fake.unconditional)
    total = total + conditioning * adversarial(on_real.conditional, on_fake.conditional)
    total = total - 0.4 * on_real.classes.log_softmax(dim=1)[torch.arange(8), labels].mean()
    for images, verdicts, weight, anchor in ((x, on_real, 0.5, -0.1), (fake, on_fake, 0.3, 0.4)):
        again = discriminator(images / 2, labels)
        whole, changed = (each.unconditional + conditioning * each.conditional for each in (verdicts, again))
        total = total + 0.2 * (whole - anchor).square().mean() + 0.7 * (whole - changed).square().mean()
        if step % 8 == 0:
            total = total + weight / 2 * 8 * squared_slope(verdicts, conditioning, images)
    total.backward()
    brightness = iter((1, 1, 0.5, 0.5))
    monkeypatch.setattr(steps, "augment", lambda images, *_: images * next(brightness))
    discriminator_step(state, real, fake.detach(), labels, conditioning, settings)
    assert_gradients(state.discriminator, discriminator)
    means = torch.stack([(v.unconditional + conditioning * v.conditional).mean() for v in (on_real, on_fake)]).detach()
    torch.testing.assert_close(state.anchors, (1 - ANCHOR_RATE) * torch.tensor([0.4, -0.1]) + ANCHOR_RATE * means)


@pytest.mark.parametrize("family", ["noise", "mixing"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("conditioning", [0.0, 0.6])
def test_the_generator_descends_the_sum_of_its_losses(family, loss, conditioning):
    weights = {"diversity_weight": 0.7, "reconstruction_weight": 3.0, "classifier_weight": 0.4}
    settings = with_changes(family=family, loss=loss, **weights)
    state = make_state(settings)
    state.balance.strength, state.spreads = 0.0, torch.tensor([[1.0, 1.0], [0.97, 0.5]])  # class 0: a fifth of the push
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    real, noise = (
        draw_real(make_data(), labels, PLAIN, seeded()),
        torch.randn(8, state.generator.latent_size, generator=seeded()),
    )
    generator, discriminator = copy.deepcopy((state.generator, state.discriminator))
    images = generator(noise, labels, conditioning)
    on_real, on_fake = discriminator(real, labels), discriminator(images, labels)
    adversarial = ADVERSARIAL[loss][1]
    total = adversarial(on_real.unconditional, on_fake.unconditional)
    total = total + conditioning * adversarial(on_real.conditional, on_fake.conditional)
    total = total - conditioning * 0.4 * on_fake.classes.log_softmax(dim=1)[torch.arange(8), labels].mean()
    total = total + 0.7 * (torch.tensor([0.2, 0.2, 1, 1]) * mode_seeking(images, noise)).mean()
    if family == "mixing":
        few = slice(0, 2)  # of 8
        again = generator.reconstruct(real[few], noise[few], labels[few], conditioning)
        total = total + 3.0 * reconstruction(again, real[few])
    total.backward()
    generator_step(state, real, state.generator(noise, labels, conditioning), noise, labels, conditioning, settings)
    assert_gradients(state.generator, generator)
