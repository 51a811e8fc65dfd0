"""Many cases on any ``concurrent.futures`` executor."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Literal, ParamSpec, TypeVar

from pydantic import PositiveInt

from segpipe.core.errors import DataError, FailedCasesError
from segpipe.core.section import Section

P = ParamSpec("P")
Item = TypeVar("Item")
Result = TypeVar("Result")


class ExecutorConfig(Section):
    """How many hands work on the cases of a stage."""

    kind: Literal["processes", "serial"] = "processes"
    """`processes`: one case a worker process; `serial`: one after the other, in this process."""
    workers: PositiveInt | None = None
    """Worker processes; empty: as many as this process may use processors."""


class SerialExecutor(Executor):
    """Runs each call at once, in the caller's own thread."""

    def submit(self, fn: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Future[Result]:
        """Return a finished future of ``fn(*args)``."""
        future: Future[Result] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - a future carries whatever its work raised
            future.set_exception(error)
        return future


def usable_processors() -> int:
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # each worker is one case: libraries that start threads of their own would only fight over the cores
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    ):
        os.environ[name] = "1"


def _end_with_parent() -> None:
    """Leave when the process that started this one is gone: killed, it cannot say so itself."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


@contextmanager
def open_executor(config: ExecutorConfig) -> Iterator[Executor]:
    """Open what ``run_cases`` submits to: this process, or many processes."""
    workers = config.workers or usable_processors()
    if config.kind == "serial" or workers == 1:
        with SerialExecutor() as executor:
            yield executor
        return
    # spawn: forking a process that has started torch's threads can hang
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=_start_worker) as executor:
        yield executor


def run_cases(
    executor: Executor,
    work: Callable[[Item], Result],
    cases: Iterable[tuple[str, Item]],
    in_flight: int = 64,
) -> Iterator[tuple[str, Result]]:
    """Yield ``(case, work(item))`` as each finishes.

    Raises:
        FailedCasesError: At the end, once, for all that failed.
    """
    pending: dict[Future[Result], str] = {}
    failures: dict[str, BaseException] = {}
    queue = iter(cases)
    while True:
        while len(pending) < in_flight and (head := next(queue, None)) is not None:
            future = _submit(executor, work, head[1])
            pending[future] = head[0]
            if future.done():  # a serial executor has worked: hand it over before the next one
                break
        if not pending:
            break
        done, _ = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            case = pending.pop(future)
            error = future.exception()
            if error is None:
                yield case, future.result()
            else:
                failures[case] = _plain(error)
    if failures:
        raise FailedCasesError(failures)


def run_on_places(
    executor: Executor,
    work: Callable[[Item, str], Result],
    items: Iterable[tuple[str, Item]],
    places: Sequence[str],
) -> Iterator[tuple[str, Result]]:
    """Yield ``(name, work(item, place))`` as each finishes; a place, such as a device, holds one item at a time.

    Raises:
        FailedCasesError: At the end, once, for all that failed.
    """
    free, pending = list(places), dict[Future[Result], tuple[str, str]]()
    failures: dict[str, BaseException] = {}
    queue = iter(items)
    while True:
        while free and (head := next(queue, None)) is not None:
            place = free.pop(0)
            pending[_submit(executor, work, head[1], place)] = (head[0], place)
        if not pending:
            break
        done, _ = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            name, place = pending.pop(future)
            free.append(place)
            error = future.exception()
            if error is None:
                yield name, future.result()
            else:
                failures[name] = _plain(error)
    if failures:
        raise FailedCasesError(failures)


def _submit(executor: Executor, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
    try:
        return executor.submit(work, *arguments)
    except BrokenProcessPool as error:  # a worker was killed: the calls after it fail one by one, not all at once
        future: Future[Any] = Future()
        future.set_exception(error)
        return future


def _plain(error: BaseException) -> BaseException:
    if isinstance(error, BrokenProcessPool):
        return DataError(
            "a worker process died (often: out of memory). Run again with fewer workers: run.executor.workers=1."
        )
    return error
