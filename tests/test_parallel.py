"""Results of processes in order, however slow their consumer; and who ends when."""

import os
import signal
import time
from functools import partial

import pytest
from folders import write_images
from small import CLASS_NAMES
from tiny import python

from ganaug import GanaugError, parallel
from ganaug.parallel import AHEAD, in_order, in_threads

JOBS = 2
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def noted(function, folder, item, *options, **more):
    """The function's result, and a file for each call, whichever process it is made in."""
    (folder / f"{time.monotonic_ns()}-{os.getpid()}").touch()
    return function(item, *options, **more)


def double(item):
    if item == "bad":
        raise GanaugError("a bad item")
    if item == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * item


def settled(folder):
    """How many calls there have been, once there are no more."""
    before, now = -1, 0
    while before != now or not now:
        time.sleep(0.4)
        before, now = now, len(list(folder.iterdir()))
    return now


def test_results_come_in_order_and_do_not_pile_up(tmp_path):
    made = in_order(partial(noted, double, tmp_path), range(40), JOBS)
    for number in range(2):
        assert next(made) == 2 * number
        assert AHEAD * JOBS - 1 <= settled(tmp_path) - number <= AHEAD * JOBS  # the first is in the consumer's hands
    assert list(made) == [2 * number for number in range(2, 40)]
    assert len(list(tmp_path.iterdir())) == 40


def test_images_without_tests_do_not_pile_up(tiny_run, tmp_path, monkeypatch):
    from ganaug.runs import open_run  # here, since the processes of other tests import this module, too
    from ganaug.settings import SynthesizeSettings
    from ganaug.synthesis import raw
    from ganaug.synthesis.tally import Tally

    monkeypatch.setattr(raw, "TASK", 1)
    monkeypatch.setattr(raw, "make", partial(noted, raw.make, tmp_path))
    folder, info = open_run(tiny_run)
    device, tallies = raw.torch.device("cpu"), [Tally("0", 40)]
    made = raw.make_raw(folder, info["strategy"], CLASS_NAMES, tallies, SynthesizeSettings(), device, JOBS)
    next(made)
    assert settled(tmp_path) <= AHEAD * JOBS
    assert len(list(made)) == 39


def test_files_that_were_read_do_not_pile_up(tmp_path, monkeypatch):
    from ganaug.data import scan
    from ganaug.data.source import open_source

    calls = tmp_path / "calls"
    calls.mkdir()
    source = open_source(write_images(tmp_path / "data", {"cat": 20, "dog": 20}))
    for name, value in (("FEW", 1), ("CHUNK", 1), ("cpu_count", lambda: JOBS)):
        monkeypatch.setattr(scan, name, value)
    monkeypatch.setattr(scan, "examine_part", partial(noted, scan.examine_part, calls))
    found = scan._examine_all(source, 16, "crop")
    next(found)
    assert settled(calls) <= AHEAD * JOBS
    assert len(list(found)) == 39


def test_what_a_process_raises_arrives_in_its_place():
    made = in_order(double, [1, 2, "bad", 3], JOBS)
    assert [next(made), next(made)] == [2, 4]
    with pytest.raises(GanaugError, match="a bad item"):
        next(made)


def test_a_killed_process_is_told_of():
    with pytest.raises(GanaugError, match="a worker process died"):
        list(in_order(double, [1, "deadly", 3], JOBS))


def test_processes_end_with_the_generator_and_leave_ctrl_c_to_its_consumer():
    made = in_order(interrupted, range(40), JOBS)
    process = next(made)
    os.kill(process, 0)
    made.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def interrupted(item):
    os.kill(os.getpid(), signal.SIGINT)
    return os.getpid()


def test_threads_give_results_and_errors_in_order():
    def late(item):
        time.sleep(0.02 * (3 - item))
        return double("bad" if item == 3 else item)

    made = in_threads(late, range(4), 3)
    assert [next(made), next(made), next(made)] == [0, 2, 4]
    with pytest.raises(GanaugError, match="a bad item"):
        next(made)
    assert list(in_threads(late, [], 3)) == []


def test_threads_begin_nothing_more_once_nobody_waits():
    begun = []
    made = in_threads(lambda item: begun.append(item) or time.sleep(0.05), range(100), JOBS)
    next(made)
    made.close()
    count = len(begun)
    time.sleep(0.2)
    assert len(begun) == count < 10


def test_a_process_that_waits_for_ever_is_ended(monkeypatch):
    monkeypatch.setattr(parallel, "LONG_PATIENCE", 1.0)
    made = in_order(stuck, range(4), JOBS)
    process, begun = next(made), time.monotonic()
    made.close()
    assert time.monotonic() - begun < 10
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def stuck(item):
    if item:
        time.sleep(1000)
    return os.getpid()


READS_WHAT_NEVER_COMES = """
import os, signal, sys, threading
from ganaug import parallel
from ganaug.data.source import Source
import ganaug.data.check, ganaug.__main__ as command

parallel.PATIENCE = 0.3
end, _ = os.pipe()
number = int(sys.argv[2])
once = threading.Lock()

def read(source, name):
    if once.acquire(blocking=False):
        threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
    return os.read(end, 1)

Source.read = read
sys.argv = ["ganaug", "check", sys.argv[1]]
command.run()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_check_that_reads_what_never_comes(tmp_path, number):
    data = write_images(tmp_path / "data", {"cat": 3, "dog": 3})
    ended = python(READS_WHAT_NEVER_COMES, data, int(number), timeout=60)
    assert ended.returncode == 128 + number
    assert ended.stderr.rstrip() == f"stopped by {number.name}."
