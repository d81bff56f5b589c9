"""The one seam for work on several cores: joblib, so that a cluster is another backend and not another program."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[tuple[T, R]]:
    """Each item with its result, in the order of the items, while the next ones are being worked on.

    Threads share the caller's memory, which suits work that leaves Python: a session's runs, NumPy. Results do not
    depend on the number of workers.

    Args:
        work: Called once per item, by several threads at a time.
        items: Taken from as results are taken: at most ``2 * workers`` items and results are held.
        workers: Threads; with one, everything happens in the caller's.
    """
    if workers <= 1:
        for item in items:
            yield item, work(item)
        return
    import joblib

    def started(batch: list[T]) -> Iterator[R]:
        pool = joblib.Parallel(n_jobs=workers, backend="threading", return_as="generator")
        results: Iterator[R] = pool(joblib.delayed(work)(item) for item in batch)
        return results

    source = iter(items)
    batch = list(islice(source, workers))
    running = started(batch) if batch else iter(())
    try:
        while batch:
            following = list(islice(source, workers))
            done, running = running, started(following) if following else iter(())
            yield from zip(batch, done, strict=True)
            batch = following
    finally:
        for _ in running:  # whoever stops early must not leave threads behind that use a closed session
            pass
