"""What is timed and how often; never how long it took."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.errors import ModelError, UsageError
from modelopt_cli.profiling.timing import _Track, compare_latency, compare_many, measure_latency
from modelopt_cli.testing import model_from_text

X = {"x": np.ones((2, 8), np.float32)}
BUDGET = 0.08


def chain(length: int) -> ir.Model:
    """``length`` matrix products in a row."""
    names = ["x", *(f"h{n}" for n in range(length - 1)), "y"]
    steps = " ".join(f"{out} = MatMul({inp}, w)" for inp, out in pairwise(names))
    return model_from_text(f"g (float[b,8] x) => (float[b,8] y) {{ {steps} }}", w=np.eye(8, dtype=np.float32))


def test_a_comparison_says_what_was_fed_and_stays_in_order() -> None:
    result = compare_latency(chain(1), chain(200), X, budget_s=BUDGET, rebuilds=2)
    assert (result.provider, result.threads, result.batch, result.shapes) == ("cpu", 1, 2, {"x": [2, 8]})
    assert result.rebuilds >= 2
    assert result.original.runs > 0
    assert result.ratio_low < result.ratio < result.ratio_high
    assert result.ratio > 2  # two hundred products against one: thirty times slower on any machine


def test_candidates_share_one_baseline() -> None:
    long, short = compare_many(chain(100), [chain(400), chain(1)], X, budget_s=BUDGET, rebuilds=2)
    assert long.original == short.original
    assert short.ratio < 0.8 < 1.3 < long.ratio


def test_absolute_times_alone() -> None:
    latency = measure_latency(chain(1), X, budget_s=BUDGET, rebuilds=2)
    assert 0 < latency.min_ms <= latency.median_ms <= latency.p90_ms <= latency.p99_ms


def test_a_budget_too_small_still_gives_a_round_for_each_rebuild() -> None:
    result = compare_latency(chain(1), chain(1), X, budget_s=1e-9, rebuilds=3)
    assert result.rebuilds == 3
    assert result.original.runs >= 6


@pytest.mark.parametrize(("budget", "rebuilds"), [(0, 4), (1, 0)])
def test_no_time_is_no_measurement(budget: float, rebuilds: int) -> None:
    with pytest.raises(UsageError, match="cannot time with"):
        compare_latency(chain(1), chain(1), X, budget_s=budget, rebuilds=rebuilds)


def test_wrong_inputs_are_said_in_one_line() -> None:
    with pytest.raises(ModelError, match="fails when it runs: "):
        measure_latency(chain(1), {"x": np.ones((2, 9), np.float32)}, budget_s=BUDGET)


def test_time_that_others_took_is_left_out_of_the_ratio_and_of_the_runs() -> None:
    track = _Track()
    assert track.add_slot([1.0, 1.0], busy_ms=2.0) == 1.0
    assert track.add_slot([1.0, 9.0], busy_ms=2.2) == 1.1
    assert (track.wall_ms, track.busy_ms) == (12.0, pytest.approx(4.2))
    assert (track.clean_ms, track.runs_ms) == ([1.0, 1.0], [1.0, 1.0, 1.0, 9.0])
    assert track.summary().runs == 4  # too few undisturbed runs for percentiles
    track.add_slot([1.0] * 20, busy_ms=20.0)
    assert track.summary().p99_ms == 1.0


def test_without_a_cpu_clock_a_slot_is_its_median_run() -> None:
    track = _Track()
    assert track.add_slot([1.0, 1.0, 9.0], busy_ms=None) == 1.0
    assert track.wall_ms == track.busy_ms


def test_more_threads_are_timed_by_the_wall_clock() -> None:
    assert compare_latency(chain(1), chain(1), X, threads=2, budget_s=BUDGET, rebuilds=2).stolen == 0.0
