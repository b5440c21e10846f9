"""The controller of the two players: what moves its strength, pace and push for variety, and what it says of it."""

import doctest
import json
from dataclasses import replace

import pytest
import torch

import ganaug.gan.balance
from ganaug.gan.balance import (
    AHEAD,
    BEHIND,
    MEMORY_RATE,
    PACE_FACTOR,
    PACE_LIMITS,
    RATE,
    SPREAD_RATE,
    VARIETY,
    WINDOW,
    Balance,
    decide,
    describe,
    skips_discriminator,
    track_spreads,
    variety_weights,
)

TARGET, LIMITS = 0.6, (0.1, 0.8)


def play(balance, separation, decisions=1, variety=1.0, memorized=None):
    """The same reading at every step of so many decisions."""
    for _ in range(decisions * WINDOW):
        if balance.observe(torch.tensor(separation), torch.tensor(variety)):
            decide(balance, None if memorized is None else torch.tensor(memorized), TARGET, LIMITS)
    return balance


def test_it_decides_once_a_window_on_the_mean_of_what_was_seen():
    balance = Balance()
    readings = [0.1 * number for number in range(1, WINDOW + 1)]
    due = [balance.observe(torch.tensor(reading), torch.tensor(2 * reading)) for reading in readings]
    assert due == [False] * (WINDOW - 1) + [True]
    decide(balance, None, TARGET, LIMITS)
    assert balance.separation == pytest.approx(sum(readings) / WINDOW)
    assert balance.variety == pytest.approx(2 * sum(readings) / WINDOW)
    assert (balance.num_steps, balance.separation_sum, balance.variety_sum) == (0, 0, 0)


def test_the_strength_follows_what_is_memorized():
    """Where images are held out, how far the discriminator is ahead of the generator counts only once it is far."""
    balance = Balance(strength=0.3, memorized=0.61)
    assert play(replace(balance), AHEAD + 0.02, memorized=0.1).strength == pytest.approx(0.3 + WINDOW * RATE)
    for separation in (0.2, AHEAD - 0.02):
        assert play(replace(balance), separation, memorized=0.62).strength == pytest.approx(0.3 + WINDOW * RATE)
        assert play(replace(balance), separation, memorized=0.1).strength == pytest.approx(0.3 - WINDOW * RATE)


def test_the_strength_follows_the_separation_where_nothing_is_held_out():
    balance = Balance(strength=0.3, memorized=0.9)  # an old reading
    assert play(balance, AHEAD + 0.02).strength == pytest.approx(0.3 + WINDOW * RATE)
    assert play(balance, AHEAD - 0.02).strength == pytest.approx(0.3)
    assert play(balance, 0.2).strength == pytest.approx(0.3 - WINDOW * RATE)
    assert balance.memorized == 0.9


def test_what_is_memorized_is_a_slow_average():
    """One bad reading is no alarm."""
    balance = play(Balance(memorized=0.5), 0.7, memorized=1.0)
    assert balance.memorized == pytest.approx(0.5 + MEMORY_RATE * 0.5)
    assert balance.strength < 0.3
    assert play(balance, 0.7, decisions=200, memorized=1.0).memorized == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("reading", "limit", "pace"), [(1.0, 0.8, PACE_LIMITS[0]), (0.0, 0.1, PACE_LIMITS[1])])
@pytest.mark.parametrize("held_out", [True, False])
def test_strength_and_pace_stay_within_their_limits(reading, limit, pace, held_out):
    balance = play(Balance(), reading, decisions=300, memorized=reading if held_out else None)
    assert (balance.strength, balance.pace) == (limit, pace)


def test_the_discriminator_slows_down_only_where_it_is_ahead_and_augmentation_does_not_suffice():
    assert play(Balance(strength=0.5), 1.0).pace == 1  # there is augmentation left
    assert play(Balance(strength=0.8, memorized=0.9), AHEAD - 0.02, memorized=0.9).pace == 1  # not far ahead
    assert play(Balance(strength=0.8), 1.0).pace == pytest.approx(PACE_FACTOR)
    assert play(Balance(strength=0.8), 1.0, decisions=3).pace == pytest.approx(PACE_FACTOR**3)


def test_the_discriminator_speeds_up_only_where_it_is_behind_without_augmentation():
    assert play(Balance(strength=0.5), BEHIND - 0.1).pace == 1
    assert play(Balance(strength=0.1), BEHIND + 0.1).pace == 1
    assert play(Balance(strength=0.1), BEHIND - 0.1).pace == pytest.approx(1 / PACE_FACTOR)


