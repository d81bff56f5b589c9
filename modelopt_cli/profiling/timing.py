"""Latency of models timed in alternation: the machine's moods hit all of them alike, and so cancel in the ratio.

One thread on the CPU is timed by its own CPU clock too: wall time less what other processes took of it. What they do to
caches and to the processor itself stays in it, so a round counts its fastest run, and sessions are rebuilt often: each
pair has its own luck (see `Track.add_round`, `ratio_interval`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from modelopt_cli.errors import UsageError
from modelopt_cli.profiling.bound import BoundSession
from modelopt_cli.profiling.conditions import Conditions, Finding, between, findings, snapshot
from modelopt_cli.profiling.session import Model, Session, fitted, loadable, open_session, run
from modelopt_cli.profiling.statistics import Latency, LatencyComparison, ratio_interval
from modelopt_cli.profiling.track import Block, Feeds, Track, time_blocks, time_runs

BUDGET_S = 4.0
REBUILDS = 4
MAX_REBUILDS = 20
FEWEST_REBUILDS = 2  # with one, only the prior tells how much the luck of sessions spreads
LOAD_SHARE = 0.25  # more rebuilds than asked for, while loading them takes no more than this share of the budget
MIN_ROUNDS = 4  # of each rebuild, before there are more rebuilds
SLOT_S = 0.002  # a fast model runs several times in a row: single runs would time what the other left in the caches
LONG_RUN_S = 0.01  # from here on a run fills the caches by itself, and has its turn alone
WARM_BLOCK = 3
WARM_GAIN = 0.02  # warm enough when a block of runs is no longer this much faster than the one before
WARM_SHARE = 0.2  # of the time of a rebuild, at most
CLOCK_RESOLUTION_S = 1e-6  # a coarser CPU clock (Windows: 16 ms) is of no use here
UNTIL_LIMIT_S = 60.0  # an interval that will not narrow in this time will not narrow


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
        outside: Stop, after `FEWEST_REBUILDS` at least, when the whole interval of every ratio is below the first
            number or above the second: for whoever only wants to know that.
    """

    seconds: float = BUDGET_S
    rebuilds: int = REBUILDS
    runs: int | None = None
    until: float | None = None
    limit_s: float = UNTIL_LIMIT_S
    outside: tuple[float, float] | None = None

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


def compare_latency(
    original: Model,
    result: Model,
    feeds: Feeds,
    *,
    provider: str = "cpu",
    threads: int = 1,
    budget_s: float = BUDGET_S,
    rebuilds: int = REBUILDS,
    outside: tuple[float, float] | None = None,
) -> LatencyComparison:
    """Time two models against each other; see `compare_many`, and `Budget` for ``outside``."""
    budget = Budget(budget_s, rebuilds, outside=outside)
    return measure([original, result], feeds, Setting(provider, threads), budget).comparisons[0]


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

    A round runs everybody in a random order and then in the reverse one (A B B A, the next B A A B), so that a machine
    that slowly speeds up or down favours nobody. Sessions are rebuilt in turned order: the luck of their memory layout
    stays with them.

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
    tracks: Sequence[Track], latencies: Sequence[Latency], feeds: Feeds, setting: Setting
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


def _ratios(reference: Track, track: Track) -> list[list[float]]:
    """One ratio for each round, by rebuild."""
    return [
        [b / a for a, b in zip(ours, theirs, strict=True)]
        for ours, theirs in zip(reference.rounds_ms, track.rounds_ms, strict=True)
    ]


def _interleave(models: Sequence[Model], feeds: Feeds, setting: Setting, budget: Budget) -> list[Track]:
    rng = np.random.default_rng(0)
    tracks = [Track() for _ in models]
    built, planned, started = 0, budget.rebuilds, time.perf_counter()
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(loadable(model)) for model in models]
        while (built < planned and not _is_decided(tracks, budget)) or _too_wide(tracks, budget, started):
            turned = range(len(sources)) if built % 2 == 0 else range(len(sources) - 1, -1, -1)
            start = time.process_time()  # on a busy machine rebuilds are needed most: what others take does not count
            sessions = {i: setting.open(sources[i]) for i in turned}
            load_s, start = time.process_time() - start, time.perf_counter()
            share = budget.seconds / planned
            slots = [_warm_slot(sessions[i], feeds, WARM_SHARE * share / len(sources)) for i in range(len(sources))]
            if built == 0:
                planned = _rebuilds(load_s, sum(slot.seconds for slot in slots), budget)
            _time_rounds(slots, _is_done(budget, planned, start), rng, tracks, _has_cpu_clock(setting))
            del sessions, slots  # or the next ones would be built beside them, with twice the weights in memory
            built += 1
    return tracks


