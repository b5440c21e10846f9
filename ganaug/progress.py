"""Progress for people: a bar with ETA on a terminal, plain lines elsewhere, silence in a library that did not ask; and a sign of life
in a folder, for who looks from elsewhere."""

import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .errors import printable
from .runs import STATUS, write_json
from .sessions import LOCK

LOGGER = logging.getLogger("ganaug")
LOGGER.addHandler(logging.NullHandler())

BEAT = 1.0  # seconds between two looks at a step that may have nothing new to say
PATIENCE = 2.0  # that a step must take to be worth a bar or a line
PLAIN_INTERVAL = 10.0  # between two plain lines
SIGN_INTERVAL = 3.0  # and between two signs of life
MEASURED_SHARE = 0.25  # of a step, from which on its own pace counts alone, and not what was expected of it
BAR_WIDTH = 24  # characters

Tell = Callable[[dict[str, Any]], None]
_told: ContextVar[Tell | None] = ContextVar("told", default=None)
_signed: ContextVar[Path | None] = ContextVar("signed", default=None)  # the folder that gets them


def say(message: str) -> None:
    """One plain line for whoever listens: the command line prints it to standard error, a library caller may log it."""
    LOGGER.info(message)


def warn(message: str) -> None:
    """Like `say`, for what the user should act on."""
    LOGGER.warning(message)


