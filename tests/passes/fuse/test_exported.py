"""What exporters of PyTorch (old and new), JAX, TensorFlow and Paddle really write (``fixtures/export*.py``)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx_ir as ir
import pytest
from fuse_checks import fused

FIXTURES = Path(__file__).parent / "fixtures"
LINEAR = {"MatMul": 1, "Add": 1}
EXPECTED: dict[str, dict[str, int]] = {
    "gelu": {**LINEAR, "Gelu": 1},
    "gelu_tanh": {**LINEAR, "Gelu": 1},
    "silu": {"Conv": 1, "Sigmoid": 1, "Mul": 1},  # as Swish (opset 24) it runs slower in onnxruntime
    "mish": {"Conv": 1, "Mish": 1},
    "hardswish": {"Conv": 1, "HardSwish": 1},
    "hardswish_by_hand": {"Conv": 1, "Clip": 1},
    "prelu": {"Conv": 1, "PRelu": 1},
    "layernorm": {"LayerNormalization": 1, **LINEAR},
    "layernorm_by_hand": {"LayerNormalization": 1},
    "rmsnorm": {"RMSNormalization": 1},
    "rmsnorm_by_hand": {"RMSNormalization": 1},
    "gated": {"MatMul": 3, "Sigmoid": 1, "Mul": 2},
    "attention": {"MatMul": 4, "Add": 2, "Attention": 1},
    "branches": {"Conv": 1, "Relu": 1},
    "padded_pool": {"Relu": 1, "MaxPool": 1},
    "softplus": {"Conv": 1, "Softplus": 1},
    "softplus_by_hand": {"Conv": 1, "Softplus": 1},
    "softplus_rows": {**LINEAR, "Softplus": 1},
    "softsign": {"Conv": 1, "Softsign": 1},
    "relu6": {"Conv": 1, "Clip": 1},
    "relu6_by_hand": {"Conv": 1, "Clip": 1},
    "silu_by_hand": {"Conv": 1, "Sigmoid": 1, "Mul": 1},
    "gelu_fast": {**LINEAR, "Gelu": 1},
    "hardswish_relu6": {"Conv": 1, "HardSwish": 1},
    "hardsigmoid": {"Conv": 1, "Clip": 1},
    "hardsigmoid_by_hand": {"Conv": 1, "Clip": 1},
    "leaky": {"Conv": 1, "LeakyRelu": 1},
    "leaky_by_hand": {"Conv": 1, "LeakyRelu": 1},
    "norm_first": {"Conv": 1},
    "norm_of_rows": LINEAR,
    "norm_flat.old": {"Conv": 1, "Flatten": 1, "Gemm": 1},
    "norm_flat.new": {"Conv": 1, "Reshape": 1, "Gemm": 1},
    "norm_by_hand": {"Conv": 1, "Relu": 1},
    "concat_norm": {"Conv": 2, "Concat": 1, "Relu": 1},
    "pool_norm": {"Conv": 1, "AveragePool": 1},
    "upsample_norm": {"Conv": 1, "Resize": 1},
    "shuffle_norm": {"Conv": 1, "DepthToSpace": 1},
    "deconv_norm": {"ConvTranspose": 1, "Relu": 1},
    "mean_of_points": {"ReduceMean": 1, "Gemm": 1},
    "mean_of_points.jax": {"Transpose": 1, "Conv": 2, "Relu": 1, "ReduceSum": 1},
    "mean_of_rows": {"ReduceMean": 1, "Gemm": 1},
    "convnext": {"Conv": 3, "Gelu": 1, "Add": 1},
    "half_scaled": {"Conv": 1},
    "two_convs": {"Conv": 2, "Relu": 1},
    "residual": {"Conv": 2, "Relu": 2, "Add": 1},
    "mobile": {"Conv": 2, "Clip": 2},
    "gelu.paddle": {"MatMul": 1, "Gelu": 1},  # its biases are zeros, as they begin
    "gelu_tanh.paddle": {"MatMul": 1, "Gelu": 1},
}
CHANNELS_LAST = ("jax", "tf")  # one Transpose stays before the first convolution, and one behind the last
BATCH = dict.fromkeys(("batch", "B", "unk__0", "DynamicDimension.0", "p2o.DynamicDimension.0"), 2)
FILES = sorted(FIXTURES.glob("*.onnx"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.removesuffix(".onnx"))
def test_an_exported_module_becomes_its_fewest_operators(path: Path) -> None:
    name, exporter, _ = path.name.split(".")
    expected = Counter(EXPECTED.get(f"{name}.{exporter}", EXPECTED.get(name)))
    if exporter in CHANNELS_LAST and "Conv" in expected and "Transpose" not in expected:
        expected["Transpose"] = 2
    assert fused(ir.load(path), atol=1e-4, **BATCH)[0] == expected


def test_every_module_is_here_by_at_least_one_exporter() -> None:
    names = {path.name.split(".")[0] for path in FILES}
    assert names == {name.split(".")[0] for name in EXPECTED}


@pytest.mark.parametrize("exporter", ["old", "new", "jax", "tf", "paddle"])
def test_each_exporter_is_here(exporter: str) -> None:
    assert sum(path.name.endswith(f".{exporter}.onnx") for path in FILES) >= 12
