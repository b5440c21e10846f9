"""Stopped anywhere and gone on with, a training ends bit for bit as if it had not been stopped."""

import pytest
from interruptions import (
    EVERY_STEP,
    diverge_at,
    fit_in_pieces,
    interrupted_fit,
    member_of,
    take_four_checkpoints,
    trained,
)
from small import with_settings

from ganaug.gan import member
from ganaug.gan.losses import LOSSES
from ganaug.gan.training import fit
from ganaug.runs import open_run

STEPS = 16  # with checkpoints after 4, 8, 12 and 16, the first of them before the classes are known: not measured
FIT = {"steps": STEPS, "log_interval": 1, "checkpoint_interval": EVERY_STEP, "transition": (0.2, 0.2)}
PENALTIES = {"r1_weight": 0.1, "r2_weight": 0.1, "lecam_weight": 0.1, "consistency_weight": 0.1, "penalty_interval": 3}


@pytest.fixture(autouse=True)
def four_checkpoints(monkeypatch):
    take_four_checkpoints(monkeypatch)


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    """What trainings that nothing stops leave: as planned, and with a step that diverges between two checkpoints."""
    left = {}
    for name, moments in (("planned", []), ("diverged", [(10, 1.0)])):
        with pytest.MonkeyPatch.context() as patch:
            take_four_checkpoints(patch)
            diverge_at(patch, *moments)
            left[name] = trained(fit(digits, tmp_path_factory.mktemp(name) / "run", recipe=with_settings(fit=FIT)))
    return left


def test_there_is_something_to_lose(whole):
    for name, rollbacks in (("planned", 0), ("diverged", 1)):
        stored = whole[name][1]["joint"]
        assert [checkpoint["step"] for checkpoint in stored["checkpoints"]] == [8, 12, 16]
        assert stored["rollbacks"] == rollbacks and len(stored["checkpoints"][0]["scores"]) > 0
    assert whole["planned"] != whole["diverged"]


@pytest.mark.parametrize("at", [1, 5, 9, 12, 16])
def test_stopped_in_any_step(digits, tmp_path, monkeypatch, whole, at):
    out = interrupted_fit(monkeypatch, digits, tmp_path / "run", with_settings(fit=FIT), at)
    fit(digits, out, resume=True)
    assert trained(out) == whole["planned"]


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("validate", 1),  # while a checkpoint is measured
        ("save_networks", 2),  # before its networks are written
        ("save_state", 4),  # after the checkpoint, before the state
        ("choose", 1),  # after the last step
        ("save_networks", 4),  # before the chosen networks are written
        ("write_json", 1),  # and after them
        ("say", 4),  # before what is not needed any more is removed
    ],
)
def test_stopped_between_two_steps(digits, tmp_path, monkeypatch, whole, name, at):
    out = interrupted_fit(monkeypatch, digits, tmp_path / "run", with_settings(fit=FIT), at, name)
    fit(digits, out, resume=True)
    assert trained(out) == whole["planned"]
    assert sorted(path.name for path in (out / "members/joint").iterdir()) == [
        "discriminator.safetensors",
        "generator.safetensors",
        "member.json",
        "metrics.csv",
    ]


@pytest.mark.parametrize("at", [10, 11, 15])
def test_stopped_before_and_after_a_rollback(digits, tmp_path, monkeypatch, whole, at):
    """The 10th step diverges, so that the 11th that is taken is the 9th again, and the 14th ends the next checkpoint."""
    diverge_at(monkeypatch, (10, 1.0))
    out = interrupted_fit(monkeypatch, digits, tmp_path / "run", with_settings(fit=FIT), at)
    fit(digits, out, resume=True)
    assert trained(out) == whole["diverged"]


def test_a_step_that_diverges_after_the_resumption_goes_back_as_far(digits, tmp_path, monkeypatch):
    """To the last checkpoint, and not to where the process was stopped; the second time from the same place."""
    recipe = with_settings(fit=FIT)
    diverge_at(monkeypatch, (11, 1.0), (11, 0.5))
    left = trained(fit(digits, tmp_path / "whole", recipe=recipe))
    assert left[1]["joint"]["rollbacks"] == 2
    for at in (11, 14):
        out = interrupted_fit(monkeypatch, digits, tmp_path / f"run-{at}", recipe, at)
        fit(digits, out, resume=True)
        assert trained(out) == left


@pytest.mark.parametrize(
    "settings",
    [
        {"family": "mixing"},
        {"family": "mixing", "strategy": "per-class"},
        {"strategy": "per-class"},
        {"strategy": "specialised"},
        {"validation": 0.0, "augment": ()},
        *({"loss": loss} | PENALTIES for loss in LOSSES),
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_whatever_is_trained(digits, tmp_path, monkeypatch, settings):
    recipe = with_settings(fit=FIT | settings)
    whole = fit(digits, tmp_path / "whole", recipe=recipe)
    assert fit_in_pieces(monkeypatch, digits, tmp_path / "run", recipe, size=6) == 2
    assert trained(tmp_path / "run") == trained(whole)
    assert open_run(tmp_path / "run")[1]["complete"] is True


def test_a_training_that_ended_early_ends_there_again(digits, tmp_path, monkeypatch):
    """Stopped after the checkpoint that ended it, before anything else was written."""
    monkeypatch.setattr(member, "has_stalled", lambda checkpoints: len(checkpoints) >= 2)
    recipe = with_settings(fit=FIT)
    whole = fit(digits, tmp_path / "whole", recipe=recipe)
    assert member_of(whole)["ended_at"] == 12
    out = interrupted_fit(monkeypatch, digits, tmp_path / "run", recipe, 1, "choose")
    fit(digits, out, resume=True)
    assert trained(out) == trained(whole)