class Lines(logging.Handler):
    """Prints to what is standard error at the moment: while a bar is shown, lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(f"{self.format(record)}\n")  # in one piece, also beside other processes
        except Exception:
            self.handleError(record)


class Advance(Protocol):
    def __call__(self, done: float, note: str = "") -> None: ...


def format_duration(seconds: float) -> str:
    """`83.0 -> '1m23s'`, `300.0 -> '5m'`, `3605.0 -> '1h0m5s'`: whole seconds, without what is 0 at the end."""
    total = max(0, round(seconds))
    hours, minutes, secs = total // 3600, total // 60 % 60, total % 60
    parts = [f"{hours}h"] if hours else []
    parts += [f"{minutes}m"] if minutes or (hours and secs) else []
    return "".join([*parts, f"{secs}s"] if secs or not parts else parts)


@dataclass
class Step:
    """Something long that is under way. `expected`: seconds that it may take from `start` on, where that was known beforehand."""

    label: str
    total: float
    start: float = 0
    unit: str = ""
    expected: float | None = None
    done: float = field(init=False)
    note: str = ""
    inner: "Step | None" = None  # a step within this one
    begun: float = field(default_factory=time.monotonic)
    told: float = field(init=False)  # when `done` was last heard of

    def __post_init__(self) -> None:
        self.done, self.told = self.start, self.begun

    def advance(self, done: float, note: str = "") -> None:
        if done > self.done:
            self.told = time.monotonic()
        self.done, self.note = done, note

    @property
    def counts(self) -> str:
        return f"{int(self.done)}/{int(self.total)}{self.unit}"

    @property
    def details(self) -> str:
        """The note, and how far the step within this one has come."""
        inner = self.inner
        if inner is None or time.monotonic() - inner.begun < PATIENCE:
            return self.note
        return ", ".join(filter(None, [self.note, f"{inner.label} {inner.counts}", inner.details]))

    @property
    def time(self) -> str:
        """What is left, or was needed; where nothing tells yet, how long it has been going on."""
        left, passed = self.seconds_left(), format_duration(time.monotonic() - self.begun)
        return (
            f"in {passed}"
            if self.done >= self.total
            else f"{passed} so far"
            if left is None
            else f"{format_duration(left)} left"
        )

    def seconds_left(self) -> float | None:
        """By the pace so far, and at first by what was expected. Without news it falls by what has passed, by half of it at most; None
        where it has been overdue for as long again, or nothing is known."""
        if self.done >= self.total:
            return 0.0
        share = (self.done - self.start) / (self.total - self.start)
        measured = (self.told - self.begun) * (1 - share) / share if share > 0 else None
        if self.expected is not None:
            weight = min(1.0, share / MEASURED_SHARE)
            measured = weight * (measured or 0.0) + (1 - weight) * (1 - share) * self.expected
        waited = time.monotonic() - self.told
        return None if measured is None or waited > 2 * measured else max(measured / 2, measured - waited)


Show = Callable[[], None]
_tracked: ContextVar[Step | None] = ContextVar("tracked", default=None)


@contextmanager
def track(
    label: str, total: float, start: float = 0, unit: str = "", expected: float | None = None
) -> Iterator[Advance]:
    """Yields `advance(done, note)`; `done` counts up to `total` and `note` is a short text such as the current losses.

    `start` is what an earlier session had finished: the ETA counts from there. `expected`: seconds that the rest may take, where that is
    known. Within another step of this process it has no bar and no lines of its own: what is said of the outer one has it at its end.
    """
    step, outer = Step(label, total, start, unit, expected), _tracked.get()
    token = _tracked.set(step)
    if outer is not None:
        outer.inner = step
    try:
        with _shown(step) if outer is None else nullcontext(lambda: None) as show:

            def advance(done: float, note: str = "") -> None:
                step.advance(done, note)
                show()

            yield advance
    finally:
        _tracked.reset(token)
        if outer is not None:
            outer.inner = None


@contextmanager
def _shown(step: Step) -> Iterator[Show]:
    """Shows the step wherever somebody looks; also while it has nothing new to say, so that nobody takes it for dead."""
    with ExitStack() as stack:
        shows: list[Show] = []
        if (tell := _told.get()) is not None:
            shows.append(_tellings(step, tell))
        elif LOGGER.isEnabledFor(logging.INFO):
            draws = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
            shows.append(stack.enter_context(_bar(step)) if draws else _plain_lines(step))
        if (folder := _signed.get()) is not None:
            shows.append(_signs(step, folder))
        if not shows:
            yield lambda: None
            return
        lock, ended = threading.Lock(), threading.Event()

        def show() -> None:
            with lock:
                for each in shows:
                    each()

        def beat() -> None:
            while not ended.wait(BEAT):
                show()

        beating = threading.Thread(target=beat, daemon=True)
        beating.start()
        try:
            yield show
        finally:
            ended.set()
            beating.join()


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
                leave_sign(folder, {"ended": str(error) or type(error).__name__})
            else:  # of nothing that has begun
                (folder / STATUS).unlink(missing_ok=True)
        raise
    finally:
        _signed.reset(token)
    with suppress(OSError):
        (folder / STATUS).unlink(missing_ok=True)


def _signs(step: Step, folder: Path) -> Show:
    last = 0.0

    def show() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SIGN_INTERVAL and not (step.done >= step.total and step.told > last):
            return
        last = now
        state = {"label": step.label, "done": int(step.done), "total": int(step.total), "unit": step.unit}
        leave_sign(folder, {**state, "seconds_left": step.seconds_left(), "note": step.details})

    show()
    return show


def leave_sign(folder: Path, content: dict[str, Any]) -> None:
    """Writes `folder`/status.json: what this process is at, beside its number, its machine and the time."""
    process = {"pid": os.getpid(), "host": socket.gethostname(), "time": time.time()}
    with suppress(OSError):
        if folder.is_dir():
            write_json(folder / STATUS, {**content, **process})


class _Passing(logging.Handler):
    """Passes on what a thread says."""

    def __init__(self, tell: Tell, thread: int) -> None:
        super().__init__()
        self.tell, self.spoken_in = tell, thread

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.spoken_in:
            self.tell({"level": record.levelno, "said": record.getMessage()})


@contextmanager
def told_in(path: Path) -> Iterator[None]:
    """What is said in the block, and how far what is tracked there has come, goes into the file, a line of JSON each, for another process
    that listens; see `Listener`."""
    level = LOGGER.level

    def tell(content: dict[str, Any]) -> None:
        with suppress(OSError), path.open("a", encoding="utf-8") as file:  # a full disk stops no work
            file.write(json.dumps(content) + "\n")

    handler = _Passing(tell, threading.get_ident())
    token = _told.set(tell)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.setLevel(level)
        LOGGER.removeHandler(handler)
        _told.reset(token)


def _tellings(step: Step, tell: Tell) -> Show:
    last = 0.0

    def show() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= BEAT or (step.done >= step.total and step.told > last):
            last = now
            tell({"share": step.done / step.total})

    return show


@dataclass
class Listener:
    """Reads what another process has `told_in` a file, as far as it has told it."""

    path: Path
    share: float = 0.0  # done of what it was at last
    read: int = 0  # bytes

    def listen(self) -> None:
        """Says what the other has said since, and notes how far it is."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.read)
                new = file.read()
        except OSError:  # it has not begun
            return
        whole = new[: new.rfind(b"\n") + 1]
        self.read += len(whole)
        for line in whole.splitlines():
            with suppress(ValueError):  # half a line, where a process was killed and another has gone on
                content = json.loads(line)
                if "said" in content:
                    LOGGER.log(content["level"], "%s", content["said"])
                else:
                    self.share = content["share"]


def _plain_lines(step: Step) -> Show:
    last = step.begun

    def show() -> None:
        nonlocal last
        now = time.monotonic()
        is_end = step.done >= step.total and step.told > last and now - step.begun >= PATIENCE
        if not (is_end or (step.done < step.total and now - last >= PLAIN_INTERVAL)):
            return
        last = now
        say(f"{step.label}: {', '.join(filter(None, [step.counts, step.time, step.details]))}")

    return show


@contextmanager
def _bar(step: Step) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    label, *numbers = (TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("label", "counts", "time"))
    note = TextColumn(
        "{task.fields[note]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
    )
    columns = (label, BarColumn(BAR_WIDTH), *numbers, note)
    progress = Progress(*columns, console=Console(stderr=True), expand=True)
    task = progress.add_task("", total=step.total, label="", counts="", time="", note="")

    def show() -> None:
        if time.monotonic() - step.begun >= PATIENCE:
            texts: dict[str, Any] = {
                "label": printable(step.label),
                "counts": step.counts,
                "time": step.time,
                "note": printable(step.details),
            }
            progress.update(task, completed=step.done, **texts)
            progress.start()

    try:
        yield show
    finally:
        progress.stop()
