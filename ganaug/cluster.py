"""Trainings for processes of their own, on this machine's cores or on a Dask cluster, whose results are taken as they are done."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import BrokenProcessPool
from joblib.parallel import get_active_backend

from .errors import GanaugError
from .sessions import end_with

PROCESSES = "use processes of one thread each, dask worker --nworkers N --nthreads 1, so that the same seeds give the same numbers."
WORKERS_TIMEOUT = 120  # seconds for the first worker of a cluster to appear
WORKERS_GONE = 60.0  # seconds without any worker after which the work on a cluster ends
SHARED_CORES = 1.2  # a training beside others on the same machine takes so many times as long as one alone
LOOK_INTERVAL = 1.0  # seconds between two looks at its workers


def as_done(
    function: Callable[..., Any],
    arguments: Iterable[tuple[Any, ...]],
    jobs: int,
    cluster: str | None,
    again: str,
    look: Callable[[], None] = lambda: None,
) -> Iterator[Any]:
    """The function's results, in the order in which they are done: from so many processes of this machine, from the cluster at that
    address, or whatever `joblib.parallel_config` says around the call. `look` is called again and again while they are waited for.

    What a lost worker of a cluster was at, another one does again. Raises `GanaugError`, which ends in `again`, where a worker of this
    machine dies, and where all those of a cluster are gone."""
    begun = False
    try:
        with _backend(jobs, cluster, again) as (count, watch):

            def both() -> None:
                watch()
                look()

            for result in _Watched(both, n_jobs=count, return_as="generator_unordered")(
                delayed(_beside)(os.getpid(), function, *argument) for argument in arguments
            ):
                begun = True
                yield result
    except BrokenProcessPool:
        raise GanaugError(
            "a worker process died, perhaps for want of memory, of which fewer --jobs need less. What was finished is kept; "
            f"{again}"
        ) from None
    except TimeoutError:  # joblib's
        if cluster is None or begun:
            raise
        raise GanaugError(
            f"no worker has come to the cluster {cluster} within {WORKERS_TIMEOUT} seconds. Start some; {again}"
        ) from None


def _beside(parent: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """In a worker."""
    end_with(parent)
    return function(*arguments)


def may_have_processes() -> bool:
    """Whether joblib would start processes here: in a worker of its own, say, it would not."""
    backend = get_active_backend()[0]
    starts = getattr(backend, "supports_return_generator", False) and not getattr(backend, "uses_threads", False)
    return bool(starts and backend.effective_n_jobs(2) > 1)


def count_workers(cluster: str) -> int:
    """Of the cluster at that address, at the moment. Raises `GanaugError` where it does not answer or has unfit ones."""
    with _connected(cluster) as client:
        return len(client.nthreads())


@contextmanager
def _backend(jobs: int, cluster: str | None, again: str) -> Iterator[tuple[int, Callable[[], None]]]:
    """How many at a time, and what is to be called while they are waited for."""
    if cluster is None:
        backend = get_active_backend()[0]
        if getattr(backend, "uses_threads", False) or not getattr(backend, "supports_return_generator", False):
            name = type(backend).__name__.removesuffix("Backend").lower()
            raise GanaugError(
                f"joblib's {name} backend cannot train in parallel; leave it at loky, or use dask: {PROCESSES}"
            )
        yield jobs, lambda: None
        return
    with _connected(cluster) as client, parallel_config(backend="dask", wait_for_workers_timeout=WORKERS_TIMEOUT):
        yield -1, _lookout(client, cluster, again)


@contextmanager
def _connected(cluster: str) -> Iterator[Any]:
    """A client of the cluster, all of whose workers have one thread."""
    try:
        from distributed import Client
    except ImportError:
        raise GanaugError("a cluster needs Dask: pip install 'ganaug[cluster]'.") from None
    try:
        client = Client(cluster, timeout=WORKERS_TIMEOUT)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise GanaugError(f"the cluster {cluster} does not answer: {error}.") from None
    with client:
        threads = client.nthreads()  # type: ignore[no-untyped-call]
        if any(count > 1 for count in threads.values()):
            raise GanaugError(f"the cluster {cluster} has workers of several threads: {PROCESSES}")
        yield client


class _Watched(Parallel):  # type: ignore[misc]
    """Calls `look` again and again while it waits for results, which ends with what that raises."""

    def __init__(self, look: Callable[[], None], **options: Any) -> None:
        super().__init__(**options)
        self.look = look

    def _wait_retrieval(self) -> bool:
        self.look()
        return bool(super()._wait_retrieval())


def _lookout(client: Any, address: str, again: str) -> Callable[[], None]:
    """What raises `GanaugError`, if called often, once the cluster has had no workers for WORKERS_GONE seconds: Dask waits for ever."""
    looked = seen = time.monotonic()

    def look() -> None:
        nonlocal looked, seen
        now = time.monotonic()
        if now - looked < LOOK_INTERVAL:
            return
        looked = now
        with suppress(OSError):  # a scheduler that does not answer knows of no workers
            if client.nthreads():
                seen = now
        if now - seen > WORKERS_GONE:
            raise GanaugError(
                f"the cluster {address} has had no workers for {now - seen:.0f} seconds. What was finished is kept. Start "
                f"workers; {again}"
            )

    return look
