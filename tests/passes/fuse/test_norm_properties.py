"""Normalisations, lengths and rotations as one operator: the same for every size and magnitude, in both evaluators."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx_ir as ir
import pytest
from fuse_checks import random
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.testing import assert_same_outputs, model_from_text, op_types, random_feeds, run_pass

PICTURES = "(float[n,4,h,w] x) => (float[n,4,h,w] y)"
SPELLED: dict[str, str] = {
    "InstanceNormalization": f"g {PICTURES} {{ m = ReduceMean <axes = [2, 3]> (x) c = Sub (x, m) q = Mul (c, c)"
    " v = ReduceMean <axes = [2, 3]> (q) a = Add (v, tiny) r = Sqrt (a) d = Div (c, r) f = Mul (d, gain)"
    " y = Add (f, shift) }",
    "ReduceL2": f"g {PICTURES} {{ q = Mul (x, x) s = ReduceSum (q, one) r = Sqrt (s) b = Add (r, half)"
    " y = Div (x, b) }",
    "RotaryEmbedding": "g (float[n,2,s,8] x, float[n,s,4] a) => (float[n,2,s,8] y) { aa = Concat <axis = -1> (a, a)"
    " cos = Cos (aa) sin = Sin (aa) c = Unsqueeze (cos, one) d = Unsqueeze (sin, one) plain = Mul (x, c)"
    " low = Slice (x, zero, four, three) high = Slice (x, four, end, three) minus = Neg (high)"
    " turned = Concat <axis = -1> (minus, low) crossed = Mul (turned, d) y = Add (plain, crossed) }",
}
CONSTANTS = {
    "tiny": np.array(1e-5, np.float32),
    "half": np.array(0.5, np.float32),
    "gain": random(4, 1, 1),
    "shift": random(1, 4, 1, 1, seed=1),
    **{name: np.array([number]) for name, number in {"zero": 0, "one": 1, "three": 3, "four": 4}.items()},
    "end": np.array([2**63 - 1]),
}


@cache
def both(operator: str) -> tuple[ir.Model, ir.Model]:
    """The graph as it is spelled, and fused: what the operator's properties are asked of."""
    text = SPELLED[operator]
    model = model_from_text(text, **{name: array for name, array in CONSTANTS.items() if f", {name}" in text})
    fused = run_pass(Fuse(), run_pass(Simplify(), model).model).model
    assert op_types(fused).count(operator) == 1 and len(op_types(fused)) < len(op_types(model))
    return model, fused


@settings(max_examples=15, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99), magnitude=st.sampled_from([1e-2, 1.0, 30.0]))
@pytest.mark.parametrize("operator", SPELLED)
def test_the_operator_is_exact_for_every_size(operator: str, data: st.DataObject, seed: int, magnitude: float) -> None:
    model, fused = both(operator)
    sizes = {name: data.draw(st.integers(1, 7), label=name) for name in "nhws"}
    feeds = random_feeds(model, np.random.default_rng(seed), **sizes)
    feeds["x"] = feeds["x"] * np.float32(magnitude)
    tolerance = 2e-5 * max(1.0, magnitude)
    assert_same_outputs(model, fused, feeds, rtol=1e-4, atol=tolerance)
    (want,), (got,) = (ReferenceEvaluator(ir.to_proto(each)).run(None, feeds) for each in (model, fused))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=tolerance)
