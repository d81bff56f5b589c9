from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.passes.quantize.dynamic_stats import InputStatistics
from modelopt_cli.passes.quantize.smooth import apply_scales, choose_scales
from modelopt_cli.testing import assert_same_outputs, model_from_text, op_types

RNG = np.random.default_rng(0)


def statistics(rows: np.ndarray) -> InputStatistics:
    samples = rows.reshape(4, -1, rows.shape[1])
    moment = (rows.T @ rows / len(rows)).astype(np.float32)
    low, high = np.minimum(samples.min(1), 0), np.maximum(samples.max(1), 0)
    return InputStatistics(low, high, (rows**2).mean(0), moment)


def quantized_product(rows: np.ndarray, w: np.ndarray, scales: np.ndarray) -> np.ndarray:
    x, w = rows / scales, w * scales[:, None]
    step = (max(x.max(), 0) - min(x.min(), 0)) / 255
    step_w = np.abs(w).max(0) / 127
    return (np.rint(x / step) * step) @ (np.rint(w / step_w) * step_w)


def test_an_outlier_channel_is_scaled_and_the_product_gets_closer() -> None:
    rows, w = RNG.standard_normal((400, 64)).astype(np.float32), RNG.standard_normal((64, 32)).astype(np.float32)
    rows[:, 5] *= 40
    scales = choose_scales(statistics(rows), [w])
    assert scales is not None and scales.argmax() == 5 and (scales >= 1).all()
    ones, exact = np.ones(64, np.float32), rows @ w
    before, after = (((quantized_product(rows, w, s) - exact) ** 2).sum() for s in (ones, scales))
    assert after < before / 4


def test_channels_of_like_size_are_left_alone() -> None:
    rows, w = RNG.standard_normal((400, 64)).astype(np.float32), RNG.standard_normal((64, 32)).astype(np.float32)
    assert choose_scales(statistics(rows), [w]) is None


def test_an_input_of_zeros_is_left_alone() -> None:
    assert choose_scales(statistics(np.zeros((8, 20), np.float32)), [np.ones((20, 16), np.float32)]) is None


NORMALIZED = """
g (float[N, 32] x) => (float[N, 24] y) {
    h = LayerNormalization<axis=-1>(x, gamma, beta)
    y = MatMul(h, w)
}
"""
RESIDUAL = """
g (float[N, 32] x) => (float[N, 32] z) {
    h = LayerNormalization<axis=-1>(x, gamma, beta)
    y = MatMul(h, w)
    z = Add(h, y)
}
"""


@pytest.mark.parametrize(
    ("text", "ops"),
    [
        (NORMALIZED, ["LayerNormalization", "MatMul"]),
        (RESIDUAL, ["LayerNormalization", "Mul", "MatMul", "Add"]),
    ],
    ids=["folded", "residual needs a Mul"],
)
def test_scales_move_into_the_normalization_when_nobody_else_reads_it(text: str, ops: list[str]) -> None:
    arrays = {
        "gamma": RNG.uniform(0.5, 2, 32).astype(np.float32),
        "beta": RNG.standard_normal(32).astype(np.float32),
        "w": RNG.standard_normal((32, 32 if text is RESIDUAL else 24)).astype(np.float32),
    }
    model = model_from_text(text, **arrays)
    result = model.clone()
    scales = RNG.uniform(1, 8, 32).astype(np.float32)
    product = next(node for node in result.graph if node.op_type == "MatMul")
    source = product.inputs[0]
    assert source is not None
    product.replace_input_with(0, apply_scales(result, source, scales, [product]))
    weight = result.graph.initializers["w"]
    from modelopt_cli.graph.edit import replace_weight

    replace_weight(weight, arrays["w"] * scales[:, None])
    assert op_types(result) == ops
    feeds = {"x": RNG.standard_normal((3, 32)).astype(np.float32)}
    assert_same_outputs(model, result, feeds, rtol=1e-4, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(1, 300), channel=st.integers(0, 23), seed=st.integers(0, 99))
def test_expected_noise_never_grows(factor: float, channel: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, w = rng.standard_normal((64, 24)).astype(np.float32), rng.standard_normal((24, 20)).astype(np.float32)
    rows[:, channel] *= factor
    scales = choose_scales(statistics(rows), [w])
    if scales is not None:
        exact = rows @ w
        before, after = (((quantized_product(rows, w, s) - exact) ** 2).sum() for s in (np.ones(24), scales))
        assert after < before
