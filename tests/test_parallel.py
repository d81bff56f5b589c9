from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from modelopt_cli.parallel import cores, in_order


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 4, 11])
def test_results_come_in_order(workers: int, count: int) -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.002 * (3 - item % 3))
        return item * item

    assert list(in_order(slow_first, range(count), workers)) == [(i, i * i) for i in range(count)]


def test_no_more_is_taken_than_is_worked_on() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    for seen, _ in in_order(lambda item: item, items(), 3):
        assert len(taken) <= seen + 1 + 2 * 3


def test_an_error_reaches_the_caller() -> None:
    def fails(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    with pytest.raises(ValueError, match="three"):
        list(in_order(fails, range(10), 2))


def test_nothing_runs_on_when_the_caller_stops() -> None:
    running: list[int] = []

    def work(item: int) -> int:
        running.append(item)
        time.sleep(0.01)
        running.remove(item)
        return item

    results = in_order(work, range(100), 2)
    next(results)
    results.close()
    assert running == []


def test_several_threads_work() -> None:
    both = threading.Barrier(2, timeout=10)
    list(in_order(lambda _: both.wait(), range(4), 2))


def test_there_is_a_core() -> None:
    assert cores() >= 1
