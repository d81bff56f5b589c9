"""The audit names each group once, with why, time and error; nothing is measured when nobody asks."""

import numpy as np
import pytest

from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.base import PassContext
from modelopt_cli.passes.quantize.explain import _say_what_was_moved
from modelopt_cli.passes.quantize.groups import Group
from modelopt_cli.passes.quantize.quantize import Quantize
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import ArrayDataset, model_from_text, run_pass

TEXT = """net (float[1,8,32,32] x, float[1,64,256] t) => (float[1,8,32,32] y, float[1,64,256] u) {
    [a] a = Conv <pads = [1,1,1,1]> (x, w1)
    [r] r = Relu (a)
    [y] y = Conv <pads = [1,1,1,1]> (r, w2)
    [n] n = Softmax (t)
    [u] u = MatMul (n, m)
}"""


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 8, 3, 3), "w2": (8, 8, 3, 3), "m": (256, 256)}
    model = model_from_text(TEXT, **{n: (rng.standard_normal(s) * 0.1).astype(np.float32) for n, s in shapes.items()})
    inputs = {"x": (4, 8, 32, 32), "t": (4, 64, 256)}
    data = ArrayDataset({n: rng.standard_normal(s).astype(np.float32) for n, s in inputs.items()})
    return run_pass(Quantize(budget=0, explain=True), model, calibration=data).details["groups"]


def test_each_node_is_integer_dynamic_or_float_with_a_reason(rows):
    ways = {row["ops"][0]: row["way"] for row in rows if row["ops"]}
    assert ways == {"Conv": "static", "MatMul": "dynamic", "Softmax": "float"}
    assert all(row["why"] for row in rows)


def test_integer_groups_have_time_and_error(rows):
    for row in rows:
        if row["way"] != "float":
            assert row["float_ms"] > 0
            assert row["result_ms"] > 0
            assert 15 < row["alone_db"] < 80


def test_nobody_asked_nothing_is_measured():
    model = model_from_text(
        "net (float[1,64,64] x) => (float[1,64,64] y) { y = MatMul (x, w) }", w=np.eye(64, dtype=np.float32)
    )
    data = ArrayDataset({"x": np.ones((2, 64, 64), np.float32)})
    assert "groups" not in run_pass(Quantize(budget=0), model, calibration=data).details


def test_seconds_for_a_page_measure_without_the_option_and_change_nothing_else():
    model = model_from_text(
        "net (float[1,64,64] x) => (float[1,64,64] y) { y = MatMul (x, w) }", w=np.eye(64, dtype=np.float32)
    )
    data = ArrayDataset({"x": np.ones((2, 64, 64), np.float32)})
    plain, shown = (
        Quantize(budget=0).apply(model.clone(), PassContext(Target(), calibration=data, explain_s=seconds))
        for seconds in (0.0, 5.0)
    )
    assert model_bytes(plain.model) == model_bytes(shown.model)
    assert [row["group"] for row in shown.details["groups"]]
    assert shown.details["plan"] == plain.details["plan"]


def test_a_class_that_the_outputs_split_is_said_to_be_split():
    groups = [Group(name, ("Conv",), (name,), "static") for name in ("a", "b", "c")]
    rows = [{"group": name, "way": "static", "why": "faster"} for name in ("a", "b", "c")]
    rows += [{"group": name, "way": "float", "why": "the plan"} for name in ("d", "e", "f")]
    _say_what_was_moved(rows, groups, {"d", "e"}, {**dict.fromkeys("abd", "here"), "e": "alone"})
    why = {row["group"]: row["why"] for row in rows}
    assert why["d"].endswith("; 2 at its place in other blocks stay static")
    assert why["e"] == "the outputs would not keep with it in int8"
    assert (why["a"], why["f"]) == ("faster", "the plan")
