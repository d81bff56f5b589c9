from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.passes.quantize.dynamic_stats import ROWS_AT_ONCE, collect_input_statistics
from modelopt_cli.progress import Silent
from modelopt_cli.testing import ArrayDataset, model_from_text

MODEL = "g (float[N, S, 4] x) => (float[N, S, 4] y) { h = Relu(x)\n y = Neg(h) }"


@settings(max_examples=15, deadline=None)
@given(
    samples=st.integers(1, 6),
    length=st.sampled_from([1, 3, ROWS_AT_ONCE - 1, ROWS_AT_ONCE + 1]),
    seed=st.integers(0, 99),
)
def test_moments_are_those_of_all_rows(samples: int, length: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((samples, length, 4)).astype(np.float32)
    found = collect_input_statistics(model_from_text(MODEL), ["h"], ArrayDataset({"x": x}), Silent())["h"]
    h = np.maximum(x, 0).reshape(-1, 4).astype(np.float64)
    np.testing.assert_allclose(found.moment, h.T @ h / len(h), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.mean_square, (h**2).mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.high, np.maximum(x, 0).max(1), rtol=1e-6)
    assert (found.low == 0).all()


def test_a_tensor_that_is_not_finite_has_no_statistics() -> None:
    x = np.full((1, 2, 4), np.inf, np.float32)
    assert collect_input_statistics(model_from_text(MODEL), ["h"], ArrayDataset({"x": x}), Silent()) == {}
