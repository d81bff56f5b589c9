import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelopt_cli.calibration.histogram import BINS_PER_SIDE, Histogram

magnitudes = st.floats(2.0**-40, 2.0**40, width=32)  # far from where scaling underflows
floats = st.one_of(st.just(0.0), magnitudes, magnitudes.map(lambda value: -value))
arrays = hnp.arrays(np.float32, st.integers(1, 60), elements=floats)


def histogram(*chunks: np.ndarray) -> Histogram:
    found = Histogram()
    for chunk in chunks:
        found.update(chunk)
    return found


@given(arrays, st.lists(st.integers(0, 60), max_size=4), st.randoms(use_true_random=False))
def test_counts_depend_on_the_values_alone_not_on_chunks_or_order(values, cuts, random):
    shuffled = values.tolist()
    random.shuffle(shuffled)
    whole, parts = histogram(values), histogram(*np.split(np.array(shuffled, np.float32), sorted(cuts)))
    np.testing.assert_array_equal(whole.counts, parts.counts)
    assert (whole.low, whole.high, whole.width) == (parts.low, parts.high, parts.width)


@given(arrays)
def test_counts_are_those_of_numpy(values):
    found = histogram(values)
    assert found.counts.sum() == np.count_nonzero(values)
    nonzero = values[values != 0].astype(np.float64)
    expected = np.histogram(nonzero, found.edges)[0]
    np.testing.assert_array_equal(found.counts, expected)


@given(arrays)
def test_the_range_is_the_smallest_power_of_two_that_holds_the_values(values):
    reach = histogram(values).width * BINS_PER_SIDE
    largest = float(np.abs(values).max())
    assert largest < reach <= 2 * largest or (largest == 0 and reach == 2.0**-100)


def test_more_values_than_a_chunk():
    values = np.random.default_rng(0).standard_normal(200_001).astype(np.float32)
    found = histogram(values)
    np.testing.assert_array_equal(found.counts, np.histogram(values.astype(np.float64), found.edges)[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64, np.uint8])
def test_other_types(dtype):
    found = histogram(np.array([0, 1, 2, 100], dtype))
    assert (found.low, found.high, int(found.counts.sum())) == (0, 100, 3)


def test_values_that_are_not_finite_are_left_out_and_noticed():
    found = histogram(np.array([1, np.inf, -np.inf, np.nan, -2], np.float32))
    assert (found.low, found.high, int(found.counts.sum()), found.nonfinite) == (-2, 1, 2, True)
    assert not histogram(np.ones(3, np.float32)).nonfinite


def test_nothing_to_count():
    found = histogram(np.zeros(0, np.float32), np.zeros(5, np.float32))
    assert (found.low, found.high, int(found.counts.sum())) == (0, 0, 0)
