"""Choices between variants follow what is measured, and stay with the default in doubt."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from modelopt_cli.passes.quantize import search
from modelopt_cli.passes.quantize.builder import Builder
from modelopt_cli.passes.quantize.group_times import group_times
from modelopt_cli.passes.quantize.groups import static_groups
from modelopt_cli.passes.quantize.output_error import OutputJudge
from modelopt_cli.passes.quantize.plan import default_plan, label
from modelopt_cli.passes.quantize.range_choice import choose_observer
from modelopt_cli.passes.quantize.search import search_plan
from modelopt_cli.progress import Silent
from modelopt_cli.targets.schemes import scheme_for
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import model_from_text

TEXT = """net (float[1,8,24,24] x) => (float[1,8,24,24] y) {
    a = Conv <pads = [1,1,1,1]> (x, w)
    y = Conv <pads = [1,1,1,1]> (a, w)
}"""


class Samples:
    source, labels, batch_size = "generated", None, 1

    def __init__(self, outlier=0.0):
        rng = np.random.default_rng(0)
        self.arrays = [rng.standard_normal((1, 8, 24, 24)).astype(np.float32) for _ in range(4)]
        self.arrays[0][0, 0, 0, 0] = outlier

    def __len__(self):
        return len(self.arrays)

    def __iter__(self):
        return ({"x": array} for array in self.arrays)

    def take(self, count):
        return self


def builder(outlier=0.0, observers=("minmax", "mse")):
    weight = (np.random.default_rng(1).standard_normal((8, 8, 3, 3)) * 0.1).astype(np.float32)
    model = model_from_text(TEXT, w=weight)
    return model, Builder(model, scheme_for(Target()), Samples(outlier), observers=observers, progress=Silent())


def test_equal_ranges_keep_the_default_observer():
    model, built = builder()
    log: list[str] = []
    judge = OutputJudge(model, Samples())
    assert choose_observer(judge, built, default_plan(built.scheme), log) == "minmax"
    assert len(log) == 2


def test_an_observer_that_is_asked_for_is_taken():
    model, built = builder(observers=("entropy",))
    assert choose_observer(OutputJudge(model, Samples()), built, default_plan(built.scheme), []) == "entropy"


def test_no_budget_takes_the_table_s_plan_unmeasured():
    _, built = builder()
    plan = default_plan(built.scheme)
    found = search_plan(built, plan, 0.0)
    assert (found.plan, found.log, found.ratio) == (plan, [], None)


@pytest.mark.parametrize(("factor", "decibel"), [(1.0, 200), (0.9, 20), (0.0, 0)])
def test_output_sqnr_is_the_share_of_noise(factor, decibel):
    weight = np.eye(4, dtype=np.float32)
    text = "net (float[1,4] x) => (float[1,4] y) { y = MatMul (x, w) }"
    exact, other = model_from_text(text, w=weight), model_from_text(text, w=weight * np.float32(factor))

    class Row(Samples):
        def __init__(self):
            self.arrays = [np.float32([[1, 2, 3, 4]])]

    found = OutputJudge(exact, Row()).judge(other).sqnr_db
    assert found >= decibel if factor == 1 else found == pytest.approx(decibel, abs=0.01)


def test_a_residual_sum_is_an_add_where_it_is_integer_and_a_sum_where_it_stayed_float():
    text = """net (float[1,8,24,24] x) => (float[1,8,24,24] y) {
        a = Conv <pads = [1,1,1,1]> (x, w) b = Conv <pads = [1,1,1,1]> (a, w)
        s = Sum (a, b) n = LayerNormalization <axis = -1> (s, g) y = Conv <pads = [1,1,1,1]> (n, w) }"""
    rng = np.random.default_rng(1)
    weights = {"w": rng.standard_normal((8, 8, 3, 3)).astype(np.float32), "g": np.ones(24, np.float32)}
    built = Builder(model_from_text(text, **weights), scheme_for(Target()), Samples(), progress=Silent())
    plan = default_plan(built.scheme)
    for chosen, integer in ((plan, True), (plan.without("Add"), False)):
        result = built.build(chosen)
        assert ("Add" in {node.op_type for node in result.regions.integer}) is integer
        found = {node.op_type for node in result.model.graph}
        assert ("Add" in found, "Sum" in found) == (integer, not integer)
    assert "Sum" in {node.op_type for node in built.float_model().graph}


CHAIN = """net (float[1,8,24,24] x) => (float[1,8,24,24] y) {
    a = Conv <pads = [1,1,1,1]> (x, w)
    b = Conv <pads = [1,1,1,1]> (a, w)
    c = Conv <pads = [1,1,1,1]> (b, w)
    y = Conv <pads = [1,1,1,1]> (c, w)
}"""


@pytest.mark.parametrize(
    ("high", "left"),
    [((0.95, 0.95, 1.2), {"a", "c"}), ((0.95, 1.0), {"c"}), ((1.0,), set())],
    ids=["two", "one", "none"],
)
def test_products_that_lose_by_the_profile_go_back_while_the_clock_agrees(monkeypatch, high, left):
    weight = (np.random.default_rng(1).standard_normal((8, 8, 3, 3)) * 0.1).astype(np.float32)
    built = Builder(model_from_text(CHAIN, w=weight), scheme_for(Target()), Samples(), progress=Silent())
    milliseconds = [{"a": 1.0, "b": 1.0, "c": 1.0, "y": 1.0}, {"a": 1.5, "b": 0.5, "c": 2.0, "y": 1.05}]
    monkeypatch.setattr(search, "group_times", lambda *_: milliseconds)
    answers = iter(high)
    monkeypatch.setattr(
        search, "_against", lambda *_: SimpleNamespace(ratio=0.9, ratio_low=0.8, ratio_high=next(answers))
    )
    plan = default_plan(built.scheme)
    found = search.Search(built.build(plan), plan)
    search._without_losers(found, built, deadline=time.monotonic() + 1000)
    assert found.plan.float_nodes == left  # y loses 5 %, which a short profile may make up
    assert {"a", "b", "c", "y"} - {label(node) for node in built.regions(found.plan).integer} == left


@pytest.mark.parametrize(
    ("milliseconds", "left"),
    [
        ({"a": 0.5, "b": 2.5, "c": 0.5, "y": 0.5}, set()),  # in sum b and c gain
        ({"a": 0.5, "b": 2.9, "c": 0.9, "y": 1.5}, {"b", "c"}),  # the worst class goes first, as a whole
    ],
    ids=["gains", "loses"],
)
def test_a_class_goes_back_as_a_whole_by_its_costs_together(monkeypatch, milliseconds, left):
    weight = (np.random.default_rng(1).standard_normal((8, 8, 3, 3)) * 0.1).astype(np.float32)
    built = Builder(model_from_text(CHAIN, w=weight), scheme_for(Target()), Samples(), progress=Silent())
    built.places |= {"b": "repeated", "c": "repeated"}
    before = {"a": 1.0, "b": 1.5, "c": 1.5, "y": 1.0}
    monkeypatch.setattr(search, "group_times", lambda *_: [before, milliseconds])
    answers = iter((0.95, 1.0))
    monkeypatch.setattr(
        search, "_against", lambda *_: SimpleNamespace(ratio=0.9, ratio_low=0.8, ratio_high=next(answers))
    )
    plan = default_plan(built.scheme)
    found = search.Search(built.build(plan), plan)
    search._without_losers(found, built, deadline=time.monotonic() + 1000)
    assert found.plan.float_nodes == left


def test_a_variant_that_is_only_timed_costs_no_pass_over_the_data():
    model, built = builder()
    seen = []

    class Counted(Samples):
        def __iter__(self):
            for sample in super().__iter__():
                seen.append(1)
                yield sample

        def take(self, count):
            part = Counted()
            part.arrays = self.arrays[:count]
            return part

    built = Builder(model, scheme_for(Target()), Counted(), observers=("minmax", "mse"), progress=Silent())
    plan = default_plan(built.scheme)
    seen.clear()
    timed = built.build(plan, timed=True)
    assert len(seen) <= 2  # one to know the sizes of the tensors
    assert [node.op_type for node in timed.model.graph].count("QuantizeLinear") > 0
    exact = built.build(plan)
    assert len(seen) > 4
    kept = [node.inputs[1].const_value.numpy() for node in exact.model.graph if node.op_type == "QuantizeLinear"]
    rough = [node.inputs[1].const_value.numpy() for node in timed.model.graph if node.op_type == "QuantizeLinear"]
    assert any(one != other for one, other in zip(kept, rough, strict=True))


def test_the_profile_is_kept_by_group():
    _, built = builder()
    plan = default_plan(built.scheme)
    groups = static_groups(built.regions(plan))
    exact = built.float_model()
    before, after = group_times((exact, built.build(plan).model), exact.graph, groups, built.sample)
    assert {group.name for group in groups} == {"a", "y"}
    assert all(before[name] > 0 and after[name] > 0 for name in ("a", "y"))
