"""The parts of a training step, the controller of the augmentation, and the averaged generator."""

import copy
import doctest

import pytest
import torch

import ganaug.gan.balance
from ganaug.gan import steps
from ganaug.gan.balance import RATE, WINDOW, Balance, adapt
from ganaug.gan.losses import mode_seeking
from ganaug.gan.member import build_state
from ganaug.gan.networks import SPREAD_GROUP
from ganaug.gan.steps import (
    TrainingData,
    conditioning_at,
    discriminator_step,
    draw_group,
    draw_labels,
    draw_real,
    generator_step,
    separation,
    train_step,
    update_average,
)
from ganaug.gan.strategies import joint, specialised
from ganaug.settings import FitSettings

SETTINGS = FitSettings(width=4, latent_size=4, batch_size=8, precision="fp32")


def make_data(mirror="none"):
    """Two classes of 3 and 5 images of 16 x 16 pixels; row k has brightness 20 k on its left half, 0 on the right."""
    images = torch.zeros(8, 1, 16, 16, dtype=torch.uint8)
    images[:, :, :, :8] = (20 * torch.arange(8, dtype=torch.uint8)).view(8, 1, 1, 1)
    return TrainingData(images, (torch.arange(3), torch.arange(3, 8)), (0, 1), mirror)


def make_state(settings=SETTINGS, member=None):
    shape = {"num_classes": 2, "image_size": 16, "channels": 1, "latent_size": 4, "width": 4}
    return build_state(shape, settings, member or joint(2)[0], torch.device("cpu"))


