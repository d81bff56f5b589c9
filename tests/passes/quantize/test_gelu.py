"""Gelu in front of integers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.passes.quantize.dynamic_matmul import quantize_matmuls_dynamic
from modelopt_cli.passes.quantize.dynamic_stats import InputStatistics
from modelopt_cli.passes.quantize.gelu import LARGEST_ERROR, approximate_gelu
from modelopt_cli.testing import THIS_MACHINE, model_from_text, run_model

X = np.linspace(-12, 12, 4096, dtype=np.float32).reshape(1, 64, 64)
W = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
HEADER = '<ir_version: 9, opset_import: ["" : 20]>'
BLOCK = HEADER + "g (float[n,s,64] x) => (float[n,s,64] y) { h = Gelu (x) y = MatMul (h, w) }"


def kind(model: ir.Model) -> str:
    (node,) = (node for node in model.graph if node.op_type == "Gelu")
    return node.attributes.get_string("approximate", "none")


def spanning(width: float) -> InputStatistics:
    high = np.full((2, 64), width, np.float32)
    return InputStatistics(np.zeros_like(high), high, high[0] ** 2, None)


def test_the_largest_error_is_what_is_said() -> None:
    model = model_from_text(HEADER + "g (float[n,s,64] x) => (float[n,s,64] y) { y = Gelu (x) }")
    exact = run_model(model, {"x": X})["y"]
    model.graph[0].attributes["approximate"] = ir.AttrString("approximate", "tanh")
    error = float(np.abs(run_model(model, {"x": X})["y"] - exact).max())
    assert LARGEST_ERROR / 2 < error < LARGEST_ERROR


def test_a_gelu_that_is_only_quantized_is_approximated_and_the_product_stays() -> None:
    model = model_from_text(BLOCK, w=W)
    float_output = run_model(model, {"x": X})["y"]
    quantize_matmuls_dynamic(model, [node for node in model.graph if node.op_type == "MatMul"], THIS_MACHINE)
    assert kind(model) == "tanh"
    output = run_model(model, {"x": X})["y"]
    assert np.abs(output - float_output).mean() < 0.02 * np.abs(float_output).mean()


@pytest.mark.parametrize(
    ("text", "width"),
    [
        (BLOCK.replace("y = MatMul (h, w)", "m = MatMul (h, w) y = Add (h, m)"), 9.0),
        (BLOCK, 0.2),
        (BLOCK.replace("(float[n,s,64] y)", "(float[n,s,64] y, float[n,s,64] h)"), 9.0),
    ],
    ids=["read by others", "steps as fine as the error", "an output"],
)
def test_it_stays_exact_where_that_shows(text: str, width: float) -> None:
    model = model_from_text(text, w=W)
    product = next(node for node in model.graph if node.op_type == "MatMul")
    assert product.inputs[0] is not None
    assert not approximate_gelu(product.inputs[0], [product], spanning(width)) and kind(model) == "none"
