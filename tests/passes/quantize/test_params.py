"""A grid holds its range, and zero exactly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.passes.quantize.params import params_from_range
from modelopt_cli.targets.schemes import scheme_for
from modelopt_cli.targets.target import Target

U8, S8, SYMMETRIC = (
    scheme_for(Target(*arguments)) for arguments in (("cpu", "avx512_vnni"), ("cpu", "arm64"), ("tensorrt", "none"))
)
ENDS = st.floats(-1e4, 1e4).filter(lambda x: x == 0 or abs(x) > 1e-4)


@given(ENDS, ENDS, st.sampled_from([U8, S8, SYMMETRIC]))
def test_range_is_held_within_half_a_step(one, other, scheme):
    low, high = sorted((one, other))
    grid = params_from_range(low, high, scheme)
    slack = 0.51 * grid.scale
    assert grid.low <= min(low, 0) + slack
    assert grid.high >= max(high, 0) - slack
    assert grid.least <= grid.zero_point <= grid.most


@given(ENDS, st.floats(0.5, 6))
def test_a_knee_is_a_whole_number_of_steps(high, knee):
    grid = params_from_range(-3, abs(high), U8, whole_step_of=knee)
    steps = knee / grid.scale
    assert steps < 1 or abs(steps - round(steps)) < 1e-3 * max(steps, 1)


def test_affine_is_the_same_integers_under_another_grid():
    grid = params_from_range(-1, 1.55, U8)
    moved = grid.affine(2.0, 0.5)
    for integer in (0, 100, 255):
        value = (integer - grid.zero_point) * grid.scale
        assert (integer - moved.zero_point) * moved.scale == pytest.approx(2 * value + 0.5, abs=moved.scale / 2)


def test_tensorrt_has_zero_point_zero():
    assert params_from_range(-1, 5, SYMMETRIC).zero_point == 0
