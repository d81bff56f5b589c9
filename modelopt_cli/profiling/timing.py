"""Latency of models timed in alternation: the machine's moods hit all of them alike, and so cancel in the ratio.

One thread on the CPU is timed by its own CPU clock too: wall time less what other processes took of it. On two cores
with a load of five, a copy made 5 % slower was found in 8 of 8 runs by that clock and in 1 of 8 by the wall's.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from modelopt_cli.errors import UsageError
from modelopt_cli.profiling.bound import BoundSession
from modelopt_cli.profiling.conditions import Conditions, Finding, between, findings, snapshot
from modelopt_cli.profiling.session import Model, Session, loadable, open_session, run
from modelopt_cli.profiling.statistics import Interval, Latency, LatencyComparison, ratio_interval, summarize

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
UNTIL_LIMIT_S = 60.0  # an interval that will not narrow in this time will not narrow

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Setting:
    """Where and how models are run.

    Attributes:
        provider: See `open_session`.
        threads: Threads inside an operator.
        config: Session configuration entries.
        bound: Inputs and outputs stay on the device: what is timed is computing, without copies.
    """

    provider: str = "cpu"
    threads: int = 1
    config: Mapping[str, str] = field(default_factory=dict)
    bound: bool = False

    def open(self, model: Path | bytes) -> Session:
        """A session for this setting; errors as `open_session`."""
        session = open_session(model, provider=self.provider, threads=self.threads, config=self.config)
        return BoundSession(session) if self.bound else session


@dataclass(frozen=True)
class Budget:
    """How long to measure.

    Attributes:
        seconds: For warm-up and timing, shared by all models; building sessions comes on top.
        rebuilds: At least so many times are the sessions built anew; more when that is quick.
        runs: At least this many runs of each model, instead of a time.
        until: Go on until each interval reaches this share of its value to either side, `limit_s` at most.
        limit_s: See ``until``.
    """

    seconds: float = BUDGET_S
    rebuilds: int = REBUILDS
    runs: int | None = None
    until: float | None = None
    limit_s: float = UNTIL_LIMIT_S

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.rebuilds < 1 or (self.runs is not None and self.runs < 1):
            message = f"cannot time with a budget of {self.seconds:g} s and {self.rebuilds} rebuilds"
            raise UsageError(message, hint="give more")


@dataclass(frozen=True)
class Measurement:
    """Models timed together.

    Attributes:
        latencies: Of each model, in order.
        comparisons: Each model but the first against the first.
        conditions: What the machine did meanwhile.
        findings: What makes the figures doubtful.
        rebuilds: How many times the sessions were built.
    """

    latencies: tuple[Latency, ...]
    comparisons: tuple[LatencyComparison, ...]
    conditions: Conditions
    findings: tuple[Finding, ...]
    rebuilds: int


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
        """Single runs, undisturbed ones where there are enough."""
        return summarize(self.clean_ms if len(self.clean_ms) >= MIN_CLEAN_RUNS else self.runs_ms)

    def latency(self) -> Latency:
        """`summary` with the interval of the median."""
        latency = self.summary()
        of_rounds = self.interval()
        scale = latency.median_ms / of_rounds.value  # the rounds may be by another clock: take the width of it alone
        return replace(latency, low_ms=of_rounds.low * scale, high_ms=of_rounds.high * scale)

    def interval(self) -> Interval:
        """Milliseconds of a round, with the interval over rebuilds."""
        return ratio_interval(self.rounds_ms)

    def slowdown(self) -> float:
        """How much longer the last third of the runs took than the first; 0 with too few to tell."""
        third = len(self.runs_ms) // 3
        if third < MIN_CLEAN_RUNS:
            return 0.0
        return float(np.median(self.runs_ms[-third:]) / np.median(self.runs_ms[:third])) - 1.0


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
    setting = Setting(provider, threads)
    return list(measure([baseline, *candidates], feeds, setting, Budget(budget_s, rebuilds)).comparisons)


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
    return measure([model], feeds, Setting(provider, threads), Budget(budget_s, rebuilds)).latencies[0]


def measure(
    models: Sequence[Model], feeds: Feeds, setting: Setting | None = None, budget: Budget | None = None
) -> Measurement:
    """Time any number of models in alternation, the first being what the others are compared with.

    Args:
        models: With the same inputs.
        feeds: One batch, by input name.
        setting: Default: one thread on the CPU.
        budget: Default: four seconds.

    Raises:
        ModelError: A model cannot be loaded or run.
        ProviderError: The provider is missing or did not take a model.
    """
    setting, budget = setting or Setting(), budget or Budget()
    before = snapshot()
    tracks = _interleave(models, feeds, setting, budget)
    conditions = between(before, snapshot())
    latencies = tuple(track.latency() for track in tracks)
    slowdown = min(track.slowdown() for track in tracks)
    return Measurement(
        latencies,
        tuple(_comparisons(tracks, latencies, feeds, setting)),
        conditions,
        tuple(findings(conditions, list(latencies), slowdown)),
        len(tracks[0].rounds_ms),
    )


def _comparisons(
    tracks: Sequence[_Track], latencies: Sequence[Latency], feeds: Feeds, setting: Setting
) -> Iterator[LatencyComparison]:
    shapes = {name: list(array.shape) for name, array in feeds.items()}
    stolen = 1 - sum(track.busy_ms for track in tracks) / sum(track.wall_ms for track in tracks)
    for track, latency in zip(tracks[1:], latencies[1:], strict=True):
        interval = ratio_interval(_ratios(tracks[0], track))
        yield LatencyComparison(
            provider=setting.provider,
            threads=setting.threads,
            batch=_batch(shapes),
            shapes=shapes,
            original=latencies[0],
            result=latency,
            ratio=interval.value,
            ratio_low=interval.low,
            ratio_high=interval.high,
            rebuilds=len(track.rounds_ms),
            stolen=stolen,
        )


def _ratios(reference: _Track, track: _Track) -> list[list[float]]:
    """One ratio for each round, by rebuild."""
    return [
        [b / a for a, b in zip(ours, theirs, strict=True)]
        for ours, theirs in zip(reference.rounds_ms, track.rounds_ms, strict=True)
    ]


def _interleave(models: Sequence[Model], feeds: Feeds, setting: Setting, budget: Budget) -> list[_Track]:
    rng = np.random.default_rng(0)
    tracks = [_Track() for _ in models]
    built, planned, started = 0, budget.rebuilds, time.perf_counter()
    by_cpu_clock = _has_cpu_clock(setting)
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(loadable(model)) for model in models]
        while built < planned or _too_wide(tracks, budget, started):
            turned = range(len(sources)) if built % 2 == 0 else range(len(sources) - 1, -1, -1)
            start = time.process_time()  # on a busy machine rebuilds are needed most: what others take does not count
            sessions = {i: setting.open(sources[i]) for i in turned}
            if built == 0:
                planned = _rebuilds(time.process_time() - start, budget)
            ordered = [sessions[i] for i in range(len(sources))]
            _time_rounds(ordered, feeds, _enough(budget, planned), rng, tracks, by_cpu_clock)
            del sessions, ordered  # or the next ones would be built beside them, with twice the weights in memory
            built += 1
    return tracks


@dataclass(frozen=True)
class _Share:
    """What one rebuild is allowed: warm-up, and when its rounds end.

    Attributes:
        warm_s: For the warm-up of all sessions.
        is_done: Told the seconds since the start and the runs of each session.
    """

    warm_s: float
    is_done: Callable[[float, int], bool]


def _enough(budget: Budget, planned: int) -> _Share:
    seconds = budget.seconds / planned
    if budget.runs is None:
        return _Share(WARM_SHARE * seconds, lambda spent, _: spent >= seconds)
    runs = -(-budget.runs // planned)
    return _Share(WARM_SHARE * seconds, lambda _, done: done >= runs)


def _too_wide(tracks: Sequence[_Track], budget: Budget, started: float) -> bool:
    """Whether the budget asks for narrower intervals than there are, and there is time left."""
    if budget.until is None or time.perf_counter() - started >= budget.limit_s:
        return False
    intervals = [ratio_interval(_ratios(tracks[0], track)) for track in tracks[1:]] or [tracks[0].interval()]
    return any(max(each.high - each.value, each.value - each.low) > budget.until * each.value for each in intervals)


def _has_cpu_clock(setting: Setting) -> bool:
    """Whether all of the work is done by the calling thread: then its CPU time leaves other processes out."""
    alone = setting.provider == "cpu" and setting.threads == 1
    return alone and time.get_clock_info("thread_time").resolution <= CLOCK_RESOLUTION_S


def _rebuilds(load_s: float, budget: Budget) -> int:
    """Rebuilds narrow the interval, rounds hardly do: as many as their loading time allows."""
    affordable = int(LOAD_SHARE * budget.seconds / max(load_s, 1e-6))
    return max(budget.rebuilds, min(affordable, MAX_REBUILDS))


def _time_rounds(
    sessions: Sequence[Session],
    feeds: Feeds,
    share: _Share,
    rng: np.random.Generator,
    tracks: Sequence[_Track],
    by_cpu_clock: bool,
) -> None:
    started = time.perf_counter()
    warm_s = [_warm_up(session, feeds, share.warm_s / len(sessions)) for session in sessions]
    repeats = [max(1, int(SLOT_S / max(each, 1e-7))) for each in warm_s]
    done = 0
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
        done += 2 * min(repeats)
        if share.is_done(time.perf_counter() - started, done):
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
