"""Packed weights decode to what they were; the session folds them; what would not get smaller is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.prune.pack_sparse import PackSparse
from modelopt_cli.passes.prune.scales import LogScales
from modelopt_cli.profiling.session import open_session
from modelopt_cli.testing import assert_same_outputs, model_from_text, op_types, run_model, run_pass

RNG = np.random.default_rng(6)


def sparse(*shape: int, zeros: float = 0.7, dtype: type = np.float32) -> np.ndarray:
    values = RNG.standard_normal(shape) * (RNG.random(shape) > zeros)
    return values.astype(dtype)


def one_product(array: np.ndarray) -> ir.Model:
    kind = {"float32": "float", "float16": "float16"}[array.dtype.name]
    text = f"m ({kind}[N,{array.shape[0]}] x) => ({kind}[N,{array.shape[1]}] y) {{ y = MatMul (x, w) }}"
    return model_from_text(text, w=array)


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(30, 60), columns=st.integers(30, 60), zeros=st.floats(0.2, 0.99))
def test_values_come_back_exactly(rows: int, columns: int, zeros: float) -> None:
    model = one_product(sparse(rows, columns, zeros=zeros))
    result = run_pass(PackSparse(), model)
    feeds = {"x": RNG.standard_normal((3, rows)).astype(np.float32)}
    assert_same_outputs(model, result.model, feeds, rtol=0, atol=0)


@pytest.mark.parametrize("values", ["keep", "int8"])
def test_the_session_loads_one_product_again(values: str, tmp_path: Path) -> None:
    result = run_pass(PackSparse(values=values), one_product(sparse(64, 64)))
    assert len(op_types(result.model)) > 5
    path = tmp_path / "loaded.onnx"
    open_session(result.model, optimize="basic", optimized_path=path)
    assert [node.op_type for node in onnx.load(path).graph.node] == ["MatMul"]


def test_the_file_is_smaller_and_the_report_says_what_loading_costs() -> None:
    model = one_product(sparse(256, 256))
    result = run_pass(PackSparse(values="int8"), model)
    ratio = len(model_bytes(result.model)) / len(model_bytes(model))
    assert ratio <= 0.13  # a bit and 0.3 bytes for each four bytes: 0.106, and the decoder
    assert result.details["bytes_after"] / result.details["bytes_before"] == pytest.approx(ratio)
    assert result.details["load_seconds_after"] > 0


def test_int8_values_keep_zeros_and_are_within_half_a_step_of_a_scale_rounded_up() -> None:
    array = sparse(48, 40)
    result = run_pass(PackSparse(values="int8"), one_product(array))
    got = run_model(result.model, {"x": np.eye(48, dtype=np.float32)})["y"]
    step = np.abs(array).max(axis=0) / 127
    assert (got[array == 0] == 0).all()
    assert (np.abs(got - array) <= step / 2 * 2 ** (1 / 16) * 1.001).all()


def test_scales_of_many_channels_take_a_byte_each() -> None:
    array = sparse(32, 600) * np.exp(RNG.uniform(-3, 3, 600)).astype(np.float32)
    result = run_pass(PackSparse(values="int8"), one_product(array))
    got = run_model(result.model, {"x": np.eye(32, dtype=np.float32)})["y"]
    step = np.abs(array).max(axis=0) / 127
    assert (got[array == 0] == 0).all()
    assert (np.abs(got - array) <= step / 2 * 2 ** (1 / 16) * 1.001).all()
    assert "Exp" in op_types(result.model)


def test_scales_too_far_apart_for_a_byte_stay_floats() -> None:
    assert LogScales.of(np.geomspace(1e-6, 1, 1000, dtype=np.float32)) is None


def test_biases_are_halved_with_int8_values_only() -> None:
    text = "m (float[N,32,4,4] x) => (float[N,64,4,4] y) { y = Conv <dilations = [1, 1], strides = [1, 1]> (x, w, b) }"
    bias = RNG.standard_normal(64).astype(np.float32)
    model = model_from_text(text, w=sparse(64, 32, 1, 1), b=bias)
    kept, halved = run_pass(PackSparse(), model), run_pass(PackSparse(values="int8"), model)
    zero = {"x": np.zeros((1, 32, 4, 4), np.float32)}
    np.testing.assert_array_equal(run_model(kept.model, zero)["y"][0, :, 0, 0], bias)
    np.testing.assert_allclose(run_model(halved.model, zero)["y"][0, :, 0, 0], bias, rtol=2**-11)
    assert (kept.changed, halved.changed) == (1, 2)
    feeds = {"x": RNG.standard_normal((2, 32, 4, 4)).astype(np.float32)}
    assert_same_outputs(model, kept.model, feeds, rtol=1e-6, atol=1e-6)


def test_one_small_weight_is_not_worth_a_decoder() -> None:
    model = one_product(sparse(14, 14))
    result = run_pass(PackSparse(), model)
    assert (result.changed, model_bytes(result.model)) == (0, model_bytes(model))
    assert result.skipped[0].reason == "the decoder would be larger than what it saves"


def test_dense_weights_are_rounded_without_a_mask() -> None:
    result = run_pass(PackSparse(values="int8"), one_product(sparse(64, 64, zeros=0)))
    assert op_types(result.model) == ["Cast", "Mul", "MatMul"]


def test_float16_stays_float16() -> None:
    result = run_pass(PackSparse(), one_product(sparse(64, 64, dtype=np.float16)))
    feeds = {"x": RNG.standard_normal((2, 64)).astype(np.float16)}
    assert run_model(result.model, feeds)["y"].dtype == np.float16
    assert result.changed == 1


def test_integer_weights_of_a_quantized_model_are_packed_too() -> None:
    text = """m (float[N,64] x) => (float[N,64] y) { w = DequantizeLinear (q, s)  y = MatMul (x, w) }"""
    array = np.rint(sparse(64, 64) * 30).astype(np.int8)
    model = model_from_text(text, q=array, s=np.array(0.1, np.float32))
    result = run_pass(PackSparse(), model)
    assert result.changed == 1
    feeds = {"x": RNG.standard_normal((2, 64)).astype(np.float32)}
    assert_same_outputs(model, result.model, feeds, rtol=0, atol=0)


def test_what_would_not_get_smaller_is_left_alone_with_the_reason() -> None:
    model = one_product(sparse(64, 64, zeros=0))
    result = run_pass(PackSparse(), model)
    assert result.changed == 0
    assert model_bytes(result.model) == model_bytes(model)
    assert result.skipped[0].reason == "0% zeros are too few to make it smaller"


def test_small_weights_and_outputs_are_not_worth_a_word() -> None:
    result = run_pass(PackSparse(), one_product(sparse(8, 8)))
    assert (result.changed, result.skipped) == (0, ())


def test_small_weights_share_a_decoder_and_notes_are_left_out() -> None:
    layers = 6
    body = "  ".join(f"h{i + 1} = MatMul (h{i}, w{i})" for i in range(layers))
    text = f"m (float[N,24] h0) => (float[N,24] h{layers}) {{ {body} }}"
    model = model_from_text(text, **{f"w{i}": sparse(24, 24) for i in range(layers)})
    model.graph.node(0).metadata_props["pkg.exporter.stack_trace"] = "x" * 500
    result = run_pass(PackSparse(), model)
    assert result.changed == layers
    assert (op_types(result.model).count("CumSum"), op_types(result.model).count("Split")) == (1, 1)
    assert not any(node.metadata_props for node in result.model.graph)
    feeds = {"h0": RNG.standard_normal((3, 24)).astype(np.float32)}
    assert_same_outputs(model, result.model, feeds, rtol=0, atol=0)


def test_large_weights_are_decoded_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelopt_cli.passes.prune.unpack.MOST_TOGETHER", 5000)
    text = "m (float[N,64] x) => (float[N,64] y) { h = MatMul (x, a)  y = MatMul (h, b) }"
    model = model_from_text(text, a=sparse(64, 64), b=sparse(64, 64))
    result = run_pass(PackSparse(), model)
    assert op_types(result.model).count("CumSum") == 2
    feeds = {"x": RNG.standard_normal((3, 64)).astype(np.float32)}
    assert_same_outputs(model, result.model, feeds, rtol=0, atol=0)
