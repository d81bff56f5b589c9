"""float16: half of the bytes, finite on the calibration data, and what stays float32."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.quantize.lowbit.convert_float16 import ConvertFloat16
from modelopt_cli.passes.quantize.lowbit.half_ranges import fits_half
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import ArrayDataset, model_from_text, op_types, run_model, run_pass

HALF = ConvertFloat16(compute="float16")


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def layers() -> ir.Model:
    text = """m (float[N,32] x) => (float[N,32] y) {
        a = MatMul (x, w)
        r = Relu (a)
        n = LayerNormalization (r, g, b)
        y = MatMul (n, v) }"""
    return model_from_text(text, w=normal(32, 64), g=normal(64), b=normal(64), v=normal(64, 32))


def loud(factor: float) -> ir.Model:
    """Values up to some ``factor`` times three between two products."""
    text = """m (float[N,32] x) => (float[N,32] y) {
        a = MatMul (x, w)
        big = Mul (a, up)
        small = Mul (big, down)
        y = MatMul (small, w) }"""
    up, down = np.array(factor, np.float32), np.array(1 / factor, np.float32)
    return model_from_text(text, w=normal(32, 32) / 6, up=up, down=down)


def data(width: int = 32) -> ArrayDataset:
    return ArrayDataset({"x": normal(16, width, seed=7)})


def types_of(model: ir.Model) -> dict[str, str]:
    """Operator's output -> type it is computed in, from onnx's own inference."""
    proto = onnx.shape_inference.infer_shapes(onnx.load_from_string(model_bytes(model)), strict_mode=True)
    return {
        info.name: onnx.TensorProto.DataType.Name(info.type.tensor_type.elem_type) for info in proto.graph.value_info
    }


def test_weights_are_half_the_bytes_and_nothing_else_changes() -> None:
    model = layers()
    result = run_pass(ConvertFloat16(), model)
    weights = {name: v.dtype for name, v in result.model.graph.initializers.items()}
    assert sum(dtype == ir.DataType.FLOAT16 for dtype in weights.values()) == result.changed == 2  # w and v
    sample = next(iter(data()))
    np.testing.assert_allclose(
        run_model(result.model, sample)["y"], run_model(model, sample)["y"], rtol=0.01, atol=0.02
    )


def test_operators_compute_in_half_and_sums_do_not() -> None:
    result = run_pass(HALF, layers(), calibration=data())
    onnx.checker.check_model(model_bytes(result.model), full_check=True)
    found = types_of(result.model)
    assert (found["a"], found["r"]) == ("FLOAT16", "FLOAT16")
    assert found["n"] == "FLOAT"
    assert result.details["nodes"] == 3
    assert any("LayerNormalization sums" in skip.reason for skip in result.skipped)
    sample = next(iter(data()))
    np.testing.assert_allclose(
        run_model(result.model, sample)["y"], run_model(layers(), sample)["y"], rtol=0.02, atol=0.05
    )


def test_what_overflows_stays_float32() -> None:
    result = run_pass(HALF, loud(1e5), calibration=data())
    found = types_of(result.model)
    assert found["big"] == "FLOAT"
    assert found["a"] == "FLOAT16"
    assert [skip.node for skip in result.skipped] == ["Mul", "Mul"]
    sample = next(iter(data()))
    exact, half = run_model(loud(1e5), sample)["y"], run_model(result.model, sample)["y"]
    assert np.isfinite(half).all()
    np.testing.assert_allclose(half, exact, rtol=0.02, atol=0.02)


def test_what_fits_is_computed_in_half() -> None:
    assert types_of(run_pass(HALF, loud(10.0), calibration=data()).model)["big"] == "FLOAT16"


def test_values_too_large_on_the_data_stay_float32_whatever_the_constants() -> None:
    rows = ArrayDataset({"x": normal(8, 32) * 3e4})
    result = run_pass(HALF, loud(10.0), calibration=rows)
    assert types_of(result.model)["big"] == "FLOAT"
    assert any("too large for float16" in skip.reason for skip in result.skipped)


def test_resize_keeps_its_scales_and_casts_stay() -> None:
    text = """m (float[1,3,8,8] x) => (float[1,3,16,16] y, int64[1,3,16,16] z) {
        c = Conv <pads=[1,1,1,1]> (x, w)
        y = Resize <mode="nearest"> (c, , scales)
        z = Cast <to=7> (y) }"""
    scales = np.array([1, 1, 2, 2], np.float32)
    model = model_from_text(text, w=normal(3, 3, 3, 3), scales=scales)
    samples = ArrayDataset({"x": normal(4, 3, 8, 8)})
    result = run_pass(HALF, model, calibration=samples)
    onnx.checker.check_model(model_bytes(result.model), full_check=True)
    assert result.model.graph.initializers["scales"].dtype == ir.DataType.FLOAT
    assert result.details["nodes"] == 2
    found = run_model(result.model, next(iter(samples)))
    assert found["y"].dtype == np.float32
    assert found["z"].dtype == np.int64


def test_subgraphs_stay_float32() -> None:
    text = """m (float[N,32] x, bool c) => (float[N,32] y) {
        a = MatMul (x, w)
        y = If (c) <then_branch = t () => (float[N,32] p) { p = MatMul (a, w) },
                    else_branch = e () => (float[N,32] q) { q = Neg (a) }> }"""
    model = model_from_text(text, w=normal(32, 32))
    result = run_pass(ConvertFloat16(), model)
    for choice in (True, False):
        sample = {"x": normal(4, 32), "c": np.array(choice)}
        exact, found = (run_model(each, sample)["y"] for each in (model, result.model))
        np.testing.assert_allclose(found, exact, rtol=0.02, atol=0.05)


def test_a_table_is_looked_up_in_half() -> None:
    model = model_from_text("m (int64[N] i) => (float[N,32] y) { y = Gather (t, i) }", t=normal(100, 32))
    result = run_pass(ConvertFloat16(), model)
    assert op_types(result.model) == ["Gather", "Cast"]
    assert len(model_bytes(result.model)) < 0.6 * len(model_bytes(model))


def test_without_data_only_weights_change_and_the_report_says_why() -> None:
    result = run_pass(HALF, layers())
    assert result.details["notices"][0]["code"] == "no-calibration-data"
    assert "nodes" not in result.details


def test_auto_follows_the_provider() -> None:
    for provider, computes in (("cpu", False), ("cuda", True)):
        result = run_pass(ConvertFloat16(), layers(), calibration=data(), target=Target(provider, "none"))  # type: ignore[arg-type]
        assert ("nodes" in result.details) == computes


@pytest.mark.parametrize(
    ("array", "fits"),
    [
        (np.array([1.0, -65504.0]), True),
        (np.array([1.0, 70000.0]), False),
        (np.array([1e-12]), False),  # an epsilon
        (np.array([0.0, 0.0]), True),
        (np.concatenate([np.ones(999), [1e-9]]), True),
        (np.array([np.inf]), False),
    ],
)
def test_what_float16_holds(array: np.ndarray, fits: bool) -> None:
    assert fits_half(array.astype(np.float32)) == fits


def test_a_weight_that_does_not_fit_is_left_alone() -> None:
    model = model_from_text("m (float[N,32] x) => (float[N,32] y) { y = MatMul (x, w) }", w=normal(32, 32) * 1e6)
    result = run_pass(ConvertFloat16(), model)
    assert result.changed == 0
    assert result.skipped[0].reason == "float16 cannot hold its values"
