"""Int8 products of 16-bit inputs, and outputs that are centred: when, how close, and when not."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.base import PassResult
from modelopt_cli.passes.quantize.lowbit.center import center_outputs
from modelopt_cli.passes.quantize.lowbit.quantize_weights import QuantizeWeights
from modelopt_cli.targets.schemes import scheme_for
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import THIS_MACHINE, ArrayDataset, model_from_text, op_types, run_model, run_pass

ROWS, WIDTH = 24, 64


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) / 8).astype(np.float32)


def network() -> ir.Model:
    text = """m (float[n,64] x) => (float[n,64] y) {
        a = MatMul (x, w) b = Add (a, s) r = Relu (b) y = Gemm (r, v, t) }"""
    arrays = {"w": weights(WIDTH, WIDTH), "v": weights(WIDTH, WIDTH, seed=1)}
    arrays["w"][0] = 0
    return model_from_text(text, **arrays, s=weights(WIDTH, seed=2), t=weights(WIDTH, seed=3))


def samples(outlier: float) -> ArrayDataset:
    """Rows of which the first number is large and counts for nothing: 8 bits for all leave little to the others."""
    x = np.random.default_rng(4).standard_normal((ROWS, WIDTH)).astype(np.float32)
    x[:, 0] = outlier
    return ArrayDataset({"x": x})


def quantized(data: ArrayDataset | None, target: Target | None = None, **options: object) -> PassResult:
    return run_pass(QuantizeWeights(**options), network(), calibration=data, target=target)


def sqnr(model: ir.Model, data: ArrayDataset) -> float:
    x = {"x": np.concatenate([sample["x"] for sample in data])}
    exact, got = (run_model(each, x)["y"] for each in (network(), model))
    return float(10 * np.log10(np.square(exact).sum() / np.square(exact - got).sum()))


@pytest.mark.parametrize("dialect", ["onnxruntime", "onnx"])
def test_the_second_term_takes_what_the_first_leaves(dialect: str) -> None:
    data, target = samples(60.0), Target(dialect=dialect)
    narrow, wide = (quantized(data, target, activations=bits).model for bits in (8, 16))
    assert sqnr(wide, data) > sqnr(narrow, data) + 5
    kernel = "MatMulIntegerToFloat" if dialect == "onnxruntime" else "MatMulInteger"
    assert [op_types(model).count(kernel) for model in (narrow, wide)] == [2, 4]


def test_inputs_of_zeros_make_no_nan() -> None:
    wide = quantized(samples(60.0), activations=16).model
    found = run_model(wide, {"x": np.zeros((2, WIDTH), np.float32)})["y"]
    np.testing.assert_allclose(found, run_model(network(), {"x": np.zeros((2, WIDTH), np.float32)})["y"], atol=0.02)


@pytest.mark.skipif(
    scheme_for(THIS_MACHINE).reduce_range, reason="16 bits are for processors with VNNI, to be heard there"
)
def test_sixteen_bits_where_eight_are_heard_at_the_outputs() -> None:
    assert quantized(samples(60.0)).details["int8_of_16_bit_inputs"] == 2
    assert "int8_of_16_bit_inputs" not in quantized(samples(1.0)).details


@pytest.mark.parametrize("chosen", ["8", "16"])
def test_a_plan_says_how_many_bits_inputs_have(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelopt_cli.passes.quantize.lowbit.quantize_weights.CLOSE_DB", 0 if chosen == "8" else 199)
    data, vnni = samples(60.0), Target(isa="avx512_vnni")  # whatever this machine makes of it
    first = quantized(data, vnni)
    assert first.details["plan"] == {"int8-inputs": chosen}
    assert f"have {chosen} bits: with 8 the outputs are" in first.details["decisions"][0]
    monkeypatch.setattr("modelopt_cli.passes.quantize.lowbit.quantize_weights.OutputJudge", None)  # is not asked
    again = quantized(data, vnni, plan=first.details["plan"])
    assert model_bytes(again.model) == model_bytes(first.model)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (None, {}),  # nothing says what eight bits cost
        (samples(60.0), {"bits": 4}),  # fewer bits of the weight are the larger error
        (samples(60.0), {"target": Target(isa="avx2")}),  # int8 is not twice as fast as float there
    ],
)
def test_eight_bits_elsewhere(data: ArrayDataset | None, options: dict[str, object]) -> None:
    assert "int8_of_16_bit_inputs" not in quantized(data, **options).details


def centred(data: ArrayDataset) -> tuple[ir.Model, ir.Model, list[str]]:
    """A model, one whose last bias is off by 0.05, and what was centred on these samples."""
    exact, other = network(), network()
    array = other.graph.initializers["t"].const_value
    assert array is not None
    other.graph.initializers["t"].const_value = ir.Tensor(array.numpy() + np.float32(0.05), name="t")
    return exact, other, center_outputs(other, exact, data)


def test_a_mean_error_is_given_back_by_the_bias() -> None:
    exact, other, names = centred(samples(1.0))
    assert names == ["y"]
    x = {"x": weights(5, WIDTH, seed=7)}
    np.testing.assert_allclose(run_model(other, x)["y"], run_model(exact, x)["y"], atol=1e-5)


def test_one_sample_says_nothing_of_chance() -> None:
    _, _, names = centred(samples(1.0).take(1))
    assert names == []


def test_outputs_with_positions_and_outputs_that_are_read_are_left() -> None:
    text = "m (float[n,s,64] x) => (float[n,s,64] y) { y = MatMul (x, w) }"
    exact, other = (model_from_text(text, w=weights(WIDTH, WIDTH) + by) for by in (0.0, np.float32(0.1)))
    data = ArrayDataset({"x": weights(6, 3, WIDTH, seed=8)})
    assert center_outputs(other, exact, data) == []
