from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.graph.stats import model_stats
from modelopt_cli.testing import model_from_text

CONV = "g (float[1,3,8,8] x) => (float[1,4,6,6] y) { y = Conv(x, w, b) }"
MATMUL = "g (float[2,3] x) => (float[2,4] y) { d = DequantizeLinear%s(w, s, z) y = MatMul(x, d) }"


def test_weights_and_zeros_of_a_float_model() -> None:
    w = np.ones((4, 3, 3, 3), np.float32)
    w[0] = 0
    stats = model_stats(model_from_text(CONV, w=w, b=np.ones(4, np.float32)), 1234)
    assert (stats.parameters, stats.nonzero_parameters) == (112, 85)
    assert stats.sparsity == pytest.approx(27 / 112)
    assert stats.weight_bytes_by_dtype == {"float32": 448}
    assert (stats.file_bytes, stats.nodes, stats.ops, stats.opset, stats.ir_version) == (1234, 1, {"Conv": 1}, 17, 8)


def test_constant_nodes_hold_parameters_too_and_count_as_nodes() -> None:
    text = """g (float[2] x) => (float[2] y) {
        w = Constant<value = float[2] {0, 3}>()
        y = Add(x, w)
    }"""
    stats = model_stats(model_from_text(text), 0)
    assert (stats.parameters, stats.nonzero_parameters, stats.nodes) == (2, 1, 2)


def test_scales_zero_points_bounds_and_shapes_are_no_parameters() -> None:
    text = """g (float[2,3] x) => (float[6] y) {
        q = QuantizeLinear(x, s, z)
        d = DequantizeLinear(q, s, z)
        c = Clip(d, low, high)
        y = Reshape(c, shape)
    }"""
    arrays = {"s": np.float32(0.1), "z": np.uint8(128), "low": np.float32(0), "high": np.float32(6)}
    model = model_from_text(text, shape=np.array([6]), **{name: np.array(value) for name, value in arrays.items()})
    assert model_stats(model, 0).parameters == 0
    assert model_stats(model, 0).sparsity == 0.0


def test_a_constant_read_as_bound_and_as_data_is_a_parameter() -> None:
    text = "g (float[2] x) => (float[2] y) { c = Clip(x, low) y = Add(c, low) }"
    assert model_stats(model_from_text(text, low=np.array(1, np.float32)), 0).parameters == 1


@pytest.mark.parametrize(
    ("axis", "scale", "zero", "live"),
    [
        ("", np.float32(0.1), np.uint8(128), 10),  # two of twelve are 128
        ("<axis = 1>", np.full(4, 0.1, np.float32), np.array([128, 7, 7, 7], np.uint8), 8),
        ("<axis = 0>", np.full(3, 0.1, np.float32), np.array([7, 128, 128], np.uint8), 9),
    ],
)
def test_zeros_of_quantized_weights_are_their_zero_point(
    axis: str, scale: np.ndarray, zero: np.ndarray, live: int
) -> None:
    w = np.array([[128, 7, 7, 1], [128, 2, 3, 4], [5, 6, 8, 9]], np.uint8)
    model = model_from_text(MATMUL % axis, w=w, s=np.asarray(scale), z=np.asarray(zero))
    stats = model_stats(model, 0)
    assert (stats.parameters, stats.nonzero_parameters) == (12, live)
    assert stats.weight_bytes_by_dtype == {"uint8": 12}


def test_the_weight_scale_of_dynamic_quantization_is_no_parameter() -> None:
    text = """g (float[2,16] x) => (float[2,8] y) {
        q, s, z = DynamicQuantizeLinear(x)
        i = MatMulInteger(q, w, z, wz)
        f = Cast<to = 1>(i)
        k = Mul(s, ws)
        y = Mul(f, k)
    }"""
    arrays = {"w": np.ones((16, 8), np.int8), "wz": np.zeros(8, np.int8), "ws": np.ones(8, np.float32)}
    assert model_stats(model_from_text(text, **arrays), 0).parameters == 128


def test_a_quantized_bias_of_32_bits_is_a_parameter_and_an_index_is_none() -> None:
    text = """g (int32[1] i, float[2] x) => (float[2] y, int32[1] j) {
        d = DequantizeLinear(b, s)
        y = Add(x, d)
        j = Add(i, one)
    }"""
    arrays = {"b": np.array([3, 0], np.int32), "s": np.array(0.1, np.float32), "one": np.array([1], np.int32)}
    stats = model_stats(model_from_text(text, **arrays), 0)
    assert (stats.parameters, stats.nonzero_parameters) == (2, 1)


def test_blocked_zero_points_cover_runs_of_the_axis() -> None:
    header = '<ir_version: 10, opset_import: ["" : 21]>'
    text = (
        header
        + "g (float[1,4] x) => (float[1,2] y) "
        + "{ d = DequantizeLinear<axis = 0, block_size = 2>(w, s, z) y = MatMul(x, d) }"
    )
    w = np.array([[1, 2], [1, 9], [3, 9], [4, 4]], np.int8)
    z = np.array([[1, 2], [3, 4]], np.int8)
    model = model_from_text(text, w=w, s=np.ones((2, 2), np.float32), z=z)
    assert model_stats(model, 0).nonzero_parameters == 3  # 9, 9 and the 4 under zero point 3


def test_packed_weights_count_what_they_hold() -> None:
    header = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>'
    text = (
        header
        + "g (float[1,32] x) => (float[1,2] y) "
        + "{ y = com.microsoft.MatMulNBits<K = 32, N = 2, bits = 4, block_size = 32>(x, w, s) }"
    )
    packed = np.full((2, 1, 16), 0x18, np.uint8)  # each byte: one weight at the implied zero point 8, one live
    stats = model_stats(model_from_text(text, w=packed, s=np.ones(2, np.float32)), 0)
    assert (stats.parameters, stats.nonzero_parameters) == (64, 32)


def test_subgraphs_are_counted() -> None:
    text = """g (bool c, float[2] x) => (float[2] y) {
        y = If(c) <
            then_branch = t () => (float[2] a) { a = Relu(x) },
            else_branch = e () => (float[2] b) { k = Constant<value = float[2] {1, 2}>() b = Mul(x, k) }
        >
    }"""
    stats = model_stats(model_from_text(text), 0)
    assert stats.ops == {"Constant": 1, "If": 1, "Mul": 1, "Relu": 1}
    assert stats.parameters == 2


@pytest.mark.zoo
def test_parameters_of_a_real_model_whose_weights_are_constant_nodes(zoo) -> None:
    stats = model_stats(ir.load(zoo / "ppocr_det" / "model.onnx"), 0)
    assert 1_000_000 < stats.parameters < 1_300_000  # PP-OCRv4 mobile det: 1.17 M, all in Constant nodes
