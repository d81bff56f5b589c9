import numpy as np
import pytest

from modelopt_cli.calibration.observers import make_observer
from modelopt_cli.calibration.ranges import ObserverOptions, Range

ALL = ["minmax", "moving-average", "percentile", "mse", "entropy"]


def observe(name, *arrays, **options):
    observer = make_observer(name, ObserverOptions(**options))
    for array in arrays:
        observer.update(np.asarray(array, np.float32))
    return observer.range()


def test_minmax():
    assert observe("minmax", [[1, 2]], [[-3]], []) == Range(-3, 2)


def test_moving_average_forgets():
    assert observe("moving-average", [0, 10], [0, 20], momentum=0.75) == Range(0, 12.5)


@pytest.mark.parametrize("name", ALL)
def test_nothing_seen(name):
    assert observe(name) == Range(0, 0)
    assert observe(name, []) == Range(0, 0)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [0.0, 3.5, -2.0])
def test_constant_tensors_have_a_range_of_one_point(name, value):
    assert observe(name, [value] * 10) == Range(value, value)


@pytest.mark.parametrize("name", ALL)
def test_masked_values_are_noticed_and_left_out(name):
    found = observe(name, [-np.inf, 1, 2, np.nan, 4])
    assert found.nonfinite and 0 <= found.low <= 1 and 2 <= found.high <= 4
    assert observe(name, [np.nan, np.nan]) == Range(0, 0, nonfinite=True)


@pytest.mark.parametrize("name", ["percentile", "mse", "entropy"])
def test_a_positive_tensor_keeps_its_lower_end(name):
    assert observe(name, np.linspace(2, 9, 1000)).low == 2