def snapshot(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def changed(network, before):
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_conditioning_ramps_in_between_the_two_shares():
    shares = [conditioning_at(progress, (0.3, 0.5)) for progress in (0.0, 0.3, 0.35, 0.4, 0.5, 1.0)]
    assert shares == pytest.approx([0, 0, 0.25, 0.5, 1, 1])
    assert conditioning_at(0.29, (0.3, 0.3)) == 0 and conditioning_at(0.31, (0.3, 0.3)) == 1


def test_separation_counts_pairs():
    assert float(separation(torch.tensor([2.0, 0.0]), torch.tensor([1.0, -1.0]))) == 0.75
    assert float(separation(torch.tensor([5.0]), torch.tensor([1.0, 2.0]))) == 1
    assert float(separation(torch.zeros(4), torch.zeros(4))) == 0


def test_labels_come_in_groups_and_all_classes_come():
    labels = draw_labels(make_data(), 400, seeded())
    assert len(labels) == 400
    assert (labels.view(-1, SPREAD_GROUP) == labels.view(-1, SPREAD_GROUP)[:, :1]).all()
    assert torch.bincount(labels, minlength=2).min() > 120  # uniform over classes of unequal size
    assert len(draw_labels(make_data(), 6, seeded())) == 8  # whole groups


def test_real_images_are_of_the_class_asked_for_and_all_are_used():
    data = make_data()
    classes = torch.tensor([0, 1]).repeat(50).repeat_interleave(SPREAD_GROUP)
    images = draw_real(data, classes, seeded())
    assert images.min() >= -1 and images.max() <= 1
    rows = ((images[:, 0, 0, 0] + 1) * 127.5 / 20).round().long()
    assert set(rows[classes == 0].tolist()) == {0, 1, 2}
    assert set(rows[classes == 1].tolist()) == {3, 4, 5, 6, 7}


@pytest.mark.parametrize(("num_rows", "distinct"), [(1, 1), (3, 3), (4, 4), (9, 4)])
def test_a_group_repeats_an_image_only_where_it_must(num_rows, distinct):
    """The discriminator sees how much the images of a group differ, so copies of one would look like a collapse."""
    rows = torch.arange(100, 100 + num_rows)
    groups = torch.stack([draw_group(rows, seeded(seed)) for seed in range(40)])
    assert groups.shape == (40, SPREAD_GROUP)
    assert {len(set(group)) for group in groups.tolist()} == {distinct}
    assert set(groups.flatten().tolist()) == set(rows.tolist())


@pytest.mark.parametrize(
    ("mirror", "horizontal", "vertical"),
    [("none", False, False), ("horizontal", True, False), ("vertical", False, True), ("both", True, True)],
)
def test_only_the_permitted_reflections(mirror, horizontal, vertical):
    corner = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    corner[0, 0, 0, 0] = 255
    data = TrainingData(corner, (torch.tensor([0]),), (0,), mirror)
    images = draw_real(data, torch.zeros(64, dtype=torch.long), seeded())
    corners = {tuple(index) for index in (images[:, 0] > 0).nonzero()[:, 1:].tolist()}
    expected = {(15 if v else 0, 15 if h else 0) for v in {False, vertical} for h in {False, horizontal}}
    assert corners == expected


def test_the_discriminators_step_trains_the_discriminator_alone():
    state, data = make_state(), make_data()
    generator = {name: value.clone() for name, value in state.generator.named_parameters()}
    before = snapshot(state.discriminator)
    labels = draw_labels(data, 8, state.rng)
    logged = discriminator_step(
        state, draw_real(data, labels, state.rng), torch.randn(8, 4, generator=state.rng), labels, 1.0, SETTINGS
    )
    assert changed(state.discriminator, before) == set(before)
    assert all(torch.equal(value, generator[name]) for name, value in state.generator.named_parameters())
    assert all(torch.isfinite(value) for value in logged.values())
    assert float(logged["loss_d"]) > 0 and 0 <= float(logged["separation"]) <= 1


def test_the_generators_step_trains_the_generator_alone():
    state = make_state()
    before, weights = snapshot(state.discriminator), snapshot(state.generator)
    labels = draw_labels(make_data(), 8, state.rng)
    generator_step(state, torch.randn(8, 4, generator=state.rng), labels, 1.0, SETTINGS)
    assert changed(state.discriminator, before) == set()
    assert all(weight.grad is None for weight in state.discriminator.parameters())
    trained = {name for name, _ in state.generator.named_parameters()}
    assert trained <= changed(state.generator, weights)


def test_without_conditioning_the_conditional_head_is_not_trained():
    state, data = make_state(), make_data()
    settings = SETTINGS.model_copy(update={"class_weight": 0.0})
    before = snapshot(state.discriminator)
    train_step(state, data, settings, 0.0, torch.float32)
    names = changed(state.discriminator, before)
    assert not any(name.startswith(("conditional", "projection", "classifier")) for name in names)
    assert any(name.startswith("unconditional") for name in names)


def softplus(x):
    return (1 + x.exp()).log()


@pytest.mark.parametrize(("conditioning", "step"), [(0.0, 1), (0.6, 1), (1.0, 0)])
def test_the_discriminator_descends_the_sum_of_its_losses(conditioning, step):
    """The gradients against those of the formula, written out: softplus terms, cross-entropy and, at step 0, R1."""
    settings = SETTINGS.model_copy(update={"class_weight": 0.4, "r1_weight": 0.5, "r1_interval": 8})
    state = make_state(settings)
    state.balance.strength, state.step = 0.0, step
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    real, noise = draw_real(make_data(), labels, seeded()), torch.randn(8, 4, generator=seeded())
    networks = copy.deepcopy((state.generator, state.discriminator))
    fake = networks[0](noise, labels, conditioning).detach()
    x = real.clone().requires_grad_(True)
    on_real, on_fake = networks[1](x, labels), networks[1](fake, labels)
    total = softplus(-on_real.unconditional).mean() + softplus(on_fake.unconditional).mean()
    total = total + conditioning * (softplus(-on_real.conditional).mean() + softplus(on_fake.conditional).mean())
    total = total - 0.4 * on_real.classes.log_softmax(dim=1)[torch.arange(8), labels].mean()
    if step == 0:
        logits = (on_real.unconditional + conditioning * on_real.conditional).sum()
        (slope,) = torch.autograd.grad(logits, x, create_graph=True)
        total = total + 0.5 / 2 * 8 * slope.flatten(1).norm(dim=1).square().mean()
    total.backward()
    discriminator_step(state, real, noise, labels, conditioning, settings)
    for (name, weight), expected in zip(state.discriminator.named_parameters(), networks[1].parameters(), strict=True):
        wanted = torch.zeros_like(expected) if expected.grad is None else expected.grad
        torch.testing.assert_close(
            weight.grad, wanted, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("conditioning", [0.0, 0.6])
def test_the_generator_descends_the_sum_of_its_losses(conditioning):
    settings = SETTINGS.model_copy(update={"diversity_weight": 0.7})
    state = make_state(settings)
    state.balance.strength = 0.0
    labels, noise = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), torch.randn(8, 4, generator=seeded())
    generator, discriminator = copy.deepcopy((state.generator, state.discriminator))
    images = generator(noise, labels, conditioning)
    verdicts = discriminator(images, labels)
    total = softplus(-verdicts.unconditional).mean() + conditioning * softplus(-verdicts.conditional).mean()
    (total + 0.7 * mode_seeking(images, noise)).backward()
    generator_step(state, noise, labels, conditioning, settings)
    for weight, expected in zip(state.generator.parameters(), generator.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, expected.grad, rtol=1e-3, atol=1e-5)


def test_the_average_has_its_half_life():
    """After s steps the decay is .5 ^ (1 / (share s)), at least one step long: the average lags, yet never stands still."""
    settings = SETTINGS.model_copy(update={"ema_half_life": 0.5})
    state, data = make_state(settings), make_data()
    for number in range(1, 6):
        before = state.average.first.weight.clone()
        train_step(state, data, settings, 1.0, torch.float32)
        decay = 0.5 ** (1 / max(1.0, 0.5 * number))
        expected = decay * before + (1 - decay) * state.generator.first.weight.detach()
        torch.testing.assert_close(state.average.first.weight, expected)


def test_r1_is_applied_at_its_interval(monkeypatch):
    calls = []
    monkeypatch.setattr(steps, "r1_penalty", lambda logits, images: calls.append(len(images)) or logits.sum() * 0)
    for interval, weight, expected in ((3, 0.05, 3), (1, 0.05, 7), (1, 0.0, 0)):
        calls.clear()
        state = make_state()
        settings = SETTINGS.model_copy(update={"r1_interval": interval, "r1_weight": weight})
        for _ in range(7):
            train_step(state, make_data(), settings, 1.0, torch.float32)
        assert len(calls) == expected
        assert state.step == 7


def test_the_average_follows_weights_and_running_statistics():
    state = make_state()
    average = copy.deepcopy(state.generator)
    with torch.no_grad():
        for value in state.generator.state_dict().values():
            if value.is_floating_point():
                value.add_(1.0)
    before = snapshot(average)
    update_average(average, state.generator, 0.9)
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, before[name] + 0.1)
    assert any("running_mean" in name for name in before)


