"""The benchmark of a training step, at a small size, and what it says of a GPU where there is none."""

import json
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "recipes" / "benchmarks"


@pytest.fixture
def speed(monkeypatch, tmp_path):
    """recipes/benchmarks/speed.py, which keeps its results elsewhere."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import records
    import speed

    for module in (records, speed):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    yield speed
    for name in ("speed", "records"):
        del sys.modules[name]


def run(speed, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["speed.py", *arguments])
    speed.main()
    return json.loads((speed.RESULTS / "speed.json").read_text(encoding="utf-8"))


def test_it_measures_on_a_cpu_and_leaves_the_bars_of_a_gpu_open(speed, monkeypatch):
    record = run(speed, monkeypatch, "--threads", "1", "--rounds", "1", "--steps", "1", "--batch", "4")
    measured = [bar for bar in record["bars"] if bar["met"] is not None]
    left = [bar for bar in record["bars"] if bar["met"] is None]
    assert len(measured) == 4 and all(bar["value"] > 0 and " cpu" in bar["name"] for bar in measured)
    assert [bar["bar"] for bar in left] == [">= 0.4", "<= 0.05"] * 2 + [">= 3.0"] * 2
    assert all(bar["value"] is None and "cuda" in bar["name"] and "needs a GPU" in bar["name"] for bar in left)
    assert all(values["batch"] == 4 and values["arithmetic_share"] > 0 for values in record["measured"].values())


def test_open_bars_are_put_in_without_changing_what_was_measured(speed, monkeypatch):
    kept = json.loads((BENCHMARKS / "results/speed.json").read_text(encoding="utf-8"))
    done = [bar for bar in kept["bars"] if bar["met"] is not None]
    before = kept | {"bars": [{"name": "of old", "value": None, "bar": "", "met": None}, *done]}
    (speed.RESULTS / "speed.json").write_text(json.dumps(before), encoding="utf-8")
    after = run(speed, monkeypatch, "--only-open")
    assert after == kept | {"bars": [*done, *after["bars"][len(done) :]]} and len(after["bars"]) == len(done) + 6
    assert run(speed, monkeypatch, "--only-open") == after
    (speed.RESULTS / "speed-cuda.json").touch()  # once a GPU has been measured, nothing is open here
    assert run(speed, monkeypatch, "--only-open")["bars"] == done
    assert [bar.bar for bar in speed.still_open("cuda")] == [">= 3.0"] * 2


@pytest.mark.parametrize(
    ("intervals", "share"),
    [
        ([(10, 20)], 0.0),
        ([(0, 10), (15, 20)], 0.25),
        ([(15, 20), (0, 10)], 0.25),
        ([(0, 100), (10, 20), (30, 40)], 0.0),  # of another stream, inside
        ([(0, 6), (4, 8), (9, 10), (10, 12), (16, 20)], 0.25),
    ],
)
def test_gaps_are_where_nothing_runs(speed, intervals, share):
    assert speed.share_of_gaps(intervals) == pytest.approx(share)


def test_kernels_are_noted_with_their_times(speed):
    weights = torch.rand(64, 64)
    found = speed.kernels(lambda: weights @ weights, torch.device("cpu"), times=5)
    assert len(found) >= 5 and all(start <= end for start, end in found)
    assert 0 <= speed.share_of_gaps(found) < 1
