"""What was timed of one model: its rounds for ratios, its single runs for milliseconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from modelopt_cli.profiling.session import Session
from modelopt_cli.profiling.statistics import Interval, Latency, ratio_interval, summarize

BLOCK_S = 50e-6  # reading the CPU clock takes half a microsecond: shorter runs share one reading
STOLEN_SHARE = 0.02  # a block that lost more than this share of its time to other processes tells nothing of the model
# Of the usual CPU time of a block: one below was not fast, its clock was wrong. On a virtual machine (Linux 6, Zen 3) a
# block that another process interrupted reads 0 or half of what it took, one in a million of them.
SHORTEST = 0.6
MIN_CLEAN_RUNS = 10  # with fewer undisturbed runs, percentiles are taken of all

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Block:
    """Runs in a row.

    Attributes:
        times_ms: Wall time of each.
        busy_ms: CPU time of this thread in all of them; None where it does not do all of the work.
    """

    times_ms: list[float]
    busy_ms: float | None

    @property
    def wall_ms(self) -> float:
        """All runs together."""
        return sum(self.times_ms)

    @property
    def own_ms(self) -> float:
        """What of it this thread had the processor for; all of it where only the wall clock tells."""
        return self.wall_ms if self.busy_ms is None else min(self.busy_ms, self.wall_ms)


@dataclass
class Track:
    """What was timed of one model.

    Attributes:
        rounds_ms: One figure for each round, by rebuild.
        runs_ms: Wall time of every run.
        clean_ms: Those of blocks that no other process disturbed.
        wall_ms: All blocks together.
        busy_ms: The part of it in which this thread ran; the same where only the wall clock tells.
    """

    rounds_ms: list[list[float]] = field(default_factory=list)
    runs_ms: list[float] = field(default_factory=list)
    clean_ms: list[float] = field(default_factory=list)
    wall_ms: float = 0.0
    busy_ms: float = 0.0

    def add_round(self, blocks: list[Block]) -> None:
        """Keep the runs of one round of the latest rebuild.

        By the CPU clock a round is its fastest block: what disturbs a thread (caches that others emptied, a processor
        shared with them) only ever adds to its time. With a load of five on two processors the ratio of two sessions
        spread by 0.5 % so, and by 5 % with the mean of a round. By the wall clock it is the median run.
        """
        for block in blocks:
            self.wall_ms, self.busy_ms = self.wall_ms + block.wall_ms, self.busy_ms + block.own_ms
            self.runs_ms.extend(block.times_ms)
            if block.wall_ms - block.own_ms <= STOLEN_SHARE * block.wall_ms:
                self.clean_ms.extend(block.times_ms)
        by_cpu = [block.busy_ms / len(block.times_ms) for block in blocks if block.busy_ms is not None]
        by_wall = [each for block in blocks for each in block.times_ms]
        possible = [each for each in by_cpu if each > SHORTEST * float(np.median(by_cpu))]
        self.rounds_ms[-1].append(min(possible) if possible else float(np.median(by_wall)))

    def latency(self) -> Latency:
        """`summary` with the interval of the median."""
        latency = self.summary()
        of_rounds = self.interval()
        scale = latency.median_ms / of_rounds.value  # the rounds may be by another clock: take the width of it alone
        return replace(latency, low_ms=of_rounds.low * scale, high_ms=of_rounds.high * scale)

    def summary(self) -> Latency:
        """Single runs, undisturbed ones where there are enough."""
        return summarize(self.clean_ms if len(self.clean_ms) >= MIN_CLEAN_RUNS else self.runs_ms)

    def interval(self) -> Interval:
        """Milliseconds of a round, with the interval over rebuilds."""
        return ratio_interval(self.rounds_ms)

    def slowdown(self) -> float:
        """How much longer the last third of the undisturbed runs took than the first; 0 with too few to tell."""
        third = len(self.clean_ms) // 3
        if third < MIN_CLEAN_RUNS:
            return 0.0
        return float(np.median(self.clean_ms[-third:]) / np.median(self.clean_ms[:third])) - 1.0


def time_blocks(session: Session, feeds: Feeds, runs: int, run_s: float, *, by_cpu_clock: bool) -> list[Block]:
    """Run a model ``runs`` times in a row; ``run_s`` is about how long one takes."""
    size = min(runs, max(1, round(BLOCK_S / run_s)))
    blocks = []
    for first in range(0, runs, size):
        start = time.thread_time()
        times = time_runs(session, feeds, min(size, runs - first))
        blocks.append(Block(times, (time.thread_time() - start) * 1e3 if by_cpu_clock else None))
    return blocks


def time_runs(session: Session, feeds: Feeds, count: int, until: float = float("inf")) -> list[float]:
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
