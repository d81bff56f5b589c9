import numpy as np
import pytest

from modelopt_cli.evaluation.equivalence import drifts
from modelopt_cli.testing import model_from_text

SAMPLE = {"x": np.array([[1.0, -2.0, 4.0]], np.float32)}


def scaled(factor, op="Mul"):
    return model_from_text(f"g (float[1,3] x) => (float[1,n] y) {{ y = {op}(x, f) }}", f=np.array([factor], np.float32))


def test_rounding_is_no_drift():
    assert list(drifts(scaled(1), scaled(1 + 1e-6), SAMPLE, rtol=1e-4)) == []


def test_more_than_rounding_is():
    (drift,) = drifts(scaled(1), scaled(1.01), SAMPLE, rtol=1e-4)
    assert drift.output == "y" and drift.relative == pytest.approx(0.01, rel=1e-3)


def test_what_stops_being_finite_has_drifted():
    (drift,) = drifts(scaled(1), scaled(0, "Div"), SAMPLE, rtol=1e-4)
    assert drift.relative == np.inf


def test_another_shape_has_drifted():
    wider = model_from_text("g (float[1,3] x) => (float[1,n] y) { y = Concat<axis=1>(x, x) }")
    (drift,) = drifts(scaled(1), wider, SAMPLE, rtol=1e-4)
    assert drift.relative == np.inf


def test_the_same_nan_is_no_drift():
    nan = model_from_text("g (float[1,3] x) => (float[1,3] y) { y = Sqrt(x) }")
    assert list(drifts(nan, nan, SAMPLE, rtol=0)) == []


def test_sequences_are_compared_element_by_element():
    def split(scale: float):
        text = (
            "g (float[1,3] x) => (seq(float[1,1]) s) <float k = {%s}> { y = Mul(x, k)  s = SplitToSequence<axis=1>(y) }"
        )
        return model_from_text(text % scale)

    assert list(drifts(split(1.0), split(1.0), SAMPLE, rtol=0)) == []
    assert [drift.output for drift in drifts(split(1.0), split(1.5), SAMPLE, rtol=1e-4)] == ["s"]


def test_a_result_that_does_not_run_has_drifted():
    broken = model_from_text("g (float[1,n] x) => (float[1,n] y) <int64[2] shape = {7, 11}> { y = Reshape(x, shape) }")
    (drift,) = drifts(scaled(1), broken, SAMPLE, rtol=1e-4)
    assert drift.relative == np.inf
