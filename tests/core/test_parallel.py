"""Many cases: all that can finish do, and what fails is told once, at the end."""

import math
import operator
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import pytest

from segpipe.core.errors import DataError, FailedCasesError
from segpipe.core.parallel import (
    ExecutorConfig,
    SerialExecutor,
    open_executor,
    run_cases,
    run_on_places,
    usable_processors,
)

# what runs in a worker process is taken from the standard library: a spawned worker cannot import this file
NUMBERS = {f"case{i}": float(i) for i in range(20)}


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    with open_executor(ExecutorConfig(kind="processes", workers=2)) as executor:
        yield executor


def test_serial_and_processes_give_the_same_results(processes: Executor) -> None:
    serial = dict(run_cases(SerialExecutor(), math.sqrt, NUMBERS.items()))
    assert serial == {case: math.sqrt(value) for case, value in NUMBERS.items()}
    assert dict(run_cases(processes, math.sqrt, NUMBERS.items())) == serial


def test_more_cases_than_are_held_in_flight_all_come_back(processes: Executor) -> None:
    assert dict(run_cases(processes, math.sqrt, NUMBERS.items(), in_flight=3)) == {
        case: math.sqrt(value) for case, value in NUMBERS.items()
    }


def test_one_case_that_fails_does_not_stop_the_others(processes: Executor) -> None:
    cases = {**NUMBERS, "case3": -1.0, "case7": "no number"}
    for executor in (SerialExecutor(), processes):
        done: dict[str, float] = {}
        with pytest.raises(FailedCasesError, match=r"2 case\(s\) failed.*case\d: (Value|Type)Error: ") as caught:
            done.update(run_cases(executor, math.sqrt, cases.items()))
        assert set(done) == set(cases) - {"case3", "case7"}
        assert set(caught.value.failures) == {"case3", "case7"}
        assert isinstance(caught.value.failures["case3"], ValueError)


def test_workers_are_other_processes_and_keep_to_one_thread(processes: Executor) -> None:
    assert processes.submit(os.getpid).result() != os.getpid()
    found = dict(
        run_cases(processes, os.getenv, [(name, name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")])
    )
    assert found == {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def test_a_worker_that_is_killed_is_reported_and_nothing_hangs() -> None:
    cases = [("quiet", 0.0), ("killed", -1.0), *[(f"late{i}", 0.0) for i in range(100)]]
    with open_executor(ExecutorConfig(workers=2)) as executor:
        pids = {executor.submit(os.getpid).result() for _ in range(6)}

        def kill_then(item: tuple[str, float]) -> tuple[str, float]:
            if item[0] == "late20":
                os.kill(min(pids), signal.SIGKILL)
            return item

        with pytest.raises(FailedCasesError, match=r"worker process died.*workers=1") as caught:
            list(run_cases(executor, time.sleep, map(kill_then, cases), in_flight=4))
    failures = caught.value.failures
    assert isinstance(failures["killed"], ValueError)  # it had failed by itself before
    assert isinstance(failures["late99"], DataError)
    assert "out of memory" in str(failures["late99"])


def test_serial_work_is_handed_over_case_by_case() -> None:
    seen: list[int] = []
    results = run_cases(SerialExecutor(), lambda item: seen.append(item) or item, [(str(i), i) for i in range(5)])
    assert next(results) == ("0", 0)
    assert seen == [0]  # the next one is not begun before this one was taken
    assert [item for _, item in results] == [1, 2, 3, 4]


def test_no_more_than_so_many_are_taken_from_the_queue_at_a_time() -> None:
    taken: list[int] = []

    def queue() -> Iterator[tuple[str, int]]:
        for i in range(50):
            taken.append(i)
            yield str(i), i

    with ThreadPoolExecutor(2) as executor:
        results = run_cases(executor, operator.neg, queue(), in_flight=4)
        next(results)
        assert len(taken) <= 4
        assert len(list(results)) == 49


def test_no_cases_are_no_error() -> None:
    assert list(run_cases(SerialExecutor(), math.sqrt, [])) == []


def test_an_interrupt_is_no_failed_case() -> None:
    def interrupted(item: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run_cases(SerialExecutor(), interrupted, [("a", 1)]))


@pytest.mark.parametrize("config", [ExecutorConfig(kind="serial"), ExecutorConfig(kind="processes", workers=1)])
def test_one_pair_of_hands_is_this_process(config: ExecutorConfig) -> None:
    with open_executor(config) as executor:
        assert executor.submit(os.getpid).result() == os.getpid()


def test_the_processors_counted_are_those_this_process_may_use() -> None:
    assert 1 <= usable_processors() <= (os.cpu_count() or 1)


def test_arguments_reach_the_work() -> None:
    assert SerialExecutor().submit(partial(int, base=2), "101").result() == 5


def place_and_item(item: int, place: str) -> tuple[int, str, float, float]:
    began = time.monotonic()
    time.sleep(0.2)
    if item == 3:
        raise ValueError("three")
    return item, place, began, time.monotonic()


def test_each_place_holds_one_item_at_a_time_and_all_are_used() -> None:
    with ThreadPoolExecutor(4) as executor:
        work = run_on_places(executor, place_and_item, [(str(n), n) for n in (0, 1, 2, 4)], ["left", "right"])
        done = [result for _, result in work]
    assert sorted(item for item, *_ in done) == [0, 1, 2, 4]
    assert {place for _, place, *_ in done} == {"left", "right"}
    for place in ("left", "right"):
        spans = sorted((began, ended) for _, there, began, ended in done if there == place)
        assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_one_failing_item_stops_no_other_place() -> None:
    done: list[str] = []
    work = run_on_places(SerialExecutor(), place_and_item, [(str(n), n) for n in (3, 1)], ["only"])
    with pytest.raises(FailedCasesError, match="three"):
        done.extend(name for name, _ in work)
    assert done == ["1"]
