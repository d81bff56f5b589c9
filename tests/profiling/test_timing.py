"""What is timed and how often; never how long it took."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.errors import ModelError, UsageError
from modelopt_cli.profiling.timing import Budget, _orders, _rebuilds, compare_latency, compare_many, measure_latency
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


@pytest.mark.parametrize(
    ("models", "outside", "rebuilds"),
    [((1, 400), (0.0, 1.5), 2), ((400, 1), (0.7, 1.5), 2), ((400, 1), (0.0, 1.5), 6), ((1, 400), None, 6)],
    ids=["slower", "faster", "only slower is asked for", "not asked"],
)
def test_what_is_decided_is_not_timed_on(models, outside, rebuilds) -> None:
    result = compare_latency(*map(chain, models), X, budget_s=0.3, rebuilds=6, outside=outside)
    assert result.rebuilds == rebuilds if rebuilds == 2 else result.rebuilds >= rebuilds


@pytest.mark.parametrize(("budget", "rebuilds"), [(0, 4), (1, 0)])
def test_no_time_is_no_measurement(budget: float, rebuilds: int) -> None:
    with pytest.raises(UsageError, match="cannot time with"):
        compare_latency(chain(1), chain(1), X, budget_s=budget, rebuilds=rebuilds)


def test_wrong_inputs_are_said_in_one_line() -> None:
    with pytest.raises(ModelError, match="fails when it runs: "):
        measure_latency(chain(1), {"x": np.ones((2, 9), np.float32)}, budget_s=BUDGET)


def test_more_threads_are_timed_by_the_wall_clock() -> None:
    assert compare_latency(chain(1), chain(1), X, threads=2, budget_s=BUDGET, rebuilds=2).stolen == 0.0


def test_every_place_in_a_round_is_everybodys_as_often() -> None:
    orders = [order for order, _ in zip(_orders(2, np.random.default_rng(0)), range(8), strict=False)]
    assert all(sorted(order) == [0, 0, 1, 1] and order == order[::-1] for order in orders)
    assert [sum(order[0] for order in orders), sum(order[1] for order in orders)] == [4, 4]


@pytest.mark.parametrize(
    ("load_s", "turn_s", "rebuilds"),
    [(0.001, 0.002, 20), (0.05, 0.002, 10), (10, 0.002, 4), (0.001, 0.02, 12), (0.001, 5, 4)],
)
def test_sessions_are_rebuilt_as_often_as_loading_and_running_allow(
    load_s: float, turn_s: float, rebuilds: int
) -> None:
    assert _rebuilds(load_s, turn_s, Budget(2.0)) == rebuilds
