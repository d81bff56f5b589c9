from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.passes.quantize.dynamic_rounding import BLOCK, round_product_weight, round_second_order
from modelopt_cli.passes.quantize.dynamic_stats import InputStatistics


def correlated_rows(rng: np.random.Generator, rows: int, channels: int) -> np.ndarray:
    mixing = rng.standard_normal((channels // 4, channels))
    return (rng.standard_normal((rows, channels // 4)) @ mixing + 0.1 * rng.standard_normal((rows, channels))).astype(
        np.float32
    )


def statistics(rows: np.ndarray) -> InputStatistics:
    low, high = np.minimum(rows.min(0), 0)[None], np.maximum(rows.max(0), 0)[None]
    return InputStatistics(low, high, (rows**2).mean(0), (rows.T @ rows / len(rows)).astype(np.float32))


def test_second_order_beats_nearest_on_correlated_inputs() -> None:
    rng = np.random.default_rng(0)
    rows, w = correlated_rows(rng, 500, 64), rng.standard_normal((64, 20)).astype(np.float32)
    nearest = round_product_weight(w, None, None, per_channel=True, reduce_range=False).dequantize()
    second = round_product_weight(w, statistics(rows), None, per_channel=True, reduce_range=False).dequantize()
    assert ((rows @ (second - w)) ** 2).sum() < 0.3 * ((rows @ (nearest - w)) ** 2).sum()


def test_independent_inputs_are_rounded_to_the_nearest_step() -> None:
    rng = np.random.default_rng(0)
    w = rng.uniform(-1, 1, (40, 8)).astype(np.float32)
    scale = np.full(8, 1 / 127, np.float32)
    values = round_second_order(w, scale, np.eye(40, dtype=np.float32), -127, 127)
    np.testing.assert_array_equal(values, np.rint(w / scale))


def test_blocks_do_not_change_the_result() -> None:
    rng = np.random.default_rng(1)
    channels = BLOCK + 30
    rows, w = correlated_rows(rng, 400, channels), rng.standard_normal((channels, 4))
    moment, scale = (rows.T @ rows / 400).astype(np.float64), np.full(4, 0.02)
    values = round_second_order(w.astype(np.float32), scale.astype(np.float32), moment.astype(np.float32), -127, 127)
    # The textbook form: one row at a time, all later rows updated with the inverse of what is left.
    moment[np.diag_indices(channels)] += 0.01 * np.diag(moment).mean()
    order = list(np.argsort(np.diag(rows.T @ rows / 400), kind="stable"))[::-1]
    left, work, expected = moment.copy(), w.copy(), np.zeros_like(w)
    remaining = order.copy()
    for index in order:
        inverse = np.linalg.inv(left[np.ix_(remaining, remaining)])
        place = remaining.index(index)
        expected[index] = np.clip(np.rint(work[index] / scale), -127, 127)
        error = (work[index] - expected[index] * scale) / inverse[place, place]
        work[remaining] -= np.outer(inverse[:, place], error)
        remaining.pop(place)
    assert (values == expected).mean() > 0.98  # float32 against float64: a tie may fall to the other side


def test_channels_that_never_vary_are_no_problem() -> None:
    w = np.random.default_rng(0).standard_normal((20, 16)).astype(np.float32)
    zero = InputStatistics(np.zeros((1, 20)), np.zeros((1, 20)), np.zeros(20), np.zeros((20, 20), np.float32))
    rounded = round_product_weight(w, zero, None, per_channel=True, reduce_range=False)
    np.testing.assert_allclose(rounded.dequantize(), w, atol=0.6 * float(rounded.scale.max()))


@settings(max_examples=20, deadline=None)
@given(k=st.integers(1, 40), n=st.integers(1, 10), seed=st.integers(0, 1000), reduced=st.booleans())
def test_values_stay_in_range_and_scales_fit(k: int, n: int, seed: int, reduced: bool) -> None:
    rng = np.random.default_rng(seed)
    rows, w = rng.standard_normal((30, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
    rounded = round_product_weight(w, statistics(rows), None, per_channel=True, reduce_range=reduced)
    assert np.abs(rounded.values.astype(int)).max() <= (64 if reduced else 127)
    assert (rounded.scale <= np.abs(w).max(0) / (64 if reduced else 127) * 1.001).all()
