"""The same call on a cluster: a real local one of two workers, of which one is killed on the way."""

import os
import signal
import threading
import time

import joblib
import pytest
from small import TINY

import ganaug.cluster as cluster_module
from ganaug import GanaugError
from ganaug.runs import read_json
from ganaug.settings import CompareSettings
from ganaug.study import pieces
from ganaug.study.compare import compare

SETTINGS = TINY["compare"] | {"preset": "demo", "updates": 40, "seeds": 8, "arms": ("scratch/real+synthetic",)}


@pytest.fixture
def cluster():
    """Two worker processes of one thread."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as found:
        yield found


def numbers_of(folder):
    study = read_json(folder / "study.json")
    return {key: study[key] for key in ("arms", "differences", "confusion", "verdict", "choices")}


def kill_one(cluster, folder, killed):
    """Kills a worker as soon as the first pieces are there."""
    for _ in range(6000):
        if len(list((folder / "pieces").glob("*.npz"))) >= 2:
            worker = next(iter(cluster.workers.values()))
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)
            return
        time.sleep(0.05)


def test_a_study_on_a_cluster_that_loses_a_worker_ends_with_the_same_numbers(
    cluster, tiny_run, tiny_synthetic, tmp_path
):
    alone = compare(tiny_run, tmp_path / "alone", synthetic=tiny_synthetic, recipe={"compare": SETTINGS})
    folder, killed = tmp_path / "cluster", []
    thread = threading.Thread(target=kill_one, args=(cluster, folder, killed))
    thread.start()
    settings = SETTINGS | {"cluster": cluster.scheduler_address}
    together = compare(tiny_run, folder, synthetic=tiny_synthetic, recipe={"compare": settings})
    thread.join()
    assert len(killed) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(killed[0], 0)
    assert len(list((folder / "pieces").glob("*.npz"))) == 16
    assert numbers_of(together.folder) == numbers_of(alone.folder)


def slowly(number):
    time.sleep(0.3)
    return number


def test_a_cluster_without_workers_is_not_waited_for_for_ever(monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(cluster_module, "WORKERS_GONE", 1.0)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, silence_logs=50
    ) as cluster:
        settings = CompareSettings(cluster=cluster.scheduler_address)
        finished = pieces.in_parallel(slowly, ((number,) for number in range(20)), 20, settings)
        assert next(finished) in range(20)
        cluster.scale(0)
        with pytest.raises(GanaugError, match=r"has had no workers for \d+ seconds\. What was finished is kept"):
            list(finished)
        monkeypatch.setattr(cluster_module, "WORKERS_TIMEOUT", 1)
        with pytest.raises(GanaugError, match=r"no worker has come to the cluster .* within 1 seconds"):
            list(pieces.in_parallel(slowly, [(1,)], 1, settings))
        cluster.scale(2)
        cluster.wait_for_workers(2)
        assert set(pieces.in_parallel(slowly, [(1,), (2,)], 2, settings)) == {1, 2}


def test_several_processes_change_nothing(tiny_run, tiny_synthetic, tmp_path):
    few = SETTINGS | {"seeds": 2, "updates": 4}
    alone = compare(tiny_run, tmp_path / "alone", synthetic=tiny_synthetic, recipe={"compare": few})
    two = compare(tiny_run, tmp_path / "two", synthetic=tiny_synthetic, recipe={"compare": few | {"jobs": 2}})
    assert numbers_of(alone.folder) == numbers_of(two.folder)


def test_threads_are_refused_since_they_share_one_random_stream(tiny_run, tiny_synthetic, tmp_path):
    few = {"compare": SETTINGS | {"seeds": 2, "updates": 4}}
    for backend in ("threading", "multiprocessing"):
        said = rf"joblib's {backend} backend cannot train in parallel.*--nthreads 1"
        with joblib.parallel_config(backend=backend), pytest.raises(GanaugError, match=said):
            compare(tiny_run, tmp_path / backend, synthetic=tiny_synthetic, recipe=few)
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as cluster:
        few["compare"]["cluster"] = cluster.scheduler_address
        with pytest.raises(GanaugError, match=r"workers of several threads.*--nthreads 1"):
            compare(tiny_run, tmp_path / "cluster", synthetic=tiny_synthetic, recipe=few)


def test_a_cluster_that_does_not_answer_is_named(tiny_run, tiny_synthetic, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster_module, "WORKERS_TIMEOUT", 1)
    settings = SETTINGS | {"cluster": "tcp://127.0.0.1:1"}
    with pytest.raises(GanaugError, match=r"the cluster tcp://127\.0\.0\.1:1 does not answer"):
        compare(tiny_run, tmp_path / "study", synthetic=tiny_synthetic, recipe={"compare": settings})
