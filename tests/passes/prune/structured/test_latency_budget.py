"""A budget of latency: the table, the choice from it, and the corrections; the clock is replaced by arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest
from channel_models import named, w

from modelopt_cli.graph.edit import constant
from modelopt_cli.passes.prune.structured.analysis import find_dependencies
from modelopt_cli.passes.prune.structured.budget import Choice, distribute_separable
from modelopt_cli.passes.prune.structured.candidates import find_candidates
from modelopt_cli.passes.prune.structured.plan import Budget
from modelopt_cli.passes.prune.structured.planner import Planner
from modelopt_cli.passes.prune.structured.prune_channels import PruneChannels
from modelopt_cli.passes.prune.structured.structured import _details
from modelopt_cli.passes.prune.structured.timetable import cut, measured_levels
from modelopt_cli.progress import Silent
from modelopt_cli.testing import ArrayDataset, model_from_text


def network(channels: int = 48) -> ir.Model:
    text = """m (float[N,3,8,8] x) => (float[N,5] y) {
        a = Conv <pads=[1,1,1,1]> (x, w1, b1)  r = Relu (a)  b = Conv (r, w2, b2)
        s = Relu (b)  c = Conv (s, w3, b3)  d = Conv (s, w4, b3)  e = Add (d, c)
        p = GlobalAveragePool (e)  f = Flatten (p)  y = Gemm <transB=1> (f, w5, b5) }"""
    wide = {f"w{i}": w(channels, channels, 1, 1) for i in (2, 3)}
    weights = {
        "w1": w(channels, 3, 3, 3),
        **wide,
        "w4": w(channels, channels, 1, 1) / 2,
        "w5": w(5, channels),
        "b5": w(5),
    }
    return named(model_from_text(text, **weights, **{f"b{i}": w(channels) for i in (1, 2, 3)}))


def work(model: ir.Model) -> int:
    """Elements of all weights: an exact clock."""
    arrays = [constant(value) for node in model.graph for value in node.inputs]
    return sum(array.size for array in arrays if array is not None)


def by_weights(model: ir.Model, smaller: Sequence[ir.Model]) -> list[float]:
    return [work(each) / work(model) for each in smaller]


def never_faster(model: ir.Model, smaller: Sequence[ir.Model]) -> list[float]:
    return [1.1] * len(smaller)


def planner(timer: object, blocks: bool = False) -> tuple[ir.Model, Planner]:
    model = network()
    found = find_dependencies(model)
    candidates, _ = find_candidates(found, {"channels"}, 16)
    data = ArrayDataset({"x": np.random.default_rng(1).standard_normal((16, 3, 8, 8)).astype(np.float32)})
    branches = PruneChannels().blocks_of(model, found) if blocks else []
    return model, Planner(model, found, candidates, data, "l2", Silent(), branches, None, timer)


@pytest.mark.parametrize("share", [0.8, 0.6, 0.4])
def test_what_is_measured_in_the_end_is_within_the_budget_and_close_to_it(share: float) -> None:
    model, plans = planner(by_weights)
    (plan,) = plans.alternatives(Budget("latency", share))
    assert plan.met
    assert plan.reached == pytest.approx(by_weights(model, [cut(model, plan.gone, plan.blocks)])[0], abs=1e-4)
    assert share - 0.2 < plan.reached <= share


def test_a_branch_leaves_and_what_is_within_it_is_not_counted_twice() -> None:
    model, plans = planner(by_weights, blocks=True)
    for plan in plans.alternatives(Budget("latency", 0.35)):
        assert plan.met
        assert by_weights(model, [cut(model, plan.gone, plan.blocks)])[0] <= 0.35


def test_nothing_leaves_where_nothing_is_faster() -> None:
    _, plans = planner(never_faster)
    (plan,) = plans.alternatives(Budget("latency", 0.7))
    assert (plan.empty, plan.met, plan.reached) == (True, False, 1.0)


def test_the_table_is_in_the_details() -> None:
    _, plans = planner(by_weights)
    budget = Budget("latency", 0.6)
    rows = _details("prune-channels", plans.alternatives(budget)[0], budget)["latency_table"]["rows"]
    assert [row["levels"] for row in rows] == [[48, 32, 16]] * 3
    for row in rows:
        assert row["shares"] == sorted(row["shares"], reverse=True)
        assert row["shares"][0] == 1 > row["shares"][-1]


def test_the_distribution_is_that_of_least_error() -> None:
    rng = np.random.default_rng(3)
    choices = [Choice((3, 2, 1), (0.0, *np.sort(rng.random(2)))) for _ in range(5)]
    times = [(1.0, *(1 - np.sort(rng.random(2)) / 5)) for _ in range(5)]
    for limit in (0.9, 0.7, 0.5):
        levels, met = distribute_separable(choices, times, limit)
        tried = [
            sum(choice.errors[level] for choice, level in zip(choices, each, strict=True))
            for each in itertools.product(range(3), repeat=5)
            if sum(1 - time[level] for time, level in zip(times, each, strict=True)) >= (1 - limit) * 1.005
        ]
        error = sum(choice.errors[level] for choice, level in zip(choices, levels, strict=True))
        assert met
        assert sum(1 - time[level] for time, level in zip(times, levels, strict=True)) >= 1 - limit
        assert error <= min(tried)


def test_what_no_choice_saves_is_said_and_the_most_is_taken() -> None:
    assert distribute_separable([Choice((2, 1), (0.0, 1.0))] * 2, [(1.0, 0.9), (1.0, 1.0)], 0.5) == ([1, 0], False)


@pytest.mark.parametrize(("count", "levels"), [(2, [1]), (4, [1, 2, 3]), (9, [1, 4, 8])])
def test_the_last_level_is_always_measured(count: int, levels: list[int]) -> None:
    assert measured_levels(count) == levels
