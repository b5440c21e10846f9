"""Progress for people: a bar with ETA on a terminal, plain lines elsewhere, silence in a library that did not ask; and a sign of life
in a folder, for who looks from elsewhere."""

import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

from .runs import STATUS, write_json
from .sessions import LOCK

LOGGER = logging.getLogger("ganaug")
LOGGER.addHandler(logging.NullHandler())

PLAIN_INTERVAL = 15.0  # seconds between two plain lines
SIGN_INTERVAL = 3.0  # and between two signs of life

_signed: ContextVar[Path | None] = ContextVar("signed", default=None)  # the folder that gets them


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
            yield _with_signs(advance, label, total, start, unit)
    else:
        yield _with_signs(_plain_lines(label, total, start, unit), label, total, start, unit)


@contextmanager
def signs_in(folder: Path) -> Iterator[None]:
    """Whatever is tracked in the block leaves its state in `folder`/status.json, which `ganaug status` reads. When the block ends well
    the file is removed; else it keeps the reason. A folder that cannot be written to stops no work."""
    token = _signed.set(folder)
    try:
        yield
    except BaseException as error:
        with suppress(OSError):
            if {path.name for path in folder.iterdir()} - {STATUS, LOCK}:
                _leave_sign(folder, {"ended": str(error) or type(error).__name__})
            else:  # of nothing that has begun
                (folder / STATUS).unlink(missing_ok=True)
        raise
    finally:
        _signed.reset(token)
    with suppress(OSError):
        (folder / STATUS).unlink(missing_ok=True)


def _with_signs(advance: Advance, label: str, total: int, start: int, unit: str) -> Advance:
    folder = _signed.get()
    if folder is None:
        return advance
    begun, last = time.monotonic(), 0.0

    def sign(done: int, note: str = "") -> None:
        left = (time.monotonic() - begun) / (done - start) * (total - done) if done > start else None
        _leave_sign(
            folder, {"label": label, "done": done, "total": total, "unit": unit, "seconds_left": left, "note": note}
        )

    def both(done: int, note: str = "") -> None:
        nonlocal last
        advance(done, note)
        if time.monotonic() - last >= SIGN_INTERVAL or done >= total:
            last = time.monotonic()
            sign(done, note)

    sign(start)
    return both


def _leave_sign(folder: Path, content: dict[str, Any]) -> None:
    process = {"pid": os.getpid(), "host": socket.gethostname(), "time": time.time()}
    with suppress(OSError):
        if folder.is_dir():
            write_json(folder / STATUS, {**content, **process})


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
