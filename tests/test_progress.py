"""What a person sees of a long step: a bar on a terminal, plain lines elsewhere, and how long it will take."""

import logging
import os
import pty
import re
import subprocess
import sys
import time

import pytest

from ganaug import progress
from ganaug.progress import LOGGER, Step, format_duration, track


@pytest.fixture
def lines(monkeypatch):
    """The plain lines; a look at every step each hundredth of a second, a line at each look."""
    found = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())
    monkeypatch.setattr(LOGGER, "handlers", [handler])
    level = LOGGER.level
    LOGGER.setLevel(logging.INFO)
    for name, value in (("BEAT", 0.01), ("PATIENCE", 0.0), ("PLAIN_INTERVAL", 0.0)):
        monkeypatch.setattr(progress, name, value)
    yield found
    LOGGER.setLevel(level)


def wait_for(found, seconds=10.0):
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.4, "0s"),
        (83, "1m23s"),
        (300, "5m"),
        (3600, "1h"),
        (3660, "1h1m"),
        (3605, "1h0m5s"),
        (7384, "2h3m4s"),
    ],
)
def test_durations_end_with_what_is_not_nothing(seconds, text):
    assert format_duration(seconds) == text


def stepped(monkeypatch, changes, now, **values):
    """A step that began at second 0, of which each of `changes` {second: done} was heard, as it is at second `now`."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    step = Step("steps", begun=0.0, **values)
    for clock[0], done in changes.items():
        step.advance(done)
    clock[0] = float(now)
    return step


def test_what_is_left_follows_the_pace_of_this_session(monkeypatch):
    step = stepped(monkeypatch, {10.0: 60}, 10, total=100, start=40)
    assert step.seconds_left() == pytest.approx(20) and step.time == "20s left"


def test_what_is_left_falls_without_news_but_not_to_nothing_until_nobody_knows(monkeypatch):
    for now, left in ((13, 17), (20, 10), (40, 10)):
        assert stepped(monkeypatch, {10.0: 1}, now, total=3).seconds_left() == pytest.approx(left)
    late = stepped(monkeypatch, {10.0: 1}, 61, total=3)
    assert late.seconds_left() is None and late.time == "1m1s so far"


def test_before_any_news_an_expectation_counts_and_none_is_made_up(monkeypatch):
    assert stepped(monkeypatch, {}, 5, total=8, expected=60).seconds_left() == 55
    unknown = stepped(monkeypatch, {}, 5, total=8)
    assert unknown.seconds_left() is None and unknown.time == "5s so far"


def test_the_pace_takes_over_from_the_expectation(monkeypatch):
    # One of eight after 30 s, where 8 s in all were expected: 7 s by that, 210 s by the pace; half of a quarter is done.
    assert stepped(monkeypatch, {30.0: 1}, 30, total=8, expected=8).seconds_left() == pytest.approx((7 + 210) / 2)
    assert stepped(monkeypatch, {60.0: 2}, 60, total=8, expected=8).seconds_left() == pytest.approx(180)


def test_a_complete_step_says_what_it_took(monkeypatch):
    step = stepped(monkeypatch, {75.0: 4}, 90, total=4)
    assert step.seconds_left() == 0 and step.time == "in 1m30s"


def test_lines_go_on_while_nothing_new_is_to_be_said(lines):
    with track("arms", 3) as advance:
        wait_for(lambda: len(lines) >= 3)
        assert set(lines) == {"arms: 0/3, 0s so far"}
        advance(1, "well")
        wait_for(lambda: any(re.fullmatch("arms: 1/3, 0s (left|so far), well", line) for line in lines))
    before = len(lines)
    time.sleep(0.05)
    assert len(lines) == before  # nobody speaks of what has ended


def test_the_end_is_said_once(lines):
    with track("arms", 2) as advance:
        advance(2)
        time.sleep(0.05)
    assert [line for line in lines if "2/2" in line] == ["arms: 2/2, in 0s"]


def test_a_short_step_is_passed_over(lines, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 5.0)
    monkeypatch.setattr(progress, "PLAIN_INTERVAL", 5.0)
    with track("arms", 2) as advance:
        advance(2)
    assert lines == []


def test_a_step_within_another_is_mentioned_by_that_one_alone(lines):
    with track("GANs", 2) as outer:
        with track("fit joint", 100, unit=" %") as inner:
            inner(34.9, "in balance")
            wait_for(lambda: lines and "fit joint" in lines[-1])
        outer(1)
    assert all(line.startswith("GANs: ") for line in lines)
    assert any(line.endswith("so far, fit joint 34/100 %, in balance") for line in lines)
    assert re.fullmatch("GANs: 1/2, 0s (left|so far)", lines[-1])


def test_a_library_that_did_not_ask_hears_nothing(lines):
    LOGGER.setLevel(logging.WARNING)
    with track("arms", 2) as advance:
        time.sleep(0.05)
        advance(2)
    assert lines == []


SCREEN = """
import logging, sys, time
from ganaug import progress
from ganaug.progress import LOGGER, Lines, say, track
progress.PATIENCE, progress.BEAT = 0.0, 0.05
LOGGER.addHandler(Lines()); LOGGER.setLevel(logging.INFO)
with track("GANs", 2, expected=90) as outer:
    with track("fit joint", 100, unit=" %") as inner:
        inner(50, "a note that is far longer than the rest of the line " * 5)
        time.sleep(0.3)
        say("fit joint: 213 steps fit into 25s")
        time.sleep(0.3)
    outer(2)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such terminals")
def test_on_a_terminal_there_is_one_bar_below_the_lines():
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    environment.pop("NO_COLOR", None)  # without colours a bar is drawn otherwise
    with subprocess.Popen([sys.executable, "-c", SCREEN], stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            seen += part
    os.close(ours)
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode())
    rows = [row.strip() for row in re.split(r"[\r\n]+", text) if row.strip()]
    (said,) = [row for row in rows if "213 steps" in row]
    assert said == "fit joint: 213 steps fit into 25s"  # alone on its line
    bars = [row for row in rows if row != said]
    assert all(row.startswith("GANs ━") and len(row) <= 100 for row in bars)
    assert any(re.search(r"0/2 1m(30|29)s left +fit joint 50/100 %, a note that.*…$", row) for row in bars)
    assert re.search(r"2/2 in \ds$", bars[-1])
