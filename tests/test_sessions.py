"""A process alone in a folder, told to stop, killed: real processes where it matters."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ganaug import GanaugError, sessions
from ganaug.runs import filled_whole
from ganaug.sessions import BEGUN, LOCK, Stopped, end_with, signals_raise, signals_wait, sole, sweep

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
HOLD = """
import sys, time
from pathlib import Path
from ganaug.sessions import LOCK, sole
folder = Path(sys.argv[1])
with sole(folder / LOCK, folder):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(sessions, "PATIENCE", 0.0)


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path, impatient):
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE) as first:
        assert first.stdout.readline() == b"held\n"
        with pytest.raises(GanaugError, match=r"another process is at work in .*run"), sole(folder / LOCK, folder):
            pass
        first.kill()
        first.wait()
        assert (folder / LOCK).exists()  # the file outlives the process, the lock does not
        with sole(folder / LOCK, folder):
            (folder / "made").touch()
    assert [path.name for path in folder.iterdir()] == ["made"]


def test_a_folder_that_was_made_for_a_lock_goes_with_it(tmp_path):
    with sole(tmp_path / "deep/run" / LOCK, tmp_path / "deep/run"):
        assert (tmp_path / "deep/run" / LOCK).is_file()
    assert not list(tmp_path.iterdir())
    (tmp_path / "old").mkdir()
    with sole(tmp_path / "old" / LOCK, tmp_path / "old"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["old"]


def test_an_error_says_whether_something_was_begun(tmp_path):
    for name, notes in (("nothing", []), ("something", [BEGUN])):
        with pytest.raises(OSError) as caught, sole(tmp_path / name / LOCK, tmp_path / name):
            if notes:
                (tmp_path / name / "file").touch()
            raise OSError("full")
        assert getattr(caught.value, "__notes__", []) == notes


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(GanaugError, match="but a file"), sole(tmp_path / "run" / LOCK, tmp_path / "run"):
        pass
    assert (tmp_path / "run").read_text() == "mine"


def test_sweeping_removes_what_killed_processes_left_and_nothing_else(tmp_path, impatient):
    kept = ("a.json", ".hidden", ".manifest.csv.tmp", "busy/.b.json.123.tmp", "busy/" + LOCK)
    left = (".a.json.4711.tmp", "deep/.weights.safetensors.1.tmp", "deep/" + LOCK, ".pool.lock")
    for name in (*kept, *left):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with sole(tmp_path / LOCK, tmp_path), sole(tmp_path / "busy" / LOCK, tmp_path / "busy"):
        sweep(tmp_path)
        found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {*kept, LOCK}


def test_a_folder_is_filled_by_one_process_at_a_time(tmp_path, impatient):
    with filled_whole(tmp_path / "out") as partial:
        (partial / "file").touch()
        with pytest.raises(GanaugError, match="another process"), filled_whole(tmp_path / "out"):
            pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "out"]


def test_a_folder_that_has_left_its_progress_is_gone_on_with(tmp_path):
    with pytest.raises(OSError, match="full"), filled_whole(tmp_path / "out", progress=".halfway") as partial:
        (partial / "image").write_text("whole")
        (partial / ".halfway").touch()
        (partial / "..halfway.123.tmp").touch()  # as of a process that is killed while it saves
        raise OSError("full")
    assert not (tmp_path / "out").exists()
    with filled_whole(tmp_path / "out", progress=".halfway") as partial:
        assert (partial / "image").read_text() == "whole"
        (partial / ".halfway").unlink()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["image", "out"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_a_step(number):
    done = []
    before = [signal.getsignal(each) for each in sessions.SIGNALS]
    with pytest.raises(Stopped, match=number.name) as stopped, signals_raise(), signals_wait() as has_come:
        for step in range(5):
            if step == 2:
                os.kill(os.getpid(), number)
            done.append(step)
            if has_come():
                break
    assert done == [0, 1, 2] and stopped.value.number == number
    assert [signal.getsignal(each) for each in sessions.SIGNALS] == before


def test_a_second_signal_does_not_wait():
    with pytest.raises(Stopped), signals_raise(), signals_wait():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
        pytest.fail("it went on")


def test_handlers_of_others_and_other_threads_are_left_alone():
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append("theirs"))
    try:
        with signals_raise(), signals_wait() as has_come:
            os.kill(os.getpid(), signal.SIGTERM)
            assert came == ["theirs"] and not has_come()
    finally:
        signal.signal(signal.SIGTERM, before)
    failed = []

    def elsewhere():
        try:
            with signals_raise(), signals_wait() as has_come:
                assert not has_come()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert not failed


def test_a_worker_ends_with_its_parent_and_nobody_else_does():
    """A process starts another one and is killed."""
    worker = "import os, time; from ganaug.sessions import end_with; end_with(os.getppid()); print(os.getpid(), flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert int(process.stdout.readline()) > 0
        process.kill()
        assert process.stdout.read() == b""  # which ends with the last process that can write there
    end_with(os.getpid())  # this process
    end_with(1 if os.getppid() != 1 else 2)  # and one that is not its parent's
