from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.passes.quantize.dynamic_stats import InputStatistics
from modelopt_cli.passes.quantize.smooth import apply_scales, choose_scales
from modelopt_cli.testing import model_from_text, op_types

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


def test_scales_without_a_place_to_go_become_a_mul() -> None:
    text = "g (float[N, 32] x) => (float[N, 24] y) { y = MatMul(x, w) }"
    model = model_from_text(text, w=RNG.standard_normal((32, 24)).astype(np.float32))
    product, scales = model.graph[0], RNG.uniform(1, 8, 32).astype(np.float32)
    source = product.inputs[0]
    assert source is not None
    product.replace_input_with(0, apply_scales(model, source, scales, [product], None))
    assert op_types(model) == ["Mul", "MatMul"]


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
