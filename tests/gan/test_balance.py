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
    MEMORIZING,
    PACE_FACTOR,
    PACE_LIMITS,
    RATE,
    WINDOW,
    Balance,
    decide,
    describe,
    skips_discriminator,
)

TARGET, LIMITS = 0.75, (0.1, 0.8)


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


def test_the_strength_follows_the_separation():
    balance = Balance(strength=0.3)
    assert play(balance, 0.95).strength == pytest.approx(0.3 + WINDOW * RATE)
    assert play(balance, 0.76).strength == pytest.approx(0.3 + 2 * WINDOW * RATE)
    assert play(balance, 0.74).strength == pytest.approx(0.3 + WINDOW * RATE)
    assert play(balance, 0.2).strength == pytest.approx(0.3)


@pytest.mark.parametrize(("separation", "limit", "pace"), [(1.0, 0.8, PACE_LIMITS[0]), (0.0, 0.1, PACE_LIMITS[1])])
def test_strength_and_pace_stay_within_their_limits(separation, limit, pace):
    balance = play(Balance(), separation, decisions=200)
    assert (balance.strength, balance.pace) == (limit, pace)


def test_the_discriminator_slows_down_only_where_augmentation_does_not_suffice():
    assert play(Balance(strength=0.5), 1.0).pace == 1  # there is augmentation left
    assert play(Balance(strength=0.8), (TARGET + AHEAD) / 2).pace == 1  # not far ahead
    assert play(Balance(strength=0.8), 1.0).pace == pytest.approx(PACE_FACTOR)
    assert play(Balance(strength=0.8), 1.0, decisions=3).pace == pytest.approx(PACE_FACTOR**3)


def test_the_discriminator_speeds_up_only_where_it_is_behind_without_augmentation():
    assert play(Balance(strength=0.5), 0.2).pace == 1
    assert play(Balance(strength=0.1), (BEHIND + TARGET) / 2).pace == 1
    assert play(Balance(strength=0.1), 0.2).pace == pytest.approx(1 / PACE_FACTOR)


@pytest.mark.parametrize("pace", PACE_LIMITS)
def test_the_pace_recovers_in_balance(pace):
    balance = Balance(strength=0.8, pace=pace)
    distances = [abs(play(balance, 0.65).pace - 1) for _ in range(100)]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] < abs(pace - 1) and distances[-1] < 0.01


def test_augmentation_stays_while_the_discriminator_is_slowed_down():
    """The last measure is withdrawn first."""
    balance = play(Balance(strength=0.8, pace=0.5), 0.65)
    assert balance.strength == 0.8 and balance.pace > 0.5


@pytest.mark.parametrize("separation", [0.3, 0.5, 0.65])
def test_a_slowed_discriminator_that_falls_behind_gets_its_pace_and_clear_images_back(separation):
    balance = play(Balance(strength=0.8, pace=0.5), separation, decisions=400)
    assert balance.pace > 0.99 and balance.strength == 0.1


def test_memorization_alone_raises_the_strength():
    calm = Balance(strength=0.3, memorized=0.7)
    assert play(replace(calm), 0.6, memorized=0.7).strength < 0.3
    alarmed = replace(calm, memorized=0.8)
    assert play(alarmed, 0.6, memorized=0.8).strength == pytest.approx(0.3 + WINDOW * RATE)
    assert alarmed.pace == 1  # the alarm does not touch the pace


def test_memorization_is_a_slow_average_and_stays_where_nothing_is_held_out():
    balance = play(Balance(memorized=0.5), 0.6, memorized=1.0)
    assert balance.memorized == pytest.approx(0.5 + 0.05 * 0.5)
    assert play(balance, 0.6, memorized=1.0, decisions=12).memorized < MEMORIZING < 1
    assert play(balance, 0.6, memorized=1.0, decisions=200).memorized == pytest.approx(1, abs=1e-3)
    assert play(Balance(memorized=0.6), 0.6).memorized == 0.6


def test_the_push_for_variety_follows_the_variety():
    balance = Balance(variety_weight=0.5)
    assert play(balance, 0.6, variety=1.2).variety_weight == pytest.approx(0.5 - WINDOW * RATE)
    assert play(balance, 0.6, variety=0.8).variety_weight == pytest.approx(0.5)
    assert play(balance, 0.6, variety=1.2, decisions=100).variety_weight == 0
    assert play(balance, 0.6, variety=0.8, decisions=100).variety_weight == 1


def test_the_slowest_discriminator_sits_out_every_second_step():
    slowest = Balance(pace=PACE_LIMITS[0])
    assert [skips_discriminator(slowest, step) for step in range(4)] == [False, True, False, True]
    for pace in (0.26, 1.0, 2.0):
        assert not any(skips_discriminator(Balance(pace=pace), step) for step in range(4))


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
            "in balance: 70 % separated; augmentation at .30; it knows its training images by heart (81 %); "
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
