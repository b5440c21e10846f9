"""Members of a run that train at the same time, each in a process of its own: how many, with how many threads, and what is heard of them.

Their bits do not depend on how many they are: each has its own random numbers, folder and saved states, and fit.threads threads. They hear
from this process, and it from them, through files in the run's folder, so that it is the same on a cluster: `STOP` appears where they
shall save and end, and in each member's `TOLD` is what it says and how far it has come.
"""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..cluster import LOOK_INTERVAL, as_done, count_workers, may_have_processes
from ..devices import num_cores
from ..errors import GanaugError
from ..progress import Advance, Listener, told_in
from ..runs import RunFolder
from ..sessions import LOCK, Stopped, signals_raise, signals_wait, sole, stops_with
from ..settings import FitSettings
from .ranks import current
from .strategies import Member, waves

STOP = "stop"  # in the run's folder
TOLD = "told.jsonl"  # in a member's
EXPECTED = (GanaugError, OSError, MemoryError, RuntimeError)  # failures that the others need not be killed for


def num_jobs(settings: FitSettings, members: Sequence[Member], device: torch.device) -> int:
    """Members that train at a time: as many as the settings say or, on a CPU, as many as it has cores for their threads; no more than
    can, and one where several processes train each."""
    if current().world > 1:
        return 1
    if settings.cluster is not None:
        allowed = count_workers(settings.cluster)
    elif not may_have_processes():
        allowed = 1
    elif settings.jobs is not None:
        allowed = settings.jobs
    else:
        allowed = num_cores() // (settings.threads or 1) if device.type == "cpu" else 1
    return max(1, min(allowed, max(len(group) for group in waves(members))))


def threads_to_try(settings: FitSettings, members: Sequence[Member], device: torch.device, cores: int) -> list[int]:
    """Numbers of threads of a training of which the fastest may be looked for: up to the cores that are left for each of those that run
    beside each other. By default those are the first members, so that the trunk of `specialised` has all cores."""
    if settings.cluster is not None:
        return [1]
    beside = num_jobs(settings, members if settings.jobs else waves(members)[0], device)
    room = max(1, cores // beside)
    return sorted({1, max(1, room // 2), room})


def train_apart(
    train: Callable[..., Any],
    folder: RunFolder,
    members: Sequence[Member],
    arguments: Sequence[Any],
    jobs: int,
    cluster: str | None,
    again: str,
    done: float,
    advance: Advance,
) -> None:
    """Calls `train(folder's path, member, *arguments)` in processes, `jobs` at a time, for members that need none of one another.

    A signal lets all of them save where they are and then raises `Stopped`; so does a failure of one, which is raised when the others
    have. `done`: percents of the run before; `advance` gets those at each moment. Raises `GanaugError` where a process dies, with `again`.
    """
    listeners = {member.name: Listener(folder.member(member.name) / TOLD) for member in members}
    stop = folder.root / STOP
    failures: list[Exception] = []
    looked = 0.0

    def listen() -> None:
        for listener in listeners.values():
            listener.listen()
        shares = [(member, listeners[member.name].share) for member in members]
        note = ", ".join(f"{member.name} {int(100 * share)} %" for member, share in shares if 0 < share < 1)
        advance(min(99.9, done + 100 * sum(member.share * share for member, share in shares)), note)

    with _forgotten(folder, members), signals_wait() as has_come:

        def look() -> None:
            nonlocal looked
            if has_come() and not stop.exists():
                stop.touch()
            if time.monotonic() - looked >= LOOK_INTERVAL:
                looked = time.monotonic()
                listen()

        root, workers = folder.root.resolve(), jobs if cluster else min(jobs, len(members))
        tasks = ((train, root, member, *arguments) for member in members)
        try:
            for failure in as_done(_in_worker, tasks, workers, cluster, again, look):
                if failure is not None:
                    failures.append(failure)
                    stop.touch()
        except GanaugError:
            if not has_come():  # else a signal has come to the workers, too
                raise
        listen()
        if failures and not has_come():
            raise failures[0]


@contextmanager
def _forgotten(folder: RunFolder, members: Sequence[Member]) -> Iterator[None]:
    """What was said before the block is gone in it, and what was said in it after it."""
    forget(folder, members)
    try:
        yield
    finally:
        forget(folder, members)


def forget(folder: RunFolder, members: Sequence[Member]) -> None:
    """Removes what processes at work have said to each other."""
    for file in (folder.root / STOP, *(folder.member(member.name) / TOLD for member in members)):
        file.unlink(missing_ok=True)


def _in_worker(train: Callable[..., Any], root: Path, member: Member, *arguments: Any) -> Exception | None:
    """Trains the member as far as it comes: to its end, or to a signal or the file `STOP`, where its state is saved."""
    folder = RunFolder(root)
    path, stop = folder.member(member.name), root / STOP
    if not folder.info.is_file():
        return GanaugError(
            f"a worker on {socket.gethostname()} does not see {root}. Mount it there under the same path."
        )
    try:
        with stops_with(stop), signals_raise(), sole(path / LOCK, path), told_in(path / TOLD):
            if not stop.exists():
                train(root, member, *arguments)
    except Stopped:
        if not stop.exists():  # a signal to this process; where it came to all, it is not told of
            return GanaugError(
                f"the process that trained {member.name} was stopped. What was finished is kept; go on with --resume."
            )
    except EXPECTED as error:
        return error
    return None
