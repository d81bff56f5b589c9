"""What is kept of the runs of one model."""

from __future__ import annotations

import numpy as np
import pytest

from modelopt_cli.profiling.session import open_session
from modelopt_cli.profiling.statistics import ratio_interval
from modelopt_cli.profiling.track import Block, Track, time_blocks
from modelopt_cli.testing import model_from_text


def test_time_that_others_took_is_left_out_of_the_ratio_and_of_the_runs() -> None:
    track = Track(rounds_ms=[[]])
    track.add_round([Block([1.0, 1.0], busy_ms=2.0), Block([1.0, 9.0], busy_ms=2.2)])
    assert track.rounds_ms == [[1.0]]
    assert (track.wall_ms, track.busy_ms) == (12.0, pytest.approx(4.2))
    assert (track.clean_ms, track.runs_ms) == ([1.0, 1.0], [1.0, 1.0, 1.0, 9.0])
    assert track.summary().runs == 4  # too few undisturbed runs for percentiles
    track.add_round([Block([1.0] * 20, busy_ms=20.0)])
    assert track.summary().p99_ms == 1.0


def test_without_a_cpu_clock_a_round_is_its_median_run() -> None:
    track = Track(rounds_ms=[[]])
    track.add_round([Block([1.0, 1.0], None), Block([2.0], None), Block([9.0, 9.0], None)])
    assert track.rounds_ms == [[2.0]]
    assert track.wall_ms == track.busy_ms


@pytest.mark.parametrize(
    ("busy", "found"), [([2.0, 0.0, 2.1], 2.0), ([0.9, 2.0, 2.1], 2.0), ([1.9, 2.0, 9.0], 1.9), ([0.0, 0.0], 3.0)]
)
def test_a_clock_that_went_wrong_is_not_a_fast_run(busy: list[float], found: float) -> None:
    track = Track(rounds_ms=[[]])
    track.add_round([Block([3.0], each) for each in busy])
    assert track.rounds_ms == [[found]]
    assert track.interval().low > 0


@pytest.mark.parametrize(("run_s", "blocks"), [(1e-6, [7]), (20e-6, [2, 2, 2, 1]), (1e-3, [1] * 7)])
def test_short_runs_share_one_reading_of_the_clock(run_s: float, blocks: list[int]) -> None:
    session = open_session(model_from_text("g (float[1] x) => (float[1] y) { y = Neg(x) }"))
    found = time_blocks(session, {"x": np.ones(1, np.float32)}, 7, run_s, by_cpu_clock=True)
    assert [len(block.times_ms) for block in found] == blocks
    assert all(block.busy_ms is not None for block in found)


def disturbed(rng: np.random.Generator, ms: float) -> Track:
    """Twenty rebuilds of six rounds: a third of the blocks lost up to half as much again to crowded caches."""
    track = Track()
    for luck in rng.normal(0, 0.004, 20):
        track.rounds_ms.append([])
        for _ in range(6):
            taken = ms * np.exp(luck) * (1 + rng.exponential(0.15, 4) * (rng.random(4) < 0.35) + rng.random(4) * 0.01)
            track.add_round([Block([each], each) for each in taken])
    return track


@pytest.mark.parametrize(("slower", "least", "most"), [(1.0, 0, 5), (1.05, 98, 100)])
def test_a_crowded_machine_neither_hides_five_percent_nor_makes_them_up(slower: float, least: int, most: int) -> None:
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(100):
        ours, theirs = disturbed(rng, 1.0), disturbed(rng, slower)
        ratios = [
            [b / a for a, b in zip(*pair, strict=True)] for pair in zip(ours.rounds_ms, theirs.rounds_ms, strict=True)
        ]
        found += ratio_interval(ratios).low > 1
    assert least <= found <= most
