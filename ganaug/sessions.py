"""A process at work in a folder: alone there, stopped by a signal between two steps, and what killed ones have left is removed."""

import os
import re
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from .errors import GanaugError

LOCK = ".lock"  # in a run or a study; `.NAME.lock` beside a folder NAME that appears when it is whole
PATIENCE = 3.0  # seconds to wait for a lock: the workers of a killed study end within LOOK_INTERVAL
LOOK_INTERVAL = 0.5
BEGUN = "there is something to go on with"  # a note at errors that ended the work in a folder which is not empty
HALF = re.compile(r"\..+\.\d+\.tmp")  # a file that runs.written_whole was writing
SIGNALS = (signal.SIGINT, signal.SIGTERM)

_sign: ContextVar[Path | None] = ContextVar("sign", default=None)


class Stopped(KeyboardInterrupt):
    """A signal has asked to end: Ctrl-C, or what schedulers send."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class Busy(GanaugError):
    """Another process is at work in the folder."""


def is_launched() -> bool:
    """Whether torchrun has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1


def command_again(arguments: Sequence[str]) -> str:
    """The line that starts this program as it was started, with these arguments. How several machines meet is not to be found out by
    their processes: torchrun tells them neither its endpoint nor what it was given of it."""
    if not is_launched():
        return shlex.join(["ganaug", *arguments])
    machines = os.environ.get("GROUP_WORLD_SIZE", "1")
    several = [] if machines == "1" else ["--nnodes", machines]
    launch = ["torchrun", *several, "--nproc-per-node", os.environ.get("LOCAL_WORLD_SIZE", "1")]
    hint = " (on each machine, with the other arguments of torchrun as before)" if several else ""
    return shlex.join([*launch, "-m", "ganaug", *arguments]) + hint


@contextmanager
def sole(lock: Path, folder: Path) -> Iterator[None]:
    """In the block no other process is at work in `folder`: all of them hold the file `lock` while they are. It is a lock of the
    operating system, which ends with the process however that dies; the file goes with it, and so does a folder that was made for
    nothing else. Raises `Busy` where another process holds it."""
    from filelock import FileLock, Timeout

    home = lock.parent
    made = [path for path in (home, *home.parents) if not path.exists()]
    if home.exists() and not home.is_dir():
        raise GanaugError(f"{home} is not empty but a file. Give a new or empty folder as --out.")
    home.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock, timeout=PATIENCE)
    try:
        held.acquire()
    except Timeout:
        raise Busy(
            f"another process is at work in {folder}. Wait until it has ended, or give another --out; nothing was changed."
        ) from None
    failure: BaseException | None = None
    try:
        yield
    except BaseException as error:
        failure = error
        raise
    finally:
        with suppress(
            OSError
        ):  # while it is held: whoever waits for it then finds that it has no name any more, and makes a new one
            lock.unlink()
        held.release()
        with suppress(OSError):
            for path in made:
                path.rmdir()
        with suppress(OSError):
            if failure is not None and any(folder.iterdir()):
                failure.add_note(BEGUN)


def sweep(folder: Path) -> None:
    """Removes the half files and the lock files that killed processes have left in a folder which this process holds the lock of; not
    where another one is at work deeper inside."""
    from filelock import FileLock, Timeout

    busy = []
    for lock in [path for path in folder.rglob(".*lock") if path != folder / LOCK and path.name.endswith(LOCK)]:
        try:
            with FileLock(lock, timeout=0):
                lock.unlink(missing_ok=True)
        except Timeout:
            busy.append(lock.parent)
    for half in folder.rglob(".*.tmp"):
        if HALF.fullmatch(half.name) and not any(half.is_relative_to(place) for place in busy):
            half.unlink(missing_ok=True)


@contextmanager
def signals_raise() -> Iterator[None]:
    """SIGINT and SIGTERM raise `Stopped` in the block."""
    with _handled(_raise):
        yield


@contextmanager
def signals_wait() -> Iterator[Callable[[], bool]]:
    """SIGINT and SIGTERM wait in the block, which asks the function that is yielded whether one has come, and raise `Stopped` when it
    ends well. A second one does not wait. Where the file of `stops_with` appears, it is as if SIGTERM had come."""
    came: list[int] = []
    sign = _sign.get()

    def has_come() -> bool:
        if not came and sign is not None and sign.exists():
            came.append(signal.SIGTERM)
        return bool(came)

    def note(number: int, frame: object) -> None:
        if came:
            _raise(number, frame)
        came.append(number)

    with _handled(note):
        yield has_come
    if came:
        raise Stopped(came[0])


@contextmanager
def stops_with(sign: Path) -> Iterator[None]:
    """Work in the block that waits for signals ends where the file appears, too: how a process stops others, on whatever machine.
    Ctrl-C, which a terminal sends to all of them, is left to that process."""
    token, alone = _sign.set(sign), False
    try:
        if alone := threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # and stays ignored: the process is a worker
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        yield
    finally:
        if alone:  # a worker that has nothing to do would be missed, and those at work ended for it before they save
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _sign.reset(token)


def _raise(number: int, frame: object) -> None:
    raise Stopped(number)


def end_quietly(number: int, frame: object) -> None:
    """The handler of a command that has not begun: it ends this process with one line."""
    os.write(2, f"{Stopped(number)}.\n".encode())
    os._exit(128 + number)


@contextmanager
def _handled(handler: Callable[[int, object], None]) -> Iterator[None]:
    """Where signals have a handler of somebody else, and outside the main thread, which alone may set one, all stays as it is."""
    usual: tuple[Any, ...] = (signal.SIG_DFL, signal.default_int_handler, _raise, end_quietly)
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if (before := signal.getsignal(number)) in usual:
                    stack.callback(signal.signal, number, before)
                    signal.signal(number, handler)
        yield


_watched: set[int] = set()


def end_with(parent: int) -> None:
    """Ends this process soon after `parent`, which has started it: a killed study leaves no workers that train on. Where the parent is
    another process, or this one, nothing happens."""
    if parent == os.getpid() or parent != os.getppid() or parent in _watched or os.name == "nt":
        return
    _watched.add(parent)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_INTERVAL)
        os._exit(1)

    threading.Thread(target=watch, name="ganaug-parent", daemon=True).start()
