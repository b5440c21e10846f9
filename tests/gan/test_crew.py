"""Members of a run that train at the same time: the same bits, stopped and gone on with together, and what is heard of them."""

import logging
import os
import signal
import threading
import time

import pytest
import torch
from interruptions import member_of, trained
from joblib.externals.loky import reusable_executor
from small import weights_of, with_settings

from ganaug import GanaugError
from ganaug.gan import convergence, crew, forecast, member, validation
from ganaug.gan.crew import STOP, TOLD, num_jobs, threads_to_try
from ganaug.gan.forecast import estimate_fit, format_estimate
from ganaug.gan.planning import planned_steps, planned_total, settle_plan
from ganaug.gan.ranks import Part
from ganaug.gan.strategies import STRATEGIES, member_steps
from ganaug.gan.training import fit
from ganaug.recipe import load_recipe
from ganaug.runs import RunFolder
from ganaug.sessions import LOCK, Stopped
from ganaug.settings import FitSettings
from ganaug.watch import status

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LONG = {"strategy": "per-class", "steps": 450, "sample_interval": 1e6}  # long enough to be stopped on the way


@pytest.fixture(autouse=True, scope="module")
def as_in_workers():
    """Which do not hurry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(member, "duality_gap", convergence.duality_gap)
        patch.setattr(member, "validate", validation.validate)
        yield


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    """LONG, one member after another."""
    return trained(fit(digits, tmp_path_factory.mktemp("whole") / "run", recipe=with_settings(fit=LONG | {"jobs": 1})))


def at_work(run, action):
    """Calls `action` once two members are on their way; returns the thread."""

    def watch():
        for _ in range(6000):
            told = [path.read_text() for path in run.glob(f"members/*/{TOLD}")]
            if sum('"share": 0.' in text for text in told) >= 2:
                action()
                return
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def leftovers(run):
    return [path.name for path in run.rglob("*") if path.name in (STOP, TOLD, LOCK, "plan.json", "state.pt")]


@pytest.mark.parametrize("strategy", ["per-class", "specialised"])
def test_two_at_a_time_are_the_same_networks(digits, tmp_path, strategy):
    settings = {"strategy": strategy, "steps": 15}
    runs = [fit(digits, tmp_path / f"{n}", recipe=with_settings(fit=settings | {"jobs": n})) for n in (1, 2)]
    assert trained(runs[0]) == trained(runs[1])
    assert leftovers(runs[1]) == []


def test_a_signal_lets_all_save_and_they_go_on_with_any_number(digits, tmp_path, whole):
    run, seen = tmp_path / "run", []

    def stop():
        time.sleep(1.2)  # a look at what the workers have told
        seen.extend(status(run))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = at_work(run, stop)
    with pytest.raises(Stopped, match="SIGTERM"):
        fit(digits, run, recipe=with_settings(fit=LONG | {"jobs": 2}))
    thread.join()
    assert seen[0].state == "running" and seen[0].doing.startswith("fit 3 GANs: ")
    assert sorted(path.parent.name for path in run.rglob("state.pt")) == ["class-0", "class-1"]
    assert set(leftovers(run)) == {"state.pt"}
    for name in ("class-0", "class-1"):
        assert 0 < max(step for step in saved_steps(run, name)) < 150
    fit(digits, run, recipe={"fit": {"jobs": 1}}, resume=True)
    assert trained(run) == whole and leftovers(run) == []


def saved_steps(run, name):
    content = (run / "members" / name / "state.pt").read_bytes().partition(b"\n")[2]
    path = run.parent / f"{name}.pt"
    path.write_bytes(content)
    return [torch.load(path, weights_only=True)["now"]["counters"][0]]


def test_a_worker_that_dies_is_told_in_one_line_and_its_run_goes_on(digits, tmp_path, whole):
    run = tmp_path / "run"
    thread = at_work(run, lambda: os.kill(next(iter(reusable_executor._executor._processes)), signal.SIGKILL))
    said = rf"^a worker process died, .*What was finished is kept; go on with: ganaug fit .* --out {run} --resume(\n|$)"
    with pytest.raises(GanaugError, match=said):
        fit(digits, run, recipe=with_settings(fit=LONG | {"jobs": 2, "checkpoint_interval": 1e-9}))
    thread.join()
    fit(digits, run, resume=True)
    assert trained(run) == whole and leftovers(run) == []


def test_a_member_that_fails_lets_the_others_save(digits, tmp_path, whole):
    run = tmp_path / "run"
    thread = at_work(run, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Stopped, match="SIGINT"):
        fit(digits, run, recipe=with_settings(fit=LONG | {"jobs": 2}))
    thread.join()
    state = run / "members/class-0/state.pt"
    state.write_bytes(state.read_bytes()[:500])
    with pytest.raises(GanaugError, match=r"class-0/state\.pt cannot be loaded: .*Delete it"):
        fit(digits, run, resume=True)
    assert (run / "members/class-1/state.pt").is_file() or (run / "members/class-1/member.json").is_file()
    state.unlink()
    fit(digits, run, resume=True)
    assert trained(run) == whole


def test_a_budget_gives_all_members_the_steps_that_one_has_settled(digits, tmp_path):
    recipe = with_settings(fit={"strategy": "per-class", "steps": None, "budget": "4s", "jobs": 2})
    run = fit(digits, tmp_path / "run", recipe=recipe)
    total = load_recipe(run / "recipe.yaml").fit.steps
    for each in STRATEGIES["per-class"](3):
        assert member_of(run, each.name)["steps"] == member_steps(each, total) > 1
    again = fit(digits, tmp_path / "again", recipe=run / "recipe.yaml")
    assert all(weights_of(run, f"class-{k}") == weights_of(again, f"class-{k}") for k in range(3))


def test_a_cluster_gives_the_same_networks(digits, tmp_path):
    distributed = pytest.importorskip("distributed")
    settings = {"strategy": "per-class", "steps": 15}
    alone = fit(digits, tmp_path / "alone", recipe=with_settings(fit=settings))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        recipe = with_settings(fit=settings | {"cluster": cluster.scheduler_address})
        together = fit(digits, tmp_path / "cluster", recipe=recipe)
    assert trained(together) == trained(alone) and leftovers(together) == []


def test_the_first_to_settle_the_steps_decides_for_all(tmp_path):
    folder, members = RunFolder(tmp_path), STRATEGIES["per-class"](3)
    assert planned_total(folder) is None and planned_steps(folder, members[0]) is None
    assert settle_plan(folder, members[1], 40) == 40
    assert settle_plan(folder, members[0], 70) == 40
    assert planned_total(folder) == 120 and planned_steps(folder, members[2]) == 40
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize(
    ("strategy", "settings", "device", "jobs"),
    [
        ("per-class", {"threads": 1}, CPU, 3),  # no more than there are
        ("per-class", {"threads": 4}, CPU, 2),
        ("per-class", {"threads": 16}, CPU, 1),
        ("per-class", {"threads": 4, "jobs": 1}, CPU, 1),
        ("specialised", {"threads": 4, "jobs": 5}, CPU, 3),
        ("joint", {"jobs": 5}, CPU, 1),
        ("per-class", {}, GPU, 1),
        ("per-class", {"jobs": 2}, GPU, 2),
    ],
)
def test_how_many_train_at_a_time(monkeypatch, strategy, settings, device, jobs):
    monkeypatch.setattr(crew, "num_cores", lambda: 8)
    members = STRATEGIES[strategy](3)
    assert num_jobs(FitSettings(**settings), members, device) == jobs
    monkeypatch.setattr(crew, "current", lambda: Part(0, 2))
    assert num_jobs(FitSettings(**settings), members, device) == 1


@pytest.mark.parametrize(
    ("strategy", "settings", "threads"),
    [
        ("joint", {}, [1, 4, 8]),
        ("specialised", {}, [1, 4, 8]),  # the trunk is alone
        ("specialised", {"jobs": 2}, [1, 2, 4]),
        ("per-class", {}, [1, 2]),
        ("per-class", {"jobs": 1}, [1, 4, 8]),
    ],
)
def test_the_threads_that_are_free_for_each_are_tried(monkeypatch, strategy, settings, threads):
    monkeypatch.setattr(crew, "num_cores", lambda: 8)
    assert threads_to_try(FitSettings(**settings), STRATEGIES[strategy](3), CPU, 8) == threads


def test_an_estimate_counts_the_processes(digits, monkeypatch):
    monkeypatch.setattr(forecast, "measure", lambda *_: forecast.Costs(1.0, 0.0, 1000, 0, 0))
    settings = {"strategy": "per-class", "steps": 3000}
    one, two = (estimate_fit(digits, recipe=with_settings(fit=settings | {"jobs": n})) for n in (1, 2))
    assert (one.jobs, two.jobs) == (1, 2)
    assert one.seconds == pytest.approx(3000, rel=0.02)
    assert two.seconds == pytest.approx(2000 * forecast.SHARED_CORES, rel=0.02)  # two, and then the third
    assert two.memory > 2 * one.memory
    assert two.disk == one.disk and two.disk_peak > one.disk_peak
    assert "2 GANs at a time" in format_estimate(two) and "at a time" not in format_estimate(one)
    settings = {"strategy": "per-class", "steps": None, "budget": "50m"}
    one, two = (estimate_fit(digits, recipe=with_settings(fit=settings | {"jobs": n})) for n in (1, 2))
    assert two.steps == pytest.approx(one.steps * 1.5 / forecast.SHARED_CORES, rel=0.01)
    assert one.seconds == pytest.approx(two.seconds, rel=0.02)


def test_what_workers_say_is_said_here(digits, tmp_path, caplog):
    caplog.set_level(logging.INFO, "ganaug")
    fit(digits, tmp_path / "run", recipe=with_settings(fit={"strategy": "per-class", "steps": 6, "jobs": 2}))
    kept = [record.message for record in caplog.records if "kept step" in record.message]
    assert sorted(message[:12] for message in kept) == [f"fit class-{k}:" for k in range(3)]
