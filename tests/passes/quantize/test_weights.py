"""Weights survive rounding within half a step, per channel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelopt_cli.passes.quantize.weights import integer_range, quantize_weight

WEIGHTS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=4, max_side=5),
    elements=st.floats(-1000, 1000, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3),
)


@given(WEIGHTS, st.booleans(), st.booleans(), st.integers(-2, 1), st.sampled_from([4, 8]))
def test_error_is_at_most_half_a_step(array, symmetric, reduce_range, axis, bits):
    weight = quantize_weight(array, axis=axis, bits=bits, symmetric=symmetric, reduce_range=reduce_range)
    low, high = integer_range(bits, symmetric=symmetric, reduce_range=reduce_range)
    assert weight.values.min() >= low
    assert weight.values.max() <= high
    assert weight.scale.shape == (array.shape[axis],)
    shape = [1] * array.ndim
    shape[axis] = -1
    # An asymmetric zero point is itself rounded, which can move the ends of the range by half a step more.
    steps = 0.5 if symmetric else 1.0
    bound = np.broadcast_to(weight.scale.reshape(shape), array.shape) * (steps + 1e-3)
    assert np.all(np.abs(weight.dequantize() - array) <= bound)


@given(WEIGHTS, st.booleans())
def test_zero_stays_zero(array, symmetric):
    weight = quantize_weight(array, axis=0, symmetric=symmetric)
    assert np.all(weight.dequantize()[array == 0] == 0)


def test_one_scale_for_all_is_a_scalar():
    weight = quantize_weight(np.float32([[1, -2], [0.5, 0]]), axis=None)
    assert weight.scale.shape == ()
    assert weight.values.tolist() == [[64, -127], [32, 0]]


def test_all_zero_channel_has_a_usable_scale():
    weight = quantize_weight(np.float32([[0, 0], [1, 2]]), axis=0)
    assert weight.scale[0] == 1
    assert not weight.values[0].any()


def test_reduced_range_keeps_pair_sums_within_16_bits():
    weight = quantize_weight(np.float32([[5, -5]]), axis=0, reduce_range=True)
    assert 2 * 255 * int(np.abs(weight.values.astype(int)).max()) < 2**15


def test_the_source_array_is_untouched():
    array = np.float32([[1, -2]])
    array.setflags(write=False)
    quantize_weight(array, axis=1)


def test_width_is_checked():
    with pytest.raises(ValueError, match="bits must be 2 to 8"):
        quantize_weight(np.ones((1, 1), np.float32), axis=0, bits=16)
