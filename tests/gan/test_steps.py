"""The parts of a training step: what is drawn, what each update changes, and the averaged generator."""

import copy
from dataclasses import replace

import pytest
import torch
from game import PLAIN, SETTINGS, make_data, make_state, seeded, with_changes

from ganaug.data.images import to_float
from ganaug.gan import steps
from ganaug.gan.balance import PACE_LIMITS
from ganaug.gan.checkpoints import capture, restore
from ganaug.gan.networks import SPREAD_GROUP, Verdicts
from ganaug.gan.steps import (
    TrainingData,
    conditioning_at,
    discriminator_step,
    draw_group,
    draw_labels,
    draw_real,
    generator_step,
    memorization,
    separation,
    train_step,
    update_average,
)
from ganaug.gan.strategies import specialised


def snapshot(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def changed(network, before):
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


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
    images = draw_real(data, classes, PLAIN, seeded())
    assert images.min() >= -1 and images.max() <= 1
    rows = ((images[:, 0, 0, 0] + 1) * 127.5 / 20).round().long()
    assert set(rows[classes == 0].tolist()) == {0, 1, 2}
    assert set(rows[classes == 1].tolist()) == {3, 4, 5, 6, 7}


@pytest.mark.parametrize(("count", "share"), [(5, 0.9), (15, 0.5), (150, 0.0099)])
def test_the_fewer_images_a_class_has_the_more_often_they_are_deformed(count, share):
    images = torch.randint(0, 256, (1, 1, 16, 16), dtype=torch.uint8, generator=seeded()).repeat(count, 1, 1, 1)
    data = TrainingData(images, (torch.arange(count),), (0,), "none")
    classes = torch.zeros(2000, dtype=torch.long)
    drawn = draw_real(data, classes, SETTINGS, seeded())
    changed_share = (drawn != to_float(images[:1])).flatten(1).any(dim=1).float().mean()
    assert float(changed_share) == pytest.approx(share, abs=0.03)
    never = draw_real(data, classes[:40], with_changes(deformed_size=0), seeded())
    assert torch.equal(never, to_float(images[:1]).expand_as(never))


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
    images = draw_real(data, torch.zeros(64, dtype=torch.long), PLAIN, seeded())
    corners = {tuple(index) for index in (images[:, 0] > 0).nonzero()[:, 1:].tolist()}
    expected = {(15 if v else 0, 15 if h else 0) for v in {False, vertical} for h in {False, horizontal}}
    assert corners == expected


def test_the_discriminators_step_trains_the_discriminator_alone():
    state, data = make_state(), make_data()
    generator = {name: value.clone() for name, value in state.generator.named_parameters()}
    before = snapshot(state.discriminator)
    labels = draw_labels(data, 8, state.rng)
    real, fake = draw_real(data, labels, PLAIN, state.rng), torch.rand(8, 1, 16, 16, generator=state.rng)
    logged = discriminator_step(state, real, fake, labels, 1.0, SETTINGS)
    assert changed(state.discriminator, before) == set(before)
    assert all(torch.equal(value, generator[name]) for name, value in state.generator.named_parameters())
    assert all(torch.isfinite(value) for value in logged.values())
    assert float(logged["loss_d"]) > 0 and 0 <= float(logged["separation"]) <= 1


def test_the_generators_step_trains_the_generator_alone():
    state = make_state()
    before, weights = snapshot(state.discriminator), snapshot(state.generator)
    labels = draw_labels(make_data(), 8, state.rng)
    real, noise = draw_real(make_data(), labels, PLAIN, state.rng), torch.randn(8, 4, generator=state.rng)
    logged = generator_step(state, real, state.generator(noise, labels), noise, labels, 1.0, SETTINGS)
    assert all(torch.isfinite(value) for value in logged.values())
    assert changed(state.discriminator, before) == set()
    assert all(weight.grad is None for weight in state.discriminator.parameters())
    trained = {name for name, _ in state.generator.named_parameters()}
    assert trained <= changed(state.generator, weights)


def test_without_conditioning_the_conditional_head_is_not_trained():
    state, data = make_state(), make_data()
    settings = with_changes(classifier_weight=0.0)
    before = snapshot(state.discriminator)
    train_step(state, data, settings, 0.0, torch.float32)
    names = changed(state.discriminator, before)
    assert not any(name.startswith(("conditional", "projection", "classifier")) for name in names)
    assert any(name.startswith("unconditional") for name in names)


def test_the_average_has_its_half_life():
    """After s steps the decay is .5 ^ (1 / (share s)), at least one step long: the average lags, yet never stands still."""
    settings = with_changes(ema_half_life=0.5)
    state, data = make_state(settings), make_data()
    for number in range(1, 6):
        before = state.average.first.weight.clone()
        train_step(state, data, settings, 1.0, torch.float32)
        decay = 0.5 ** (1 / max(1.0, 0.5 * number))
        expected = decay * before + (1 - decay) * state.generator.first.weight.detach()
        torch.testing.assert_close(state.average.first.weight, expected)


def test_penalties_are_applied_at_their_interval(monkeypatch):
    calls = []
    monkeypatch.setattr(steps, "gradient_penalty", lambda logits, images: calls.append(len(images)) or logits.sum() * 0)
    for interval, r1, r2, expected in (
        (3, 0.05, 0, 3),
        (1, 0.05, 0, 7),
        (1, 0, 0.05, 7),
        (3, 0.05, 0.05, 6),
        (1, 0, 0, 0),
    ):
        calls.clear()
        state = make_state()
        settings = with_changes(penalty_interval=interval, r1_weight=r1, r2_weight=r2)
        for _ in range(7):
            train_step(state, make_data(), settings, 1.0, torch.float32)
        assert len(calls) == expected
        assert state.step == 7


def test_the_pace_sets_the_discriminators_rate_and_at_its_limit_skips_every_second_step():
    state, data = make_state(), make_data()
    state.balance.pace, state.caution = PACE_LIMITS[0], 0.5
    trained = []
    for _ in range(4):
        discriminator, generator = snapshot(state.discriminator), snapshot(state.generator)
        train_step(state, data, SETTINGS, 1.0, torch.float32)
        trained.append(bool(changed(state.discriminator, discriminator)))
        assert changed(state.generator, generator)
    assert trained == [True, False, True, False]
    assert state.discriminator_optimizer.param_groups[0]["lr"] == SETTINGS.learning_rate * PACE_LIMITS[0] / 2
    assert state.generator_optimizer.param_groups[0]["lr"] == SETTINGS.learning_rate / 2


def test_a_step_goes_on_where_no_image_happens_to_be_augmented():
    state = make_state()
    for _ in range(3):
        state.balance.strength = 0.01
        train_step(state, make_data(), SETTINGS, 1.0, torch.float32)
    assert state.step == 3


@pytest.mark.parametrize(("sign", "expected"), [(1, 1.0), (-1, 0.0)])
def test_memorization_compares_images_trained_on_with_held_out_ones(sign, expected):
    """By a discriminator to which the bright left halves of the training images, or dark ones, look real."""
    held_out = (torch.full((3, 1, 16, 16), 0, dtype=torch.uint8), torch.tensor([1, 1, 1]))
    state, data = make_state(), make_data(held_out=held_out)
    state.balance.strength = 0.0

    def judge(images, labels, grouped=True):
        assert not grouped and (labels == 1).all()  # no image is asked about another class than its own
        logits = sign * images.mean(dim=(1, 2, 3))
        return Verdicts(logits, logits, logits, logits)

    state.discriminator = judge
    assert float(memorization(state, data, 1.0, SETTINGS)) == expected
    assert memorization(state, make_data(), 1.0, SETTINGS) is None


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
    other = make_state(with_changes(seed=1))
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


@pytest.mark.parametrize(("limits", "start"), [((0.0, 0.8), 0.3), ((0.0, 0.0), 0.0), ((0.5, 0.8), 0.5)])
def test_the_augmentation_starts_within_its_limits(limits, start):
    assert make_state(with_changes(augment_limits=limits)).balance.strength == start


def test_everything_that_a_step_depends_on_is_captured():
    state, other = make_state(), make_state()
    state.spreads.copy_(torch.tensor([[0.5, 2.0], [3.0, 4.0]]))
    state.anchors.copy_(torch.tensor([0.7, -0.7]))
    state.caution, state.step, state.steps, state.seconds, state.attempts = 0.25, 3, 9, 1.5, 4
    state.balance = replace(state.balance, strength=0.6, pace=0.5, num_steps=2)
    torch.rand(3, generator=state.rng)
    restore(other, copy.deepcopy(capture(state)))
    assert torch.equal(other.spreads, state.spreads) and torch.equal(other.anchors, state.anchors)
    assert other.balance == state.balance and other.caution == state.caution
    assert torch.equal(other.rng.get_state(), state.rng.get_state())
    for name in ("step", "steps", "seconds", "attempts"):
        assert getattr(other, name) == getattr(state, name)
