"""What a synthesis would cost, against the synthesis itself."""

import shutil

import pytest
from small import CLASS_NAMES, files_of
from tiny import ganaug, refused

from ganaug import GanaugError, estimate_synthesize
from ganaug.synthesis import filters, forecast, raw, synthesize
from ganaug.synthesis.filters import FILTERS
from ganaug.synthesis.sample import CHUNK

ALL = list(FILTERS)
ASKED = {"synthesize": {"per_class": 100}}


def bytes_of(folder):
    return sum(map(len, files_of(folder).values()))


@pytest.mark.parametrize("how", [{}, {"raw": True}, {"raw": True, "shards": True}])
def test_an_estimate_is_near_what_comes_and_writes_nothing(tiny_run, tmp_path, monkeypatch, how):
    run = shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("curation"))
    monkeypatch.chdir(tmp_path)
    before = files_of(tmp_path)
    found = estimate_synthesize(run, recipe=ASKED, device="cpu", **how)
    assert files_of(tmp_path) == before
    assert found.counts == dict.fromkeys(CLASS_NAMES, 100) and found.images == 300
    assert found.measured == 4 * CHUNK and found.processes == 1 and found.memory > 10**8
    assert found.candidates == (300 if how else 3 * 2 * CHUNK)
    synthesize.synthesize(run, "out", recipe=ASKED, device="cpu", **how)
    assert found.disk == pytest.approx(bytes_of(tmp_path / "out"), rel=0.15)
    assert found.seconds > (found.candidates - CHUNK) * found.seconds_per_candidate > 0


def test_of_what_the_tests_reject_more_is_made(tiny_run, monkeypatch):
    """Every second candidate of one class is a copy, every one of another."""

    def some(evidence, limits, passed, kept):
        rejected = {0: [True, False], 1: [True, True], 2: [False, False]}
        return [rejected[label][number % 2] for number, label in enumerate(evidence.labels)]

    monkeypatch.setitem(filters.FILTERS, "copy", lambda *given: filters.np.array(some(*given)))
    recipe = ASKED | {"curation": {"without": [name for name in ALL if name != "copy"], "max_candidates": 3}}
    found = estimate_synthesize(tiny_run, recipe=recipe, device="cpu")
    assert (found.passed, found.measured) == (2 * CHUNK, 4 * CHUNK)
    assert found.candidates == 4 * CHUNK + 5 * CHUNK + 2 * CHUNK and found.images == 200
    assert "200 images of the 300 asked for, 704 candidates" in forecast.format_synthesis(found)


def test_many_images_are_made_in_processes_and_classes_are_measured_in_part(tiny_run, monkeypatch):
    monkeypatch.setattr(raw, "cpu_count", lambda: 2)
    monkeypatch.setattr(forecast, "num_cores", lambda: 2)
    monkeypatch.setattr(forecast, "MEASURED_CLASSES", 2)
    monkeypatch.setattr(forecast, "measure", lambda *given: costs.append(given[2]) or COSTS)
    costs = []
    found = estimate_synthesize(tiny_run, recipe={"synthesize": {"per_class": 10_000}}, raw=True, device="cpu")
    assert costs == [["0", "2"]] and found.processes == 2 and found.images == 30_000
    assert found.seconds == pytest.approx(3 + (30_000 - CHUNK) * 0.0025)  # both cores make and write
    assert found.disk == 7 + 30_000 * (10 + 1000)
    assert "in each of 3 processes" in forecast.format_synthesis(found)


COSTS = forecast.Costs(
    candidates={"0": 128, "2": 64},
    kept={"0": 128, "2": 64},
    before=2.0,
    making=0.004,
    writing=0.001,
    after=1.0,
    rows=192 * 10,
    images=192 * 1000,
    findings=0,
    others=7,
)


def test_nothing_asked_for_costs_next_to_nothing(tiny_run):
    found = estimate_synthesize(tiny_run, recipe={"synthesize": {"per_class": 0}}, device="cpu")
    assert (found.images, found.candidates, found.measured) == (0, 0, 0)


def test_real_images_beside_count(tiny_run, digits, tmp_path):
    recipe = {"synthesize": {"per_class": 1}}
    alone = estimate_synthesize(tiny_run, recipe=recipe, raw=True, device="cpu")
    beside = estimate_synthesize(tiny_run, recipe=recipe, raw=True, with_real=digits, device="cpu")
    assert beside.disk - alone.disk >= bytes_of(digits / "train")
    with pytest.raises(GanaugError, match="is not what the run was trained on"):
        (tmp_path / "0").mkdir()
        shutil.copy(next((digits / "train/0").iterdir()), tmp_path / "0/a.png")
        estimate_synthesize(tiny_run, recipe=recipe, raw=True, with_real=tmp_path, device="cpu")


def test_a_dry_run_tells_and_writes_nothing(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = ganaug("synthesize", tiny_run, "--per-class", 7, "--raw", "--dry-run", "--out", "out").stdout
    assert "0              8          7" in text and "per_class: 7" in text
    assert "measured: 256 of 256 candidates would be kept" in text and "estimate: 21 images, 21 candidates of " in text
    assert not list(tmp_path.iterdir())
    assert "synthesize needs --out" in refused("synthesize", tiny_run)
    assert "no other options" in refused("synthesize", tiny_run, "--rebuild", "manifest.csv", "--dry-run")
