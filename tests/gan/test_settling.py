"""What a short measurement decides: threads, precision, width, batches; once, and kept."""

import json
import math

import pytest
import torch
import yaml
from interruptions import EVERY_STEP, interrupted_fit, set_pace
from small import TINY, weights_of, with_settings

from ganaug import load_recipe
from ganaug.gan import settling
from ganaug.gan.forecast import estimate_fit
from ganaug.gan.training import fit


def test_what_a_run_has_settled_answers_what_a_recipe_leaves_open(tiny_run, digits):
    before = weights_of(tiny_run)
    open_again = with_settings(data={"image_size": "auto"}, fit={"threads": None, "precision": "auto", "steps": None})
    assert fit(digits, tiny_run, recipe=open_again, resume=True) == tiny_run
    assert weights_of(tiny_run) == before


def test_the_fastest_threads_are_found_once_and_kept(digits, tmp_path, monkeypatch):
    tried = []

    def measure_pace(data, member, settings, device, threads):
        tried.append(threads)
        return {1: 0.05, 2: 0.03, 4: 0.04}[threads]

    monkeypatch.setattr(settling, "num_cores", lambda: 4)
    monkeypatch.setattr(settling, "measure_pace", measure_pace)
    run = fit(digits, tmp_path / "run", recipe=with_settings(fit={"threads": None, "steps": 1}))
    assert yaml.safe_load((run / "recipe.yaml").read_text())["fit"]["threads"] == 2 and set(tried) == {1, 2, 4}
    tried.clear()
    again = fit(digits, tmp_path / "again", recipe=run / "recipe.yaml")
    assert yaml.safe_load((again / "recipe.yaml").read_text())["fit"]["threads"] == 2 and set(tried) <= {2}


def test_bf16_is_taken_where_single_precision_is_not_clearly_faster(digits, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    for plain, threads, chosen in ((0.95, None, "bf16"), (0.8, None, "fp32"), (0.8, 1, "fp32"), (9.0, 1, "bf16")):
        paces = {"auto": 1.0, "fp32": plain}
        monkeypatch.setattr(settling, "measure_pace", lambda *given, paces=paces: paces[given[2].precision])
        open_ones = {"threads": threads, "precision": "auto", "width": "auto"}
        assert estimate_fit(digits, recipe=with_settings(fit=open_ones)).recipe.fit.precision == chosen


def pace_of_width(paces):
    return lambda data, member, settings, device, threads: paces[settings.width]


def test_the_widest_networks_that_leave_enough_steps_are_taken(digits, monkeypatch):
    narrow, wide = settling.WIDTHS["cpu"]
    budget = {"steps": None, "budget": 2.0 * settling.ENOUGH_STEPS, "width": "auto"}
    for pace, strategy, chosen in ((1.9, "joint", wide), (2.1, "joint", narrow), (1.9, "per-class", narrow)):
        monkeypatch.setattr(settling, "measure_pace", pace_of_width({narrow: 0.5, wide: pace}))
        recipe = with_settings(fit=budget | {"strategy": strategy})
        assert estimate_fit(digits, recipe=recipe).recipe.fit.width == chosen


def test_a_given_number_of_steps_settles_the_width_whatever_the_pace(digits, monkeypatch):
    widths = set()
    for pace in (0.001, 1000.0):
        monkeypatch.setattr(settling, "measure_pace", lambda *_, pace=pace: pace)
        widths.add(estimate_fit(digits, recipe=with_settings(fit={"width": "auto"})).recipe.fit.width)
    assert len(widths) == 1 and "auto" not in widths


@pytest.mark.parametrize(
    ("changes", "paces", "chosen"),
    [
        ({}, {8: 1.0, 16: 1.1, 32: 1.3}, 32),
        ({}, {8: 1.0, 16: 1.3, 32: 1.3}, 8),
        ({}, {8: 1.0, 16: 1.1, 32: 1.4}, 16),
        ({}, {8: 1.0, 16: 1.22}, 8),
        ({}, {8: 1.0, 16: math.inf}, 8),  # more than the memory holds
        ({}, {8: math.inf, 4: math.inf, 16: math.inf, 32: math.inf}, 8),  # nothing fits, for the moment
        ({}, {8: math.inf, 4: 1.0, 16: 1.0}, 8),  # 8 did not fit when it was tried
        ({"threads": None, "width": "auto"}, {8: 1.0, 16: 1.1, 32: 1.1}, 32),
        ({"batch_size": 12}, {12: 1.0}, 12),
        ({"steps": 9}, {32: 1.0}, 32),  # the same on any device
    ],
)
def test_batches_grow_where_a_step_takes_hardly_longer(digits, monkeypatch, changes, paces, chosen):
    monkeypatch.setattr(settling, "WIDTHS", {"cpu": (4, 8)})
    monkeypatch.setattr(settling, "BATCHES", {"cpu": (8, 16, 32)})
    monkeypatch.setattr(settling, "measure_pace", lambda *given: paces[given[2].batch_size])
    recipe = with_settings(fit={"steps": None, "budget": "20s", "batch_size": "auto"} | changes)
    assert estimate_fit(digits, recipe=recipe).recipe.fit.batch_size == chosen


def test_batches_do_not_grow_on_a_cpu(digits, monkeypatch):
    measured = set()
    monkeypatch.setattr(settling, "measure_pace", lambda *given: measured.add(given[2].batch_size) or 1.0)
    recipe = with_settings(fit={"steps": None, "budget": "20s", "batch_size": "auto", "threads": None})
    assert estimate_fit(digits, recipe=recipe).recipe.fit.batch_size == 32 and measured == {32}
    assert settling.BATCHES["cuda"] == (32, 64, 128)


def test_the_width_and_the_batch_that_the_pace_has_settled_are_kept(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(settling, "WIDTHS", {"cpu": (4, 8)})
    monkeypatch.setattr(settling, "ENOUGH_STEPS", 10)
    monkeypatch.setattr(settling, "measure_pace", pace_of_width({4: 1.0, 8: 1.5}))
    monkeypatch.setattr(settling, "BATCHES", {"cpu": (8, 16)})
    open_ones = {"width": "auto", "batch_size": "auto"}
    recipe = with_settings(fit={"steps": None, "budget": "20s", "checkpoint_interval": EVERY_STEP} | open_ones)
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        set_pace(patch, [1.0])
        interrupted_fit(patch, digits, out, recipe, at=5)
        monkeypatch.setattr(settling, "measure_pace", pace_of_width({4: 1.0, 8: 99.0}))
        monkeypatch.setattr(settling, "BATCHES", {"cpu": (8,)})
        set_pace(patch, [1.0])
        fit(digits, out, recipe=recipe, resume=True)
    kept = yaml.safe_load((out / "recipe.yaml").read_text())["fit"]
    assert (kept["width"], kept["batch_size"]) == (8, 16)
    assert json.loads((out / "members/joint/member.json").read_text())["shape"]["width"] == 8


def test_the_stored_recipe_settles_what_the_machine_decided(digits, tmp_path):
    run = fit(digits, tmp_path / "run", recipe={"fit": TINY["fit"] | {"precision": "auto", "steps": 1}})
    stored = load_recipe(run / "recipe.yaml")
    assert stored.data.image_size == 16 and stored.fit.precision in ("fp32", "bf16")
