"""Residual sums in front of a LayerNormalization: what onnxruntime makes of them, and what quantizers see."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from fuse_checks import check_pass, random

from modelopt_cli.graph.io import model_bytes
from modelopt_cli.graph.residual import residuals_to_add, residuals_to_sum
from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import model_from_text, op_types

WEIGHTS = {"w": random(8, 8), "s": random(8, seed=1), "t": random(8, seed=2)}
BLOCK = """g (float[n,s,8] x) => (float[n,s,8] y) {
    h = MatMul (x, w) a = Add (h, x) y = LayerNormalization <axis = -1> (a, s, t) }"""


def runtime_operators(model: ir.Model, folder: Path) -> Counter[str]:
    """Operators that onnxruntime really runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(model_bytes(model), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def test_onnxruntime_does_not_make_the_slow_fused_operator_of_it(tmp_path: Path) -> None:
    model = model_from_text(BLOCK, **WEIGHTS)
    assert runtime_operators(model, tmp_path)["SkipLayerNormalization"] == 1
    result = check_pass(Fuse(), model, n=2, s=3).model
    assert Counter(op_types(result)) == {"MatMul": 1, "Sum": 1, "LayerNormalization": 1}
    assert runtime_operators(result, tmp_path)["SkipLayerNormalization"] == 0


@pytest.mark.parametrize(
    "body",
    [
        "a = Add (x, t) y = LayerNormalization <axis = -1> (a, s)",  # a bias, which no residual is
        "h = MatMul (x, w) a = Add (h, x) y = Relu (a)",
        "h = MatMul (x, w) a = Sum (h, x, x) y = LayerNormalization <axis = -1> (a, s)",
    ],
)
def test_other_sums_stay(body: str) -> None:
    model = model_from_text(
        f"g (float[n,s,8] x) => (float[n,s,8] y) {{ {body} }}",
        **{name: array for name, array in WEIGHTS.items() if f", {name})" in body},
    )
    operators = Counter(op_types(model))
    assert Counter(op_types(check_pass(Fuse(), model, n=2, s=3).model)) == operators
    assert residuals_to_add(model) == frozenset()


def test_it_is_for_onnxruntime_on_cpus_and_can_be_left_out() -> None:
    model = model_from_text(BLOCK, **WEIGHTS)
    assert "Sum" not in op_types(check_pass(Fuse(skip=("part-residual",)), model, n=2, s=3).model)
    for target in (Target(provider="cuda", isa="none"), Target(provider="openvino", dialect="onnx")):
        assert "Sum" not in op_types(check_pass(Fuse(), model, target=target, n=2, s=3).model)


def test_quantizers_see_add_and_what_they_leave_is_sum_again() -> None:
    model = model_from_text(BLOCK.replace("Add (h, x)", "Sum (h, x)"), **WEIGHTS)
    before = model_bytes(model)
    names = residuals_to_add(model)
    assert names == {"a"} and "Sum" not in op_types(model)
    residuals_to_sum(model, ())
    assert "Sum" not in op_types(model)
    residuals_to_sum(model, names)
    assert model_bytes(model) == before
