from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.passes.quantize.builder import Builder
from modelopt_cli.passes.quantize.plan import default_plan
from modelopt_cli.passes.quantize.silu import in_silu, write_quick_gelu
from modelopt_cli.progress import Silent
from modelopt_cli.targets.schemes import scheme_for
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import assert_same_outputs, model_from_text, op_types

RNG = np.random.default_rng(0)
PLAIN = "g (float[2,8] x) => (float[2,8] y) { s = Sigmoid(x) y = Mul(x, s) }"
TURNED = "g (float[2,8] x) => (float[2,8] y) { s = Sigmoid(x) y = Mul(s, x) }"
DEQUANTIZED = """g (uint8[2,8] q) => (float[2,8] y) {
    a = DequantizeLinear(q, step, zero)
    b = DequantizeLinear(q, step, zero)
    s = Sigmoid(a)
    y = Mul(b, s)
}"""


@pytest.mark.parametrize("text", [PLAIN, TURNED, DEQUANTIZED], ids=["plain", "turned", "dequantized"])
def test_it_becomes_one_operator(text: str) -> None:
    arrays = {"step": np.array(0.05, np.float32), "zero": np.array(120, np.uint8)} if text is DEQUANTIZED else {}
    model = model_from_text(text, **arrays)
    result = model.clone()
    assert write_quick_gelu(result.graph) == 1
    assert "QuickGelu" in op_types(result) and "Sigmoid" not in op_types(result)
    feeds = (
        {"q": RNG.integers(0, 255, (2, 8)).astype(np.uint8)}
        if text is DEQUANTIZED
        else {"x": RNG.standard_normal((2, 8)).astype(np.float32)}
    )
    assert_same_outputs(model, result, feeds, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2,8] x, float[2,8] z) => (float[2,8] y) { s = Sigmoid(z) y = Mul(x, s) }",
        "g (float[2,8] x) => (float[2,8] y, float[2,8] s) { s = Sigmoid(x) y = Mul(x, s) }",
        "g (float[2,8] x) => (float[2,8] y) { s = Tanh(x) y = Mul(x, s) }",
    ],
    ids=["the gate of another tensor", "the gate is an output", "no Sigmoid"],
)
def test_other_products_stay(text: str) -> None:
    model = model_from_text(text)
    assert write_quick_gelu(model.graph) == 0
    assert not any(in_silu(node) for node in model.graph)


class Samples:
    source, labels, batch_size = "generated", None, 1

    def __len__(self) -> int:
        return 2

    def __iter__(self):
        return ({"x": RNG.standard_normal((1, 8, 24, 24)).astype(np.float32)} for _ in range(2))

    def take(self, count: int) -> Samples:
        return self


def built(contrib: bool, *, silu: bool) -> ir.Model:
    text = """g (float[1,8,24,24] x) => (float[1,8,24,24] y) {
        a = Conv <pads = [1,1,1,1]> (x, w) s = Sigmoid(a) r = Mul(a, s) y = Conv <pads = [1,1,1,1]> (r, w) }"""
    model = model_from_text(text, w=(RNG.standard_normal((8, 8, 3, 3)) * 0.1).astype(np.float32))
    scheme = scheme_for(Target(provider="cpu", isa="avx512_vnni"))
    builder = Builder(model, scheme, Samples(), contrib=contrib, progress=Silent())
    plan = default_plan(scheme)
    return builder.build(plan.with_ops("SiLU") if silu else plan).model


@pytest.mark.parametrize(("contrib", "silu", "one"), [(True, False, True), (True, True, False), (False, False, False)])
def test_a_plan_says_how_it_runs_and_standard_onnx_has_integers(contrib: bool, silu: bool, one: bool) -> None:
    ops = op_types(built(contrib, silu=silu))
    assert ("QuickGelu" in ops, "Sigmoid" in ops) == (one, not one)
    assert ops.count("QuantizeLinear") == (3 if one else 4) + 1  # x, a, r, y; and the gate