def test_the_same_seed_builds_the_same_networks_and_each_member_its_own():
    first, second = make_state(), make_state()
    assert changed(first.generator, snapshot(second.generator)) == set()
    assert torch.equal(first.rng.get_state(), second.rng.get_state())
    other = make_state(SETTINGS.model_copy(update={"seed": 1}))
    assert not torch.equal(first.generator.first.weight, other.generator.first.weight)
    before = torch.random.get_rng_state()
    make_state()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_member_with_a_parent_freezes_all_but_the_last_convolution():
    state = make_state(member=specialised(2)[1])
    before = snapshot(state.discriminator)
    for _ in range(2):
        train_step(state, make_data(), SETTINGS, 1.0, torch.float32)
    frozen = {f"backbone.convolutions.{i}.{part}" for i in range(1) for part in ("weight", "bias")}
    assert len(state.discriminator.backbone.convolutions) == 2
    assert changed(state.discriminator, before) == set(before) - frozen


def test_the_strength_follows_the_separation_a_window_at_a_time():
    balance = Balance(strength=0.3)
    for number in range(1, WINDOW):
        adapt(balance, torch.tensor(0.95), 0.75, (0.1, 0.8))
        assert (balance.strength, balance.num_steps) == (0.3, number)
    adapt(balance, torch.tensor(0.95), 0.75, (0.1, 0.8))
    assert balance.strength == pytest.approx(0.3 + WINDOW * RATE)
    for _ in range(WINDOW):
        adapt(balance, torch.tensor(0.6), 0.75, (0.1, 0.8))
    assert balance.strength == pytest.approx(0.3)


@pytest.mark.parametrize(("reading", "limit"), [(1.0, 0.35), (0.0, 0.25)])
def test_the_strength_stays_within_its_limits(reading, limit):
    balance = Balance(strength=0.3)
    for _ in range(10 * WINDOW):
        adapt(balance, torch.tensor(reading), 0.75, (0.25, 0.35))
    assert balance.strength == limit


def test_doctests():
    found = doctest.testmod(ganaug.gan.balance)
    assert found.failed == 0 and found.attempted > 0
