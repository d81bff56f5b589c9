"""Latency of models timed in alternation: the machine's moods hit all of them alike, and so cancel in the ratio.

One thread on the CPU is timed by its own CPU clock too: wall time less what other processes took of it. On two cores
with a load of five, a copy made 5 % slower was found in 8 of 8 runs by that clock and in 1 of 8 by the wall's.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from modelopt_cli.errors import UsageError
from modelopt_cli.profiling.session import Model, Session, loadable, open_session, run
from modelopt_cli.profiling.statistics import Latency, LatencyComparison, ratio_interval, summarize

BUDGET_S = 4.0
REBUILDS = 4
MAX_REBUILDS = 12
LOAD_SHARE = 0.25  # more rebuilds than asked for, while loading them takes no more than this share of the budget
SLOT_S = 0.005  # a fast model runs several times in a row: shorter slots would time what the other left in the caches
WARM_BLOCK = 3
WARM_GAIN = 0.02  # warm enough when a block of runs is no longer this much faster than the one before
WARM_SHARE = 0.2  # of the time of a rebuild, at most
STOLEN_SLOT = 0.02  # a slot that lost more than this share of its time to other processes tells nothing of the model
MIN_CLEAN_RUNS = 10  # with fewer undisturbed runs, percentiles are taken of all
CLOCK_RESOLUTION_S = 1e-6  # a coarser CPU clock (Windows: 16 ms) is of no use here

Feeds = Mapping[str, np.ndarray]


@dataclass
class _Track:
    """What was timed of one candidate.

    Attributes:
        rounds_ms: One figure for each round, by rebuild.
        runs_ms: Wall time of every run.
        clean_ms: Those of slots that no other process disturbed.
        wall_ms: All slots together.
        busy_ms: The part of it in which this thread ran; the same where only the wall clock tells.
    """

    rounds_ms: list[list[float]] = field(default_factory=list)
    runs_ms: list[float] = field(default_factory=list)
    clean_ms: list[float] = field(default_factory=list)
    wall_ms: float = 0.0
    busy_ms: float = 0.0

    def add_slot(self, times_ms: list[float], busy_ms: float | None) -> float:
        """Keep the runs of one slot; returns its milliseconds per run."""
        wall = sum(times_ms)
        busy = wall if busy_ms is None else min(busy_ms, wall)
        self.wall_ms, self.busy_ms = self.wall_ms + wall, self.busy_ms + busy
        self.runs_ms.extend(times_ms)
        if wall - busy <= STOLEN_SLOT * wall:
            self.clean_ms.extend(times_ms)
        return float(np.median(times_ms)) if busy_ms is None else busy / len(times_ms)

    def summary(self) -> Latency:
        return summarize(self.clean_ms if len(self.clean_ms) >= MIN_CLEAN_RUNS else self.runs_ms)


def compare_latency(
    original: Model,
    result: Model,
    feeds: Feeds,
    *,
    provider: str = "cpu",
    threads: int = 1,
    budget_s: float = BUDGET_S,
    rebuilds: int = REBUILDS,
) -> LatencyComparison:
    """Time two models against each other; see `compare_many`."""
    return compare_many(
        original, [result], feeds, provider=provider, threads=threads, budget_s=budget_s, rebuilds=rebuilds
    )[0]


def compare_many(
    baseline: Model,
    candidates: Sequence[Model],
    feeds: Feeds,
    *,
    provider: str = "cpu",
    threads: int = 1,
    budget_s: float = BUDGET_S,
    rebuilds: int = REBUILDS,
) -> list[LatencyComparison]:
    """Time candidates against one baseline, all in the same rounds, each in a session of its own.

    A round runs everybody in a random order and then in the reverse one (A B B A), so that a machine that slowly speeds
    up or down favours nobody. Sessions are rebuilt in turned order: the luck of their memory layout stays with them.

    Args:
        baseline: What ratios are relative to.
        candidates: Models with the same inputs.
        feeds: One batch, by input name.
        provider: See `open_session`.
        threads: Threads inside an operator.
        budget_s: Seconds for warm-up and timing, shared by all; building sessions comes on top.
        rebuilds: At least so many pairs of sessions; more when they are quickly built.

    Returns:
        One comparison for each candidate, in order.

    Raises:
        UsageError: A budget or a number of rebuilds that is not positive.
        ModelError: A model cannot be loaded or run.
        ProviderError: The provider is missing or did not take a model.
    """
    tracks = _interleave([baseline, *candidates], feeds, provider, threads, budget_s, rebuilds)
    reference, shapes = tracks[0], {name: list(array.shape) for name, array in feeds.items()}
    original = reference.summary()
    stolen = 1 - sum(track.busy_ms for track in tracks) / sum(track.wall_ms for track in tracks)
    comparisons = []
    for track in tracks[1:]:
        ratios = [
            [b / a for a, b in zip(ours, theirs, strict=True)]
            for ours, theirs in zip(reference.rounds_ms, track.rounds_ms, strict=True)
        ]
        interval = ratio_interval(ratios)
        comparisons.append(
            LatencyComparison(
                provider=provider,
                threads=threads,
                batch=_batch(shapes),
                shapes=shapes,
                original=original,
                result=track.summary(),
                ratio=interval.value,
                ratio_low=interval.low,
                ratio_high=interval.high,
                rebuilds=len(ratios),
                stolen=stolen,
            )
        )
    return comparisons


def measure_latency(
    model: Model,
    feeds: Feeds,
    *,
    provider: str = "cpu",
    threads: int = 1,
    budget_s: float = BUDGET_S,
    rebuilds: int = REBUILDS,
) -> Latency:
    """Absolute run time of one model, over several sessions; errors as `compare_many`."""
    return _interleave([model], feeds, provider, threads, budget_s, rebuilds)[0].summary()


def _interleave(
    models: Sequence[Model], feeds: Feeds, provider: str, threads: int, budget_s: float, rebuilds: int
) -> list[_Track]:
    if budget_s <= 0 or rebuilds < 1:
        raise UsageError(f"cannot time with a budget of {budget_s:g} s and {rebuilds} rebuilds", hint="give more")
    rng = np.random.default_rng(0)
    tracks = [_Track() for _ in models]
    built, planned = 0, rebuilds
    by_cpu_clock = _has_cpu_clock(provider, threads)
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(loadable(model)) for model in models]
        while built < planned:
            turned = range(len(sources)) if built % 2 == 0 else range(len(sources) - 1, -1, -1)
            start = time.perf_counter()
            sessions = {i: open_session(sources[i], provider=provider, threads=threads) for i in turned}
            if built == 0:
                planned = _rebuilds(time.perf_counter() - start, budget_s, rebuilds)
            ordered = [sessions[i] for i in range(len(sources))]
            _time_rounds(ordered, feeds, budget_s / planned, rng, tracks, by_cpu_clock)
            built += 1
    return tracks


def _has_cpu_clock(provider: str, threads: int) -> bool:
    """Whether all of the work is done by the calling thread: then its CPU time leaves other processes out."""
    return provider == "cpu" and threads == 1 and time.get_clock_info("thread_time").resolution <= CLOCK_RESOLUTION_S


def _rebuilds(load_s: float, budget_s: float, wanted: int) -> int:
    """Rebuilds narrow the interval, rounds hardly do: as many as their loading time allows."""
    affordable = int(LOAD_SHARE * budget_s / max(load_s, 1e-6))
    return max(wanted, min(affordable, MAX_REBUILDS))


def _time_rounds(
    sessions: Sequence[Session],
    feeds: Feeds,
    seconds: float,
    rng: np.random.Generator,
    tracks: Sequence[_Track],
    by_cpu_clock: bool,
) -> None:
    end = time.perf_counter() + seconds
    warm_s = [_warm_up(session, feeds, WARM_SHARE * seconds / len(sessions)) for session in sessions]
    repeats = [max(1, int(SLOT_S / max(each, 1e-7))) for each in warm_s]
    for track in tracks:
        track.rounds_ms.append([])
    while True:
        order = rng.permutation(len(sessions))
        slots: list[list[float]] = [[] for _ in sessions]
        for i in (*order, *order[::-1]):
            start = time.thread_time()
            times = _time_runs(sessions[i], feeds, repeats[i])
            busy_ms = (time.thread_time() - start) * 1e3 if by_cpu_clock else None
            slots[i].append(tracks[i].add_slot(times, busy_ms))
        for track, per_run in zip(tracks, slots, strict=True):
            track.rounds_ms[-1].append(float(np.mean(per_run)))
        if time.perf_counter() >= end:
            return


def _warm_up(session: Session, feeds: Feeds, limit_s: float) -> float:
    """Run until the times have settled; returns the last median in seconds."""
    run(session, feeds)  # the first run allocates, and tells of wrong inputs
    start, previous = time.perf_counter(), float("inf")
    while True:
        median = float(np.median(_time_runs(session, feeds, WARM_BLOCK, until=start + limit_s))) / 1e3
        if median >= previous * (1 - WARM_GAIN) or time.perf_counter() - start >= limit_s:
            return median
        previous = median


def _time_runs(session: Session, feeds: Feeds, count: int, until: float = float("inf")) -> list[float]:
    """Milliseconds of each of ``count`` runs in a row, fewer when the clock passes ``until``."""
    times, before = [], time.perf_counter()
    for _ in range(count):
        session.run(None, feeds)
        after = time.perf_counter()
        times.append((after - before) * 1e3)
        before = after
        if after >= until:
            break
    return times


def _batch(shapes: Mapping[str, Sequence[int]]) -> int:
    return next((shape[0] for shape in shapes.values() if shape), 1)
