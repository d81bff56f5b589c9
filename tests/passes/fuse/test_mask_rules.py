"""Masks and shapes around attention: what is always true, what broadcasts anyway, what cannot be NaN; and refusals."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from fuse_checks import fused, random

from modelopt_cli.graph.shapes import dimensions, infer_shapes
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.testing import model_from_text, op_types, run_pass

SCORES = "g (float[n,2,s,s] x, bool[n,1,1,s] m) => (float[n,2,s,s] y)"
POSITIONS = """l = Shape <start = 2, end = 3> (x) e = Squeeze (l) r = Range (zero, e, one) u = Reshape (r, column)
    t = GreaterOrEqual (u, {bound}) a = And (t, m) """
NUMBERS = {"zero": np.array(0), "one": np.array(1), "column": np.array([1, 1, -1, 1])}
LOW, NONE = np.array(-1e9, np.float32), np.array(0, np.float32)


def masked(body: str, **weights: np.ndarray) -> ir.Model:
    return model_from_text(f"{SCORES} {{ {body} }}", **weights)


def test_a_mask_of_positions_that_are_all_allowed_goes() -> None:
    body = POSITIONS.format(bound="zero") + "w = Where (a, none, low) y = Add (x, w)"
    assert fused(masked(body, **NUMBERS, none=NONE, low=LOW), n=2, s=3)[0] == {"Where": 1, "Add": 1}
    body = POSITIONS.format(bound="one") + "w = Where (a, none, low) y = Add (x, w)"
    assert "And" in fused(masked(body, **NUMBERS, none=NONE, low=LOW), n=2, s=3)[0]


def test_a_choice_that_is_always_made_goes() -> None:
    """Of constants that are all true; whether the result broadcasts decides about the smaller one."""
    everything = {"t": np.ones((1, 1, 3, 3), bool), "none": NONE, "low": LOW}
    text = "g (float[n,2,3,3] x) => (float[n,2,3,3] y) { e = Identity (t) w = Where (e, none, low) y = Add (x, w) }"
    model = model_from_text(text.replace("Add (x, w)", "Mul (x, w)"), **everything)
    assert "Where" not in fused(model, n=2)[0]


@pytest.mark.parametrize("filled", ["w0 = Expand (low, l)", "w0 = ConstantOfShape <value = float[1] {-5.0}> (l)"])
def test_what_broadcasts_anyway_is_not_filled_in_two_steps(filled: str) -> None:
    body = f"l = Shape (x) {filled} w = Where (m, x, w0) y = Add (x, w)"
    found = fused(masked(body, **({"low": LOW} if "low" in filled else {})), n=2, s=3)[0]
    assert found == {"Where": 1, "Add": 1}
    body = body.replace("y = Add (x, w)", "z = Exp (x) y = Mul (z, w)").replace("Where (m, x, w0)", "Where (m, w0, w0)")
    assert fused(masked(body, **({"low": LOW} if "low" in filled else {})), n=2, s=3)[0]["Where"] <= 1


def test_an_expand_whose_reader_s_reader_is_an_output_stays() -> None:
    text = """g (bool[n,1,1,s] m, int64[4] l) => (float[a,b,c,d] y) { e = Expand (m, l) y = Where (e, none, low) }"""
    model = model_from_text(text, none=NONE, low=LOW)
    assert op_types(run_pass(Simplify(), model).model) == ["Expand", "Where"]


GUARDED = """g (float[n,4,3] x, float[n,3,5] z{more}) => (float[n,4,5] y) {{ s = MatMul (x, z) {mask}
    p = Softmax <axis = -1> ({score}) g = IsNaN (p) y = Where (g, none, p) }}"""


def test_a_guard_against_rows_of_nothing_goes_where_there_are_none() -> None:
    assert fused(model_from_text(GUARDED.format(more="", mask="", score="s"), none=NONE), n=2)[0] == {
        "MatMul": 1,
        "Softmax": 1,
    }
    finite = GUARDED.format(more=", bool[n,1,5] b", mask="w = Where (b, none, low) a = Add (s, w)", score="a")
    assert "IsNaN" not in fused(model_from_text(finite, none=NONE, low=LOW), n=2)[0]
    operators, reasons = fused(model_from_text(finite, none=NONE, low=np.array(-np.inf, np.float32)), n=2)
    assert operators["IsNaN"] == 1 and "may be -inf" in reasons
    given = GUARDED.format(more=", float[n,1,5] w", mask="a = Add (s, w)", score="a")
    assert fused(model_from_text(given, none=NONE), n=2)[0]["IsNaN"] == 1


THROUGH = """g (float[n,2,5,4] x) => (float[n,2,4,5] y) {
    r = Reshape (x, flat) t = Transpose <perm = [0,2,1]> (r) y = Reshape (t, back) }"""


def test_a_transpose_between_reshapes_is_one_transpose() -> None:
    shapes = {"flat": np.array([-1, 5, 4]), "back": np.array([-1, 2, 4, 5])}
    assert fused(model_from_text(THROUGH, **shapes), n=3)[0] == {"Transpose": 1}
    shapes["flat"] = np.array([-1, 4, 5])  # other rows: the elements end up elsewhere
    text = THROUGH.replace("[n,2,4,5] y", "[n,2,5,4] y")
    assert fused(model_from_text(text, flat=shapes["flat"], back=np.array([-1, 2, 5, 4])), n=3)[0]["Reshape"] == 2


def test_a_table_cut_to_the_input_s_length_has_that_length_beside_it() -> None:
    text = """g (int64[n,s] ids) => (float[a,b,c] y) {
        e = Gather (words, ids) l = Shape <start = 1, end = 2> (ids) p = Slice (table, zero, l, one)
        q = Gather (places, p) h = Add (e, q) y = Relu (h) }"""
    weights = {"words": random(9, 4), "table": np.arange(16)[None], "places": random(16, 4)}
    model = model_from_text(text, zero=np.array([0]), one=np.array([1]), **weights)
    while infer_shapes(model):
        pass
    (added,) = (node.outputs[0] for node in model.graph if node.op_type == "Add")
    assert dimensions(added) == ("n", "s", 4)
    (rows,) = (node.outputs[0] for node in model.graph if node.op_type == "Slice")
    assert dimensions(rows) == (1, None), "by itself the table may be shorter"
