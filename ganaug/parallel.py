"""Work for processes or threads with a core each, whose results are taken in order; those of processes never pile up."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

from joblib import effective_n_jobs
from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

from .errors import GanaugError
from .sessions import end_with

AHEAD = 4  # tasks of each process that are begun and not taken yet: enough that none waits for the next
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

PATIENCE = 3.0  # seconds for threads to do what is at hand, once nobody waits for it
LONG_PATIENCE = 30.0  # and for processes

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(function: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> Iterator[Result]:
    """`map(function, items)`, in so many processes or, for one, in this one. However slow the consumer is, no more than AHEAD * jobs items
    are begun whose results it has not taken. What the function raises arrives in the place of its result. The processes end with the
    generator, also where it is not used up. Raises `GanaugError` where one of them is killed."""
    jobs = min(jobs, effective_n_jobs(jobs))  # one, in a process that may have no others
    if jobs == 1:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(jobs, initializer=_begin, initargs=(os.getpid(),), env=ONE_THREAD)
    begun: deque[Future[Result]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) == AHEAD * jobs:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    except BrokenProcessPool:
        raise GanaugError("a worker process died, perhaps for want of memory. Repeat the command.") from None
    finally:
        for future in begun:
            future.cancel()
        # Once each process has done the task at hand: killed in the midst of one, they leave a traceback. But one that reads what never
        # comes, of a network that is gone, keeps nobody who wants to end.
        ending = threading.Thread(target=pool.shutdown, daemon=True)
        ending.start()
        try:
            ending.join(LONG_PATIENCE)
        finally:  # also where a second signal comes
            if ending.is_alive():
                pool.shutdown(kill_workers=True)


def in_threads(function: Callable[[Item], Result], items: Sequence[Item], jobs: int) -> Iterator[Result]:
    """`map(function, items)` in so many threads. What the function raises arrives in the place of its result. Where the generator is not
    used up, the threads have PATIENCE for what they are at; one that waits for what never comes, as for a file of a network that is gone,
    ends with the process."""
    futures: deque[Future[Result]] = deque(Future() for _ in items)
    waiting = deque(zip(futures, items, strict=True))

    def work() -> None:
        while waiting:
            try:
                future, item = waiting.popleft()
            except IndexError:  # another thread has it
                return
            try:
                future.set_result(function(item))
            except BaseException as error:
                future.set_exception(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(jobs, len(items)))]
    for thread in threads:
        thread.start()
    try:
        while futures:
            yield futures.popleft().result()
    finally:
        waiting.clear()
        until = time.monotonic() + PATIENCE
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))


def _begin(parent: int) -> None:
    """In a worker: Ctrl-C, which the terminal sends to all, is for the process that has started it, and which it ends with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)