@pytest.mark.parametrize("pace", PACE_LIMITS)
def test_the_pace_recovers_in_balance(pace):
    balance = Balance(pace=pace)
    distances = [abs(play(balance, 0.7).pace - 1) for _ in range(100)]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] < abs(pace - 1) and distances[-1] < 0.01


@pytest.mark.parametrize("separation", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("memorized", [None, 0.4])
def test_a_slowed_discriminator_that_falls_behind_gets_its_pace_and_clear_images_back(separation, memorized):
    balance = play(Balance(strength=0.8, pace=0.25), separation, decisions=400, memorized=memorized)
    assert balance.pace > 0.99 and balance.strength == 0.1


def test_the_push_for_variety_follows_the_variety():
    """Class by class: the more, the less its images vary in comparison with real ones."""
    low, high = VARIETY
    ratios = torch.tensor([low - 0.2, low, (low + high) / 2, high, high + 0.2])
    pushes = variety_weights(torch.stack([torch.full((5,), 2.0), 2 * ratios]))
    assert pushes.tolist() == pytest.approx([1, 1, 0.5, 0, 0], abs=1e-5)


def test_spreads_are_moving_averages_of_the_classes_that_were_seen():
    spreads = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    track_spreads(spreads, torch.tensor([2.0, 3.0, 5.0]), torch.tensor([1.0, 1.0, 2.0]), torch.tensor([0, 0, 2]))
    expected = [[1 + 3 * SPREAD_RATE, 1, 1 + 4 * SPREAD_RATE], [2 * SPREAD_RATE, 0, 2 * SPREAD_RATE]]
    torch.testing.assert_close(spreads, torch.tensor(expected))


def test_the_slowest_discriminator_sits_out_every_second_step():
    slowest = Balance(pace=PACE_LIMITS[0])
    assert [skips_discriminator(slowest, step, 8) for step in range(4)] == [False, True, False, True]
    assert [skips_discriminator(slowest, step, 3) for step in range(6)] == [False, True, False, False, False, True]
    for pace in (0.26, 1.0, 2.0):
        assert not any(skips_discriminator(Balance(pace=pace), step, 8) for step in range(4))


@pytest.mark.parametrize(
    ("before", "now", "sentence"),
    [
        (
            Balance(strength=0.26),
            Balance(separation=0.92, strength=0.3),
            "discriminator ahead: 92 % separated; augmentation raised to .30",
        ),
        (
            Balance(strength=0.4),
            Balance(separation=0.5, strength=0.1),
            "generator ahead: 50 % separated; augmentation lowered to .10",
        ),
        (Balance(), Balance(separation=0.7), "in balance: 70 % separated; augmentation at .30"),
        (
            Balance(strength=0.8),
            Balance(separation=1.0, strength=0.8, pace=0.9),
            "discriminator ahead: 100 % separated; augmentation at .80; discriminator's pace lowered to .90",
        ),
        (
            Balance(strength=0.1, pace=1.0),
            Balance(separation=0.4, strength=0.1, pace=1.25),
            "generator ahead: 40 % separated; augmentation at .10; discriminator's pace raised to 1.25",
        ),
        (
            Balance(),
            Balance(separation=0.7, memorized=0.81, variety=0.4),
            "in balance: 70 % separated; augmentation at .30; prefers its training images to held-out ones in 81 % of pairs; "
            "too little variety (.40 of the real)",
        ),
    ],
)
def test_the_log_says_who_is_ahead_and_what_was_done(before, now, sentence):
    assert describe(before, now) == sentence


def test_a_balance_survives_json_in_the_middle_of_a_window():
    """With sums that are still tensors; then both go on alike."""
    balance = play(Balance(), 0.9, decisions=3, variety=0.7, memorized=0.8)
    for _ in range(WINDOW - 1):
        balance.observe(torch.tensor(0.2), torch.tensor(1.5))
    again = Balance.from_json(json.loads(json.dumps(balance.to_json())))
    assert again.num_steps == WINDOW - 1 and isinstance(again.num_steps, int)
    for each in (balance, again):
        assert each.observe(torch.tensor(0.2), torch.tensor(1.5))
        decide(each, None, TARGET, LIMITS)
    assert again.to_json() == pytest.approx(balance.to_json())


def test_doctests():
    found = doctest.testmod(ganaug.gan.balance)
    assert found.failed == 0 and found.attempted > 0
