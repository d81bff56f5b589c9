import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.calibration.channels import ChannelAccumulator


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=5), st.sampled_from([1, -1]))
def test_statistics_are_those_of_all_values_together(shapes, axis):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((a, 5, b) if axis == 1 else (a, b, 5)).astype(np.float32) * 3 + 1 for a, b in shapes]
    accumulator = ChannelAccumulator(axis)
    for array in arrays:
        accumulator.update(array)
    rows = np.concatenate([np.moveaxis(a, axis, -1).reshape(-1, 5) for a in arrays]).astype(np.float64)
    found = accumulator.stats()
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.mean_square, (rows**2).mean(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(found.low, rows.min(axis=0))
    np.testing.assert_array_equal(found.high, rows.max(axis=0))
    np.testing.assert_array_equal(found.absmax, np.abs(rows).max(axis=0))
    assert found.count == len(rows)


def test_nothing_seen():
    accumulator = ChannelAccumulator(1)
    accumulator.update(np.zeros((0, 3), np.float32))
    assert accumulator.stats().count == 0
