"""`estimate_fit`, which writes nothing and says what `fit` would cost."""

from dataclasses import replace

import pytest
from interruptions import member_of
from small import TRAIN_COUNTS, with_settings

from ganaug import load_recipe
from ganaug.gan import forecast, member
from ganaug.gan.forecast import estimate_fit, format_estimate
from ganaug.gan.strategies import STRATEGIES


def test_an_estimate_writes_nothing_and_counts_what_fit_would_use(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    estimate = estimate_fit(digits, recipe=with_settings())
    assert list(tmp_path.iterdir()) == []
    assert (estimate.steps, estimate.counts, estimate.image_size, estimate.channels) == (12, TRAIN_COUNTS, 16, 1)
    assert estimate.seconds > 12 * estimate.seconds_per_step > 0
    text = format_estimate(estimate)
    assert "19 in 3 classes" in text and "estimate: 12 steps" in text and "width: 4" in text


def test_an_estimate_counts_the_checkpoints_and_the_bytes_of_the_training(digits, tiny_run):
    found = estimate_fit(digits, recipe=with_settings())
    joint = STRATEGIES["joint"](3)[0]
    settings = load_recipe(tiny_run / "recipe.yaml").fit
    assert forecast.checkpoints_of(12, joint, settings) == len(member_of(tiny_run)["checkpoints"])
    weighty = [path for path in tiny_run.rglob("*") if path.suffix in (".safetensors", ".npy", ".png")]
    stored = sum(path.stat().st_size for path in weighty if "curation" not in path.parts)
    assert stored <= found.disk < found.disk_peak and found.disk == pytest.approx(stored, rel=0.25)
    assert found.memory > 10**8


def test_an_estimate_tells_the_memory_of_the_gpu_apart(digits):
    found = estimate_fit(digits, recipe=with_settings())
    assert found.gpu_memory is None and "GPU" not in format_estimate(found)
    text = format_estimate(replace(found, gpu_memory=1_500_000_000))
    assert text.splitlines()[-1] == "on the GPU: 1.5 GB of its memory"


def test_an_estimate_turns_a_budget_into_steps(digits, monkeypatch):
    monkeypatch.setattr(forecast, "measure", lambda *_: forecast.Costs(0.05, 0.0, 0, 0, 0))
    assert estimate_fit(digits, recipe=with_settings(fit={"steps": None, "budget": "2m"})).steps == round(
        member.STEPS_SHARE * 2400
    )
