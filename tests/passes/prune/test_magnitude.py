"""The arithmetic: an exact share, and only the smallest."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelopt_cli.passes.prune.magnitude import zero_smallest

FLOATS = st.floats(-4, 4, width=16)
ARRAYS = st.sampled_from([np.float16, np.float32, np.float64, ml_dtypes.bfloat16]).flatmap(
    lambda dtype: hnp.arrays(
        np.float16,
        hnp.array_shapes(max_dims=3, max_side=6),
        elements=st.one_of(FLOATS, st.sampled_from([0.0, -0.0, 1.0])),
    ).map(lambda array: array.astype(dtype))
)
SHARES = st.floats(0.01, 0.99)


def flat(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.astype(np.float64).reshape(-1) for array in arrays])


@given(st.lists(ARRAYS, min_size=1, max_size=3), SHARES)
def test_the_share_is_exact_and_only_the_smallest_go(arrays: list[np.ndarray], share: float) -> None:
    before, pruned = flat(arrays), flat(zero_smallest(arrays, share))
    zeros = int((pruned == 0).sum())
    assert zeros == max(round(share * before.size), int((before == 0).sum()))
    gone, kept = before[pruned == 0], before[pruned != 0]
    assert gone.size == 0 or kept.size == 0 or np.abs(gone).max() <= np.abs(kept).min()
    np.testing.assert_array_equal(pruned[pruned != 0], kept)


@given(st.lists(ARRAYS, min_size=1, max_size=3), SHARES)
def test_a_second_run_hands_back_the_same_objects(arrays: list[np.ndarray], share: float) -> None:
    once = zero_smallest(arrays, share)
    assert all(again is first for again, first in zip(zero_smallest(once, share), once, strict=True))


@given(ARRAYS, SHARES)
def test_the_input_is_not_written_and_type_and_shape_stay(array: np.ndarray, share: float) -> None:
    copy = array.copy()
    (pruned,) = zero_smallest([array], share)
    assert array.tobytes() == copy.tobytes()
    assert (pruned.dtype, pruned.shape) == (array.dtype, array.shape)


def test_of_equal_magnitudes_the_first_go() -> None:
    first, second = zero_smallest([np.array([1.0, -1.0]), np.array([1.0, 1.0, 2.0])], 0.6)
    assert (first.tolist(), second.tolist()) == ([0, 0], [0, 1, 2])


def test_nan_is_not_small() -> None:
    assert np.isnan(zero_smallest([np.array([np.nan, 1.0, 2.0])], 0.67)[0]).tolist() == [True, False, False]


def test_nothing_in_nothing_out() -> None:
    assert zero_smallest([], 0.5) == []