@dataclass(frozen=True)
class _Slot:
    """A session that is warm, what it is fed, and how often it runs in its turn."""

    session: Session
    feeds: Feeds
    run_s: float

    @property
    def runs(self) -> int:
        return max(1 if self.run_s >= LONG_RUN_S else 2, int(SLOT_S / self.run_s))

    @property
    def seconds(self) -> float:
        """Of one turn."""
        return self.runs * self.run_s


def _is_done(budget: Budget, planned: int, start: float) -> Callable[[int], bool]:
    """Told the runs of each session, says whether a rebuild that began at ``start`` had its share."""
    if budget.runs is not None:
        runs = -(-budget.runs // planned)
        return lambda done: done >= runs
    end = start + budget.seconds / planned
    return lambda _: time.perf_counter() >= end


def _too_wide(tracks: Sequence[Track], budget: Budget, started: float) -> bool:
    """Whether the budget asks for narrower intervals than there are, and there is time left."""
    if budget.until is None or time.perf_counter() - started >= budget.limit_s:
        return False
    intervals = [ratio_interval(_ratios(tracks[0], track)) for track in tracks[1:]] or [tracks[0].interval()]
    return any(max(each.high - each.value, each.value - each.low) > budget.until * each.value for each in intervals)


def _is_decided(tracks: Sequence[Track], budget: Budget) -> bool:
    """Whether each candidate is outside of what the budget asks about."""
    if budget.outside is None or len(tracks[0].rounds_ms) < FEWEST_REBUILDS:
        return False
    low, high = budget.outside
    intervals = [ratio_interval(_ratios(tracks[0], track)) for track in tracks[1:]]
    return all(each.high < low or each.low > high for each in intervals)


def _has_cpu_clock(setting: Setting) -> bool:
    """Whether all of the work is done by the calling thread: then its CPU time leaves other processes out."""
    alone = setting.provider == "cpu" and setting.threads == 1
    return alone and time.get_clock_info("thread_time").resolution <= CLOCK_RESOLUTION_S


def _rebuilds(load_s: float, turn_s: float, budget: Budget) -> int:
    """Rebuilds narrow the interval, rounds hardly do: as many as loading and a few rounds of each allow.

    Args:
        load_s: To build all sessions.
        turn_s: For every session to have its turn once; a round is two.
        budget: What there is.
    """
    by_load = LOAD_SHARE * budget.seconds / max(load_s, 1e-6)
    by_rounds = budget.seconds / (2 * MIN_ROUNDS * turn_s)
    return max(budget.rebuilds, min(int(by_load), int(by_rounds), MAX_REBUILDS))


def _time_rounds(
    slots: Sequence[_Slot],
    is_done: Callable[[int], bool],
    rng: np.random.Generator,
    tracks: Sequence[Track],
    by_cpu_clock: bool,
) -> None:
    done = 0
    for track in tracks:
        track.rounds_ms.append([])
    for order in _orders(len(slots), rng):
        blocks: list[list[Block]] = [[] for _ in slots]
        for i in order:
            slot = slots[i]
            blocks[i] += time_blocks(slot.session, slot.feeds, slot.runs, slot.run_s, by_cpu_clock=by_cpu_clock)
        for track, each in zip(tracks, blocks, strict=True):
            track.add_round(each)
        done += 2 * min(slot.runs for slot in slots)
        if is_done(done):
            return


def _orders(count: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Who has which turn, without end: A B B A and then B A A B, so that every place is everybody's as often."""
    while True:
        order = rng.permutation(count).tolist()
        yield [*order, *order[::-1]]
        yield [*order[::-1], *order]


def _warm_slot(session: Session, feeds: Feeds, limit_s: float) -> _Slot:
    """Run until the times have settled."""
    feeds = fitted(session, feeds)
    run(session, feeds)  # the first run allocates, and tells of wrong inputs
    start, previous = time.perf_counter(), float("inf")
    while True:
        times = time_runs(session, feeds, WARM_BLOCK, until=start + limit_s)
        median = float(np.median(times))
        if median >= previous * (1 - WARM_GAIN) or time.perf_counter() - start >= limit_s:
            return _Slot(session, feeds, max(min(times) / 1e3, 1e-7))
        previous = median


def _batch(shapes: Mapping[str, Sequence[int]]) -> int:
    return next((shape[0] for shape in shapes.values() if shape), 1)
