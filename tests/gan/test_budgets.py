"""A budget becomes steps, shared by all members, repeated and resumed."""

import json
import logging

import pytest
import yaml
from interruptions import EVERY_STEP, interrupted_fit, metrics_of, set_pace
from small import weights_of, with_settings

from ganaug import GanaugError, load_recipe
from ganaug.gan import member
from ganaug.gan.training import fit
from ganaug.settings import FitSettings


def test_a_budget_settles_the_steps_and_the_recipe_then_repeats_them(digits, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "ganaug")
    recipe = with_settings(fit={"steps": None, "budget": "20s", "log_interval": 1})
    with monkeypatch.context() as patch:
        set_pace(patch, [1.0])
        run = fit(digits, tmp_path / "run", recipe=recipe)
    steps = round(20 * member.STEPS_SHARE)
    assert f"{steps} steps fit into 20s" in caplog.text
    assert yaml.safe_load((run / "recipe.yaml").read_text())["fit"]["steps"] == steps
    assert metrics_of(run)["step"].tolist() == list(range(1, steps + 1))
    repeated = fit(digits, tmp_path / "repeated", recipe=run / "recipe.yaml")
    assert weights_of(repeated) == weights_of(run)


def test_a_budget_is_repeated_even_after_a_sudden_pause(digits, tmp_path, monkeypatch):
    """The pause falls on the step that settles the plan, so most of the budget is gone before the conditioning begins."""
    recipe = with_settings(fit={"steps": None, "budget": "20s"})
    with monkeypatch.context() as patch:
        set_pace(patch, [1.0, 1.0, 1.0, 14.0, 1.0])
        run = fit(digits, tmp_path / "run", recipe=recipe)
    steps = yaml.safe_load((run / "recipe.yaml").read_text())["fit"]["steps"]
    assert 5 <= steps <= 20
    repeated = fit(digits, tmp_path / "repeated", recipe=run / "recipe.yaml")
    assert weights_of(repeated) == weights_of(run)


def test_a_budget_is_shared_by_all_members(digits, tmp_path, monkeypatch):
    recipe = with_settings(fit={"steps": None, "budget": "30s", "strategy": "per-class"})
    with monkeypatch.context() as patch:
        set_pace(patch, [1.0])
        run = fit(digits, tmp_path / "run", recipe=recipe)
    steps = [json.loads((run / f"members/class-{k}/member.json").read_text())["steps"] for k in range(3)]
    assert steps == [10, 10, 10]
    assert yaml.safe_load((run / "recipe.yaml").read_text())["fit"]["steps"] == 30


@pytest.mark.parametrize("at", [3, 12])
def test_a_budget_survives_an_interruption_before_and_after_the_plan(digits, tmp_path, monkeypatch, at):
    recipe = with_settings(
        fit={"steps": None, "budget": "20s", "checkpoint_interval": EVERY_STEP, "log_interval": 1},
    )
    with monkeypatch.context() as patch:
        set_pace(patch, [1.0])
        interrupted_fit(monkeypatch, digits, tmp_path / "run", recipe, at)
        set_pace(patch, [1.0])
        fit(digits, tmp_path / "run", resume=True)
    steps = round(20 * member.STEPS_SHARE)
    assert metrics_of(tmp_path / "run")["step"].tolist() == list(range(1, steps + 1))
    repeated = fit(digits, tmp_path / "repeated", recipe=tmp_path / "run/recipe.yaml")
    assert weights_of(repeated) == weights_of(tmp_path / "run")


def test_a_plan_never_reaches_into_the_transition():
    """The steps before the plan were trained without the class; the transition may not have begun by then."""
    assert FitSettings().transition[0] >= member.PLAN_SHARE
    with pytest.raises(GanaugError, match="transition"):
        load_recipe({"fit": {"transition": [0.1, 0.5]}})
    assert load_recipe({"fit": {"transition": [0.2, 0.2]}}).fit.transition == (0.2, 0.2)
