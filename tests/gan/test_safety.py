"""Trainings that diverge or get too few images end well, and say what happened."""

import json
import logging
import math

import numpy as np
import pandas as pd
import pytest
import torch
from interruptions import EVERY_STEP, diverge_at, member_of, metrics_of, set_pace, spoil, take_four_checkpoints
from safetensors.torch import load_file
from small import files_of, with_settings

from ganaug import GanaugError
from ganaug.data.images import encode_png
from ganaug.gan import member, steps
from ganaug.gan.training import fit
from ganaug.runs import open_run
from ganaug.synthesis.synthesize import synthesize


@pytest.fixture(autouse=True)
def four_checkpoints(monkeypatch):
    take_four_checkpoints(monkeypatch)


def make_images(folder, counts, side=16):
    """Noise, dark in class 0 and brighter from class to class: `make_images(f, {"train/a": 5})`."""
    rng = np.random.default_rng(0)
    names = sorted({place.split("/")[1] for place in counts})
    for place, count in counts.items():
        (folder / place).mkdir(parents=True)
        level = 40 + 150 * names.index(place.split("/")[1]) / max(1, len(names) - 1)
        for i in range(count):
            pixels = (level + rng.uniform(-40, 40, (side, side, 1))).astype(np.uint8)
            (folder / place / f"{i:03d}.png").write_bytes(encode_png(pixels))
    return folder


def assert_finite(run, name="joint"):
    for network in ("generator", "discriminator"):
        for weight in load_file(run / "members" / name / f"{network}.safetensors").values():
            assert torch.isfinite(weight.float()).all()
    assert np.isfinite(metrics_of(run, name).to_numpy()).all()


def rates_seen(monkeypatch):
    """Fills, at every step, a list with it, the generator's and the discriminator's rate."""
    seen, train_step = [], member.train_step

    def noting(state, *arguments):
        logged = train_step(state, *arguments)
        rates = [
            optimizer.param_groups[0]["lr"] for optimizer in (state.generator_optimizer, state.discriminator_optimizer)
        ]
        seen.append((state.step, *rates))
        return logged

    monkeypatch.setattr(member, "train_step", noting)
    return seen


@pytest.mark.parametrize("metric", ["loss_d", "loss_g", "class_loss"])
def test_a_diverged_training_goes_back_to_its_checkpoint_at_half_the_rates(
    digits, tmp_path, monkeypatch, caplog, metric
):
    diverge_at(monkeypatch, (14, 1.0), metric=metric)
    seen = rates_seen(monkeypatch)
    run = fit(
        digits, tmp_path / "run", recipe=with_settings(fit={"steps": 20, "log_interval": 3, "learning_rate": 1e-3})
    )
    assert [step for step, *_ in seen] == [*range(1, 16), *range(11, 21)]  # noticed in step 15, back to that after 10
    assert {rate for _, rate, _ in seen[:15]} == {1e-3} and {rate for _, rate, _ in seen[15:]} == {5e-4}
    assert seen[15][2] == pytest.approx(seen[10][2] / 2, rel=0.1)
    assert_finite(run)
    stored = member_of(run)
    assert (stored["rollbacks"], stored["steps"], stored["ended_at"]) == (1, 20, 20)
    assert metrics_of(run)["step"].tolist() == [3, 5, 6, 9, 10, 12, 15, 18, 20]
    warnings = [record.message for record in caplog.records if "diverged" in record.message]
    assert len(warnings) == 1 and "back to step 10" in warnings[0] and "0.5" in warnings[0]


def test_without_divergence_nothing_is_rolled_back(digits, tmp_path, caplog):
    run = fit(digits, tmp_path / "run", recipe=with_settings())
    assert member_of(run)["rollbacks"] == 0 and "diverged" not in caplog.text


