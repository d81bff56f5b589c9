"""What PyTorch's exporters really write (``fixtures/export.py``), before the opset is raised and after."""

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
    "attention": {"MatMul": 4, "Add": 3, "MultiHeadAttention": 1},
    "branches": {"Conv": 1, "Relu": 1},
    "padded_pool": {"Relu": 1, "MaxPool": 1},
}
FILES = sorted(FIXTURES.glob("*.onnx"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.removesuffix(".onnx"))
def test_an_exported_module_becomes_its_fewest_operators(path: Path) -> None:
    name = path.name.split(".")[0]
    assert fused(ir.load(path), batch=2, atol=1e-4)[0] == Counter(EXPECTED[name])


def test_every_module_is_here_by_at_least_one_exporter() -> None:
    assert {path.name.split(".")[0] for path in FILES} == set(EXPECTED)
