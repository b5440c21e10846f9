"""Trainings that are stopped, whose steps diverge or whose clock is set: what the tests of whole trainings share."""

import json
import math
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from small import files_of

from ganaug.gan import member, settling, training
from ganaug.gan.training import fit

EVERY_STEP = 1e-9  # seconds: a saved state after every row of metrics


def take_four_checkpoints(monkeypatch):
    """At every quarter of the steps, however few; and nothing is lost on measuring the pace."""
    monkeypatch.setattr(member, "NUM_CHECKPOINTS", 4)
    monkeypatch.setattr(member, "MIN_STEPS_BETWEEN", 1)
    monkeypatch.setattr(member, "FIRST_CHECKPOINT", 0.25)
    monkeypatch.setattr(settling, "measure_pace", lambda *_: 0.01)


class Interrupt:
    """Stands in for a function of member.py: the n-th call raises KeyboardInterrupt."""

    def __init__(self, monkeypatch, at, name="train_step"):
        self.calls, self.at, self.function = 0, at, getattr(member, name)
        monkeypatch.setattr(member, name, self)

    def __call__(self, *arguments):
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return self.function(*arguments)


def interrupted_fit(monkeypatch, data, out, recipe, at, name="train_step", resume=False):
    with monkeypatch.context() as patch:
        Interrupt(patch, at, name)
        with pytest.raises(KeyboardInterrupt):
            fit(data, out, recipe=recipe, resume=resume)
    return out


def fit_in_pieces(monkeypatch, data, out, recipe, size):
    """A training whose process is stopped after every `size` steps; returns how often."""
    stops = 0
    while True:
        with monkeypatch.context() as patch:
            Interrupt(patch, size + 1)
            try:
                fit(data, out, recipe=recipe, resume=stops > 0)
                return stops
            except KeyboardInterrupt:
                stops += 1


def diverge_at(monkeypatch, *moments, metric="loss_d"):
    """At these moments, pairs of a step and the factor on the rates, a loss and all that is trained is no number."""
    train_step = member.train_step

    def diverging(state, *arguments):
        logged = train_step(state, *arguments)
        if (state.step, state.caution) in moments:
            logged[metric] = torch.tensor(math.nan)
            spoil(state)
        return logged

    monkeypatch.setattr(member, "train_step", diverging)


@torch.no_grad()
def spoil(state):
    for network in (state.generator, state.average, state.discriminator):
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.fill_(math.nan)
    for optimizer in (state.generator_optimizer, state.discriminator_optimizer):
        for moments in optimizer.state.values():
            moments["exp_avg"].fill_(math.nan)
    state.balance.strength = state.balance.separation = math.nan
    state.anchors.fill_(math.nan)
    state.rng.manual_seed(0)


def set_pace(monkeypatch, durations):
    """A clock by which the steps and the checkpoints take these seconds, the last of them for ever, and all else none."""

    class Clock:
        now, calls = 0.0, 0

        def monotonic(self):
            if self.calls % 2:  # begin, end, begin, end, ...
                self.now += durations[min(self.calls // 2, len(durations) - 1)]
            self.calls += 1
            return self.now

    monkeypatch.setattr(member, "time", Clock())
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: 0.0))


def metrics_of(run, name="joint"):
    return pd.read_csv(run / "members" / name / "metrics.csv").drop(columns="seconds")


def member_of(run, name="joint"):
    """What member.json says, but for the time, which differs."""
    stored = json.loads((run / "members" / name / "member.json").read_text())
    del stored["seconds"]
    return stored


def trained(run):
    """All that a training leaves, without its times: bytes of networks and sheets, member.json and metrics."""
    files = {name: content for name, content in files_of(run).items() if name.endswith((".safetensors", ".png"))}
    names = [path.name for path in (run / "members").iterdir()]
    tables = {name: metrics_of(run, name).to_csv() for name in names}
    return files, {name: member_of(run, name) for name in names}, tables
