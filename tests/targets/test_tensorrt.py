from __future__ import annotations

import re

import numpy as np
import pytest

from modelopt_cli.targets.tensorrt import tensorrt_violations
from modelopt_cli.testing import model_from_text

GOOD = """g (float[n, 3, 8, 8] x) => (float[n, 4, 6, 6] y) <float s = {0.1}, int8 z = {0}> {
  q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)
  w = DequantizeLinear<axis = 0>(wq, ws)  y = Conv(d, w, b) }"""
QUANTIZE, CONV = "q = QuantizeLinear(x, s, z)", "y = Conv(d, w, b)"
WEIGHTS = {
    "wq": np.ones((4, 3, 3, 3), np.int8),
    "ws": np.full(4, 0.01, np.float32),
    "b": np.zeros(4, np.float32),
}


def rules(text: str, **weights: np.ndarray) -> list[str]:
    return [violation.rule for violation in tensorrt_violations(model_from_text(text, **{**WEIGHTS, **weights}))]


def test_what_tensorrt_takes_breaks_no_rule() -> None:
    assert rules(GOOD) == []


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        ("int8 z = {0}", "int8 z = {3}", "zero point is not 0"),
        ("int8 z = {0}", "uint8 z = {0}", "uint8: TensorRT takes int8"),
        ("float s = {0.1}", "float s = {-0.1}", "not a positive number"),
        ("<axis = 0>", "<axis = 1>", "Conv wants them along 0"),
        (
            "q = QuantizeLinear(x, s, z)",
            "m = ReduceMax<keepdims = 0>(x)  q = QuantizeLinear(x, m, z)",
            "scale is computed",
        ),
        (
            "y = Conv(d, w, b)",
            "r = Cast<to = 1>(q)  e = Conv(d, w, b)  f = Conv(r, w, b)  y = Add(e, f)",
            "read by others",
        ),
        (CONV, "bf = DequantizeLinear(bq, ws)  y = Conv(d, w, bf)", "biases in float"),
        (QUANTIZE, "q, qs, qz = DynamicQuantizeLinear(x)", "found at run time"),
    ],
)
def test_each_rule_is_seen_broken(before: str, after: str, rule: str) -> None:
    assert before in GOOD
    text = GOOD.replace(before, after)
    weights = {**WEIGHTS, "bq": np.zeros(4, np.int32)}
    read = {name: array for name, array in weights.items() if re.search(rf"\b{name}\b", text.split("{", 2)[-1])}
    found = [violation.rule for violation in tensorrt_violations(model_from_text(text, **read))]
    assert any(rule in each for each in found), found


def test_a_scale_for_each_channel_is_for_weights_only() -> None:
    text = GOOD.replace("QuantizeLinear(x, s, z)", "QuantizeLinear<axis = 1>(x, xs)", 1)
    assert any("only weights" in each for each in rules(text, xs=np.ones(3, np.float32)))
