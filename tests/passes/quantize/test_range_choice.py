"""Ranges by the error at the outputs: of all tensors, and of single ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelopt_cli.calibration.ranges import RangeRules
from modelopt_cli.passes.quantize import range_choice
from modelopt_cli.passes.quantize.builder import Builder
from modelopt_cli.passes.quantize.output_error import OutputJudge
from modelopt_cli.passes.quantize.plan import Plan, default_plan
from modelopt_cli.passes.quantize.quantize_static import QuantizeStatic
from modelopt_cli.passes.quantize.range_choice import choose_ranges
from modelopt_cli.progress import Silent
from modelopt_cli.targets.schemes import scheme_for
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import ArrayDataset, model_from_text, run_pass

TEXT = """net (float[n,24,24,24] x) => (float[n,24,22,22] y) {
    a = Conv <kernel_shape = [1, 1]> (x, w)
    b = Tanh (a)
    y = Conv <kernel_shape = [3, 3]> (b, v)
}"""


def samples(tails: bool = True) -> ArrayDataset:
    """Of heavy tails (Student's t of 3 degrees), so that ``x`` is better clipped, and Tanh bounds what is behind it."""
    rng, shape = np.random.default_rng(0), (6, 24, 24, 24)
    return ArrayDataset({"x": (rng.standard_t(3, shape) if tails else rng.uniform(-1, 1, shape)).astype(np.float32)})


def network():
    rng = np.random.default_rng(1)
    w, v = ((rng.standard_normal((24, 24, k, k)) * 0.1).astype(np.float32) for k in (1, 3))
    return model_from_text(TEXT, w=w, v=v)


def choose(tails: bool, log: list[str]) -> tuple[Plan, OutputJudge, Builder]:
    model, data = network(), samples(tails)
    builder = Builder(model, scheme_for(Target()), data, observers=("minmax", "mse"), progress=Silent())
    judge = OutputJudge(model, data)
    return choose_ranges(judge, builder, default_plan(builder.scheme), log), judge, builder


def test_the_tensor_of_heavy_tails_alone_is_clipped_and_the_outputs_are_closer(monkeypatch):
    monkeypatch.setattr(range_choice, "CLEAR_DB", 99.0)  # for all tensors together
    log: list[str] = []
    plan, judge, builder = choose(True, log)
    assert plan.ranges == RangeRules("minmax", frozenset({("x", "mse")}))
    assert any("ranges of single tensors: x by mse" in line for line in log)
    found, whole = (
        judge.judge(builder.build(each, final=True).model).sqnr_db
        for each in (plan, replace(plan, ranges=RangeRules("minmax")))
    )
    assert found > whole + range_choice.TENSOR_DB


def test_ranges_that_are_alike_are_left_to_the_first_observer():
    log: list[str] = []
    plan, _, _ = choose(False, log)
    assert plan.ranges == RangeRules("minmax")
    assert not any("single" in line for line in log)


@pytest.mark.parametrize("patience", [1, 8])
def test_it_gives_up_after_as_many_tries_without_a_gain(monkeypatch, patience):
    tried: list[Plan] = []
    static = range_choice._static
    monkeypatch.setattr(range_choice, "PATIENCE", patience)
    monkeypatch.setattr(range_choice, "_static", lambda builder, plan: tried.append(plan) or static(builder, plan))
    monkeypatch.setattr(range_choice, "_worst_db", lambda judge, model, most=None: 20.0)
    monkeypatch.setattr(Builder, "contested", lambda self, plan: [(name, "mse") for name in "abcdefghijkl"])
    plan, _, _ = choose(True, [])
    assert len(tried) == 3 + patience  # both observers, and the one that was chosen
    assert plan.ranges == RangeRules("minmax")


def test_a_plan_holds_the_rules_and_its_replay_takes_them(monkeypatch):
    monkeypatch.setattr(range_choice, "CLEAR_DB", 99.0)
    first = run_pass(QuantizeStatic(budget=0), network(), calibration=samples())
    assert first.details["plan"]["ranges"] == {"observer": "minmax", "others": {"x": "mse"}}
    monkeypatch.setattr("modelopt_cli.passes.quantize.calibrated.choose_ranges", None)  # is not called
    again = run_pass(QuantizeStatic(plan=first.details["plan"]), network(), calibration=samples())
    assert [node.op_type for node in again.model.graph] == [node.op_type for node in first.model.graph]
    scales = [
        sorted(float(v.const_value.numpy()) for k, v in r.model.graph.initializers.items() if k.startswith("qparam"))
        for r in (first, again)
    ]
    assert scales[0] == scales[1]


def test_rules_survive_json():
    rules = RangeRules("mse", frozenset({("a", "minmax"), ("b", "entropy")}))
    assert RangeRules.from_json(rules.to_json()) == rules
    assert Plan.from_json(replace(Plan(frozenset()), ranges=rules).to_json()).ranges == rules