def test_a_divergence_is_noticed_within_100_steps(digits, tmp_path, monkeypatch):
    with pytest.raises(GanaugError, match="log_interval"):
        fit(digits, tmp_path / "run", recipe=with_settings(fit={"log_interval": 101}))
    diverge_at(monkeypatch, (3, 1.0))
    seen = rates_seen(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        monkeypatch.setattr(member, "roll_back", interrupt)
        fit(digits, tmp_path / "run", recipe=with_settings(fit={"log_interval": 100, "steps": 1000}))
    assert len(seen) <= 103


def interrupt(*_):
    raise KeyboardInterrupt


def test_rates_that_are_far_too_high_are_lowered_until_they_work(digits, tmp_path, monkeypatch):
    """A training that really explodes: rates beyond reason, then, in effect, at the lowest of the halved ones."""
    set_rates = steps.set_rates
    monkeypatch.setattr(
        steps, "set_rates", lambda state, rate: set_rates(state, rate if state.caution <= 0.25 else 1e20)
    )
    run = fit(digits, tmp_path / "run", recipe=with_settings(fit={"steps": 20, "log_interval": 4}))
    assert member_of(run)["rollbacks"] == 2
    assert_finite(run)


def test_weights_spoiled_by_the_last_step_before_a_checkpoint_are_not_kept(digits, tmp_path, monkeypatch):
    """The step's losses are finite, since they were computed before its update."""
    train_step = member.train_step

    def spoiling(state, *arguments):
        logged = train_step(state, *arguments)
        if state.step == spoiled and state.caution == 1.0:
            spoil(state)
        return logged

    monkeypatch.setattr(member, "train_step", spoiling)
    for spoiled in (15, 20):
        run = fit(digits, tmp_path / str(spoiled), recipe=with_settings(fit={"steps": 20, "log_interval": 1}))
        assert_finite(run)
        assert member_of(run)["rollbacks"] == 1


def test_a_training_that_diverges_for_ever_ends_with_a_message_and_loses_nothing(digits, tmp_path, monkeypatch):
    recipe = with_settings(fit={"steps": 16, "log_interval": 1, "checkpoint_interval": EVERY_STEP})
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        diverge_at(patch, *[(14, 0.5**n) for n in range(10)])
        with pytest.raises(GanaugError) as refusal:
            fit(digits, out, recipe=recipe)
    for part in ("joint", "step 14", "ganaug check", "fit.learning_rate"):
        assert part in str(refusal.value)
    with pytest.raises(GanaugError, match=r"not complete.*--resume"):
        open_run(out)
    seen = rates_seen(monkeypatch)
    fit(digits, out, resume=True)
    assert [step for step, *_ in seen] == [14, 15, 16]  # with what had been trained until then
    assert_finite(out)
    assert metrics_of(out)["step"].tolist() == list(range(1, 17))


def test_the_time_of_lost_steps_counts_once(digits, tmp_path, monkeypatch):
    """By a clock of one second for each step and each checkpoint."""
    seconds = {}
    for name, moments in (("whole", []), ("diverged", [(14, 1.0)])):
        with monkeypatch.context() as patch:
            diverge_at(patch, *moments)
            set_pace(patch, [1.0])
            run = fit(digits, tmp_path / name, recipe=with_settings(fit={"steps": 20, "log_interval": 1}))
        seconds[name] = json.loads((run / "members/joint/member.json").read_text())["seconds"]
    assert seconds["whole"] == 20 + 4
    assert seconds["diverged"] == seconds["whole"] + 4  # the steps from 11 to 14


def test_a_divergence_before_the_plan_leaves_a_plan_for_the_rest_of_the_budget(digits, tmp_path, monkeypatch):
    diverge_at(monkeypatch, (12, 1.0))
    set_pace(monkeypatch, [1.0])
    recipe = with_settings(fit={"steps": None, "budget": "80s", "log_interval": 1})
    run = fit(digits, tmp_path / "run", recipe=recipe)
    assert member_of(run)["rollbacks"] == 1
    assert 50 <= member_of(run)["steps"] <= 80  # 12 of the 80 seconds are lost


FAMILIES = ["noise", "mixing"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_class_of_one_image_warns_trains_and_synthesizes(tmp_path, caplog, family):
    data = make_images(tmp_path / "data", {"train/few": 1, "train/many": 12, "test/few": 1, "test/many": 2})
    run = fit(data, tmp_path / "run", recipe=with_settings(fit={"family": family}))
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert any("class few" in text and "no GAN can learn" in text for text in warnings)
    assert_finite(run)
    assert synthesize(run, tmp_path / "made", recipe={"synthesize": {"per_class": 3}}) == {"few": 3, "many": 3}
    assert len([name for name in files_of(tmp_path / "made") if name.startswith("few/")]) == 3


@pytest.mark.parametrize("strategy", ["per-class", "specialised"])
def test_a_class_of_one_image_may_have_a_network_of_its_own(tmp_path, strategy):
    data = make_images(tmp_path / "data", {"train/few": 1, "train/many": 6, "test/few": 1, "test/many": 2})
    run = fit(data, tmp_path / "run", recipe=with_settings(fit={"strategy": strategy}))
    assert_finite(run, "class-0")
    assert synthesize(run, tmp_path / "made", recipe={"synthesize": {"per_class": 2}}) == {"few": 2, "many": 2}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_set_smaller_than_a_batch_trains(tmp_path, family):
    data = make_images(tmp_path / "data", {"train/a": 2, "train/b": 1, "test/a": 1, "test/b": 1})
    recipe = with_settings(fit={"batch_size": 32, "family": family, "steps": 8})
    run = fit(data, tmp_path / "run", recipe=recipe)
    assert_finite(run)
    assert member_of(run)["chosen"] == member_of(run)["ended_at"] == 8  # nothing is held out to choose by


def test_large_and_small_classes_are_drawn_alike(tmp_path, monkeypatch):
    drawn, draw_batch = [], steps.draw_batch

    def noting(*arguments):
        real, noise, labels = draw_batch(*arguments)
        assert torch.equal(real.mean(dim=(1, 2, 3)) > 0, labels == 1)  # the images are of the classes asked for
        drawn.append((real, labels))
        return real, noise, labels

    monkeypatch.setattr(steps, "draw_batch", noting)
    data = make_images(tmp_path / "data", {"train/a": 5, "train/b": 100, "test/a": 1, "test/b": 1})
    fit(
        data,
        tmp_path / "run",
        recipe=with_settings(
            fit={"steps": 60, "batch_size": 16, "validation": 0, "augment": ()}, data={"mirror": "none"}
        ),
    )
    groups = torch.cat([labels for _, labels in drawn])[::4].float()
    assert len(groups) == 240
    assert abs(float(groups.mean()) - 0.5) < 4 * 0.5 / math.sqrt(240)
    images = pd.Series([image.numpy().tobytes() for real, labels in drawn for image in real[labels == 0]])
    counts = images.value_counts()
    assert len(counts) == 5 and counts.min() > 0.7 * counts.mean()
