"""Rotary embedding and grouped queries, beside what only looks like them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx.reference
import onnx_ir as ir
import pytest
from fuse_checks import fused
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.testing import model_from_text, op_types, run_model, run_pass

HALVES = {"zero": np.array([0]), "half": np.array([4]), "end": np.array([2**63 - 1]), "last": np.array([3])}
ROTARY = """g (float[n,2,s,8] x, float[{batch},s,4] a) => (float[n,2,s,8] y) {{
    aa = Concat <axis = -1> (a, a) cos = Cos (aa) sin = Sin (aa)
    c = Unsqueeze (cos, one) d = Unsqueeze (sin, one)
    plain = Mul (x, c) low = Slice (x, zero, half, last) high = Slice (x, half, end, last)
    minus = Neg (high) turned = Concat <axis = -1> (minus, low) crossed = Mul (turned, d) y = Add (plain, crossed) }}"""


def rotary(old: str = "", new: str = "", batch: str = "1", **more: np.ndarray) -> ir.Model:
    text = ROTARY.format(batch=batch)
    assert old in text
    return model_from_text(text.replace(old, new) if old else text, one=np.array([1]), **HALVES, **more)


def test_a_rotation_by_shared_angles_is_one_operator() -> None:
    assert fused(rotary(), n=2, s=3)[0] == {
        "Cos": 1,
        "Sin": 1,
        "Expand": 2,
        "Shape": 2,
        "Concat": 2,
        "RotaryEmbedding": 1,
    }


def test_angles_of_each_sample_and_their_scale_are_kept() -> None:
    found = fused(rotary(batch="n"), n=2, s=3)[0]
    assert found == {"Cos": 1, "Sin": 1, "RotaryEmbedding": 1}
    old, new = "c = Unsqueeze (cos, one)", "cs = Mul (cos, by) c = Unsqueeze (cs, one)"
    model = rotary(old, new, batch="n", by=np.array(1.5, np.float32))
    assert fused(model, n=2, s=3)[0] == {"Cos": 1, "Sin": 1, "Mul": 1, "RotaryEmbedding": 1}


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Concat <axis = -1> (minus, low)", "Concat <axis = -1> (low, minus)", ""),
        ("low = Slice (x, zero, half, last)", "low = Slice (x, half, end, last)", ""),
        ("sin = Sin (aa)", "sin = Cos (aa)", "cosine and sine"),
        ("aa = Concat <axis = -1> (a, a)", "b = Neg (a) aa = Concat <axis = -1> (a, b)", "cosine and sine"),
    ],
)
def test_what_is_no_rotation_stays(old: str, new: str, reason: str) -> None:
    text = ROTARY.format(batch="1").replace(old, new)
    read = {name: array for name, array in HALVES.items() if f", {name}" in text}
    operators, reasons = fused(model_from_text(text, one=np.array([1]), **read), n=2, s=3)
    assert "RotaryEmbedding" not in operators and reason in reasons


def test_it_waits_for_the_opset() -> None:
    operators, reasons = fused(rotary(), max_opset=22, n=2, s=3)
    assert "RotaryEmbedding" not in operators and "from opset 23" in reasons


GROUPED = """g (float[b,6,s,4] q, float[b,2,t,4] k, float[b,2,t,4] v) => (float[b,6,s,4] y) {
    n = Shape <start = 0, end = 1> (k) l = Shape <start = 2, end = 3> (k)
    wide = Concat <axis = 0> (n, two, three, l, four) full = Concat <axis = 0> (n, six, l, four)
    k5 = Unsqueeze (k, two) ke = Expand (k5, wide) kr = Reshape (ke, full)
    v5 = Unsqueeze (v, two) ve = Expand (v5, wide) vr = Reshape (ve, full)
    kt = Transpose <perm = [0,1,3,2]> (kr) m = MatMul (q, kt) p = Softmax <axis = -1> (m) y = MatMul (p, vr) }"""
SIZES = {name: np.array([size]) for name, size in {"two": 2, "three": 3, "four": 4, "six": 6}.items()}


def test_shared_keys_and_values_are_not_repeated() -> None:
    found = fused(model_from_text(GROUPED, **SIZES), b=2, s=3, t=5)[0]
    assert found == {"Reshape": 4, "MatMul": 2, "Softmax": 1, "Transpose": 1}


def test_heads_that_are_repeated_one_by_one_stay() -> None:
    """Repeated in front of the heads, [b, 3, 2, t, 4], the heads of one key do not lie one after the other."""
    text = GROUPED.replace("(n, two, three, l, four)", "(n, three, two, l, four)").replace(
        "Unsqueeze (k, two)", "Unsqueeze (k, one)"
    )
    text = text.replace("Unsqueeze (v, two)", "Unsqueeze (v, one)")
    found = fused(model_from_text(text, one=np.array([1]), **SIZES), b=2, s=3, t=5)[0]
    assert found["Expand"] == 2


@settings(max_examples=15, deadline=None)
@given(batch=st.integers(1, 3), queries=st.integers(1, 9), keys=st.integers(1, 9), seed=st.integers(0, 99))
def test_grouping_is_exact_for_every_length(batch: int, queries: int, keys: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = {"q": (batch, 6, queries, 4), "k": (batch, 2, keys, 4), "v": (batch, 2, keys, 4)}
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    model = model_from_text(GROUPED, **SIZES)
    result = run_pass(Fuse(), run_pass(Simplify(), model).model).model
    assert Counter(op_types(result))["Expand"] == 0
    (expected,) = onnx.reference.ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)
    np.testing.assert_allclose(run_model(result, feeds)["y"], expected, rtol=1e-4, atol=1e-5)
    (again,) = onnx.reference.ReferenceEvaluator(ir.to_proto(result)).run(None, feeds)
    np.testing.assert_allclose(again, expected, rtol=1e-4, atol=1e-5)
