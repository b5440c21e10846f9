"""Progress for people: a bar with ETA on a terminal, plain lines elsewhere, silence in a library that did not ask."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LOGGER = logging.getLogger("ganaug")
LOGGER.addHandler(logging.NullHandler())

PLAIN_INTERVAL = 15.0  # seconds between two plain lines


def say(message: str) -> None:
    """One plain line for whoever listens: the command line prints it to standard error, a library caller may log it."""
    LOGGER.info(message)


def warn(message: str) -> None:
    """Like `say`, for what the user should act on."""
    LOGGER.warning(message)


class Advance(Protocol):
    def __call__(self, done: int, note: str = "") -> None: ...


def format_duration(seconds: float) -> str:
    """`83.0 -> '1m23s'`; whole seconds, hours when there are any."""
    total = max(0, round(seconds))
    hours, minutes, secs = total // 3600, total // 60 % 60, total % 60
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{secs}s"


@contextmanager
def track(label: str, total: int, start: int = 0, unit: str = "") -> Iterator[Advance]:
    """Yields `advance(done, note)`; `done` counts up to `total` and `note` is a short text such as the current losses.

    `start` is what an earlier session had finished: the ETA counts from there.
    """
    if LOGGER.isEnabledFor(logging.INFO) and sys.stderr.isatty():
        with _bar(label, total, start) as advance:
            yield advance
    else:
        yield _plain_lines(label, total, start, unit)


def _plain_lines(label: str, total: int, start: int, unit: str) -> Advance:
    begun = last = time.monotonic()

    def advance(done: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < PLAIN_INTERVAL and done < total:
            return
        last = now
        parts = [f"{done}/{total}{unit}"]
        if done > start:
            parts.append(f"{format_duration((now - begun) / (done - start) * (total - done))} left")
        say(f"{label}: {', '.join([*parts, note] if note else parts)}")

    return advance


@contextmanager
def _bar(label: str, total: int, start: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total, completed=start, note="")

        def advance(done: int, note: str = "") -> None:
            progress.update(task, completed=done, note=note)

        yield advance
