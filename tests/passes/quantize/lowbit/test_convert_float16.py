"""float16: half of the bytes, finite on the calibration data, and what stays float32."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.quantize.lowbit.convert_float16 import ConvertFloat16
from modelopt_cli.passes.quantize.lowbit.half_format import FORMATS
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
    text = """m (float[1,32,8,8] x) => (float[1,32,16,16] y, int64[1,32,16,16] z) {
        c = Conv <pads=[1,1,1,1]> (x, w)
        y = Resize <mode="nearest"> (c, , scales)
        z = Cast <to=7> (y) }"""
    scales = np.array([1, 1, 2, 2], np.float32)
    model = model_from_text(text, w=normal(32, 32, 3, 3), scales=scales)
    samples = ArrayDataset({"x": normal(4, 32, 8, 8)})
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
        result = run_pass(ConvertFloat16(), layers(), calibration=data(), target=Target(provider, "none"))
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
    assert FORMATS["float16"].holds(array.astype(np.float32)) == fits


def test_a_weight_that_does_not_fit_is_left_alone() -> None:
    model = model_from_text("m (float[N,300] x) => (float[N,300] y) { y = Add (x, w) }", w=normal(300) * 1e6)
    result = run_pass(ConvertFloat16(), model)
    assert result.changed == 0
    assert result.skipped[0].reason == "float16 cannot hold its values"


@pytest.mark.parametrize(
    "rows", [1e6, 1e-9, np.logspace(-12, 3, 32).reshape(32, 1, 1, 1)], ids=["large", "small", "all"]
)
def test_rows_of_any_size_fit_with_a_power_of_two_for_each(rows: float | np.ndarray) -> None:
    weight = np.asarray(normal(32, 8, 3, 3) * rows, np.float32)
    model = model_from_text("m (float[N,8,6,6] x) => (float[N,32,4,4] y) { y = Conv (x, w) }", w=weight)
    result = run_pass(ConvertFloat16(), model)
    assert result.changed == 1
    assert len(model_bytes(result.model)) < 0.6 * len(model_bytes(model))
    sample = {"x": normal(2, 8, 6, 6)}
    exact, found = (run_model(each, sample, optimize=True)["y"] for each in (model, result.model))
    for channel in range(32):  # each keeps its own precision, also where it is the smallest of all
        assert np.abs(found - exact)[:, channel].max() < 1e-3 * np.abs(exact)[:, channel].max()


def test_small_numbers_of_a_row_vanish_beside_its_large_ones() -> None:
    weight = np.where(np.arange(32) % 2, normal(32, 32), 1e-9).astype(np.float32)
    assert not FORMATS["float16"].holds(weight) and not FORMATS["float16"].keeps(weight)  # columns of 1e-9 alone
    mixed = np.where(np.indices((32, 32)).sum(axis=0) % 2, normal(32, 32), 1e-9).astype(np.float32)
    assert not FORMATS["float16"].holds(mixed) and FORMATS["float16"].keeps(mixed)


def test_bfloat16_holds_what_float16_cannot() -> None:
    model = model_from_text("m (float[N,32] x) => (float[N,32] y) { y = MatMul (x, w) }", w=normal(32, 32) * 1e6)
    result = run_pass(ConvertFloat16(format="bfloat16"), model)
    assert [v.dtype for v in result.model.graph.initializers.values()] == [ir.DataType.BFLOAT16]
    sample = {"x": normal(4, 32)}
    exact, found = (run_model(each, sample, optimize=True)["y"] for each in (model, result.model))
    np.testing.assert_allclose(found, exact, rtol=0.02, atol=2e5)  # products of 32 terms of 1e6, at 8 bits
    assert np.abs(found - exact).max() > 0  # it is not float32


def test_a_constant_that_overflows_bfloat16_stays() -> None:
    largest = np.array([np.finfo(np.float32).max] * 300, np.float32)  # rounds to infinity
    model = model_from_text("m (float[N,300] x) => (float[N,300] y) { y = Min (x, w) }", w=largest)
    assert run_pass(ConvertFloat16(format="bfloat16"), model).skipped[0].reason == "bfloat16 cannot hold its values"


@pytest.mark.parametrize("compute", ["weights", "float16"])
def test_io_float16_takes_and_gives_half(compute: str) -> None:
    model, samples = layers(), data()
    result = run_pass(ConvertFloat16(compute=compute, io="float16"), model, calibration=samples)
    onnx.checker.check_model(model_bytes(result.model), full_check=True)
    ends = [*result.model.graph.inputs, *result.model.graph.outputs]
    assert [(v.name, v.dtype) for v in ends] == [("x", ir.DataType.FLOAT16), ("y", ir.DataType.FLOAT16)]
    sample = next(iter(samples))
    found = run_model(result.model, {"x": sample["x"].astype(np.float16)})["y"]
    np.testing.assert_allclose(found, run_model(model, sample)["y"], rtol=0.05, atol=0.1)
    if compute == "float16":  # the product reads the input as it is
        assert op_types(result.model)[0] == "MatMul"


def test_weights_inside_branches_are_halved_too() -> None:
    text = """m (float[N,32] x, bool c) => (float[N,32] y) {
        y = If (c) <then_branch = t () => (float[N,32] p) <float[32,32] w> { w = Constant <value = float[1] {0.0}> ()
            p = Identity (x) },
                    else_branch = e () => (float[N,32] q) { q = Neg (x) }> }"""
    model = model_from_text(text.replace("<float[32,32] w> { w = Constant <value = float[1] {0.0}> ()", "{"))
    branch = model.graph[0].attributes["then_branch"].as_graph()
    weight = ir.Value(name="w", const_value=ir.Tensor(normal(32, 32), name="w"))
    branch.register_initializer(weight)
    branch[0].replace_input_with(0, weight)
    result = run_pass(ConvertFloat16(), model)
    assert result.changed == 1
    sample = {"x": normal(32, 32), "c": np.array(True)}
    exact, found = (run_model(each, sample)["y"] for each in (model, result.model))
    np.testing.assert_allclose(found, exact, rtol=0.001, atol=0.001)
    assert len(model_bytes(result.model)) < 0.65 * len(model_bytes(model))


def test_inputs_that_overflow_half_stay_float32() -> None:
    rows = ArrayDataset({"x": normal(8, 32) * 1e6})
    result = run_pass(ConvertFloat16(io="float16"), loud(10.0), calibration=rows)
    assert result.model.graph.inputs[0].dtype == ir.DataType.FLOAT
    assert result.details["notices"][0]["code"] == "float16-io-undone"


def test_cubic_resize_stays_float32() -> None:
    text = """m (float[1,32,8,8] x) => (float[1,32,16,16] y) {
        c = Conv <pads=[1,1,1,1]> (x, w)
        y = Resize <mode="cubic"> (c, , scales) }"""
    model = model_from_text(text, w=normal(32, 32, 3, 3), scales=np.array([1, 1, 2, 2], np.float32))
    result = run_pass(HALF, model, calibration=ArrayDataset({"x": normal(4, 32, 8, 8)}))
    assert result.details["nodes"] == 1
    assert any("cubic" in skip.reason for skip in result.skipped)


def test_a_model_of_operators_alone_gets_no_conversions() -> None:
    text = "m (float[N,32] x) => (float[N,32] y) { a = Relu (x)\n b = Exp (a)\n c = Neg (b)\n y = Softmax (c) }"
    result = run_pass(HALF, model_from_text(text), calibration=data())
    assert result.changed == 0
    assert result.details["notices"][0]["code"] == "float16-larger"


@pytest.mark.parametrize("options", [{}, {"compute": "float16"}, {"format": "bfloat16"}])
@pytest.mark.parametrize("sides", [(8, 8), (16, 16), (17, 15), (32, 64)])
def test_no_result_is_larger(sides: tuple[int, int], options: dict[str, str]) -> None:
    model = model_from_text(
        f"m (float[N,{sides[0]}] x) => (float[N,{sides[1]}] y) {{ y = MatMul (x, w) }}", w=normal(*sides)
    )
    result = run_pass(ConvertFloat16(**options), model, calibration=data(sides[0]))
    assert len(model_bytes(result.model)) <= len(model_bytes(model))
