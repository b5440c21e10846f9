"""What a study may cost, and what it says that it costs."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from studies import DEMO, STANDARD

from ganaug import GanaugError
from ganaug.study import cost
from ganaug.study.case import settle_case
from ganaug.study.compare import gan_seed
from ganaug.study.cost import LEAST, Pace, affordable_updates, count_updates, describe_cost

SECONDS = 0.01  # of an update


def case_of(run, folder, **settings):
    return settle_case(run, folder / "study", None, {"compare": STANDARD["compare"] | {"max_updates": 3200} | settings})


def test_every_gan_of_every_split_has_a_seed_of_its_own(tiny_run, tmp_path):
    case = case_of(tiny_run, tmp_path)
    for seed in (0, 1, 7):
        of_seed = replace(
            case, recipe=case.recipe.model_copy(update={"fit": case.recipe.fit.model_copy(update={"seed": seed})})
        )
        seeds = [gan_seed(of_seed, split, number) for split in range(5) for number in range(5)]
        assert seeds[0] == seed and len(set(seeds)) == 25


def test_settings_of_the_run_that_a_study_leaves_alone_are_told(tiny_run, tmp_path, caplog):
    for fit_settings, told in (({}, 0), ({"width": 8}, 1)):
        caplog.clear()
        settle_case(tiny_run, tmp_path / "study", None, {"compare": STANDARD["compare"], "fit": fit_settings})
        assert sum("compare uses the run as it is" in record.message for record in caplog.records) == told


@pytest.mark.parametrize("preset", ["demo", "standard"])
@pytest.mark.parametrize("budget", [60.0, 200.0, 500.0, 1000.0])
def test_a_budget_allows_as_many_updates_as_fit_into_it(tiny_run, tmp_path, preset, budget):
    case = case_of(tiny_run, tmp_path, preset=preset, budget=budget, jobs=2)
    longest = affordable_updates(case, SECONDS)
    assert longest > LEAST and count_updates(case, longest) * SECONDS / 2 <= budget
    assert longest == 3200 or count_updates(case, longest + 1) * SECONDS / 2 > budget


def test_without_a_budget_the_settings_say_how_many(tiny_run, tmp_path):
    assert affordable_updates(case_of(tiny_run, tmp_path), 1e9) == 3200
    assert affordable_updates(case_of(tiny_run, tmp_path, updates=7, budget=1.0), 1e9) == 7
    assert affordable_updates(case_of(tiny_run, tmp_path, budget=1.0), 1e9) == LEAST


def test_more_of_anything_costs_more(tiny_run, tmp_path):
    def updates(**settings):
        return count_updates(case_of(tiny_run, tmp_path, **settings), 800)

    usual = updates()
    assert updates(seeds=6) > usual and updates(inner_folds=5) > usual and updates(tune=False) < usual
    assert updates(**{key: DEMO["compare"][key] for key in ("preset",)}) < usual


@pytest.mark.parametrize(
    ("settings", "gans", "rounds"),
    # GANs of four repetitions but the run's own, and of two inner folds
    [({}, 3 + 2, 3), ({"gans": 1}, 0 + 2, 1), ({"gans": 1, "jobs": 1}, 0 + 2, 2)],
)
def test_gans_are_counted_in_rounds_of_as_many_as_there_are_processes(
    tiny_run, tmp_path, monkeypatch, settings, gans, rounds
):
    monkeypatch.setattr(cost, "gan_seconds", lambda *_: 3600.0)
    case = case_of(tiny_run, tmp_path, **{"jobs": 2, "seeds": 4, **settings})
    said = describe_cost(case, Pace(0.0, 10))
    assert f"{gans} GANs to train" in said and said.endswith(f"of which {rounds}h for GANs")


@pytest.mark.parametrize("value", [None, "1", [1], {}, True, -1, float("nan"), float("inf"), 10**40])
def test_damaged_times_are_named(tmp_path, value):
    clock = cost.Clock(tmp_path)
    (tmp_path / "seconds.json").write_text(json.dumps({"arms": value}))
    with pytest.raises(GanaugError, match=r"its arms is .* Delete it and repeat"), clock.time("arms"):
        pytest.fail("the work has begun")
    (tmp_path / "pace.json").write_text(json.dumps({"seconds_per_update": value, "longest": 3}))
    with pytest.raises(GanaugError, match="its seconds_per_update is"):
        cost.measure_pace(SimpleNamespace(folder=tmp_path), None)
