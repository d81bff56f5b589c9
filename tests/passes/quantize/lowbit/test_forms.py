"""DequantizeLinear and MatMulNBits: the same numbers as what is decoded, chosen by target and by rows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.quantize.lowbit import form_times, quantize_weights
from modelopt_cli.passes.quantize.lowbit.quantize_weights import QuantizeWeights
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import ArrayDataset, model_from_text, op_types, run_model, run_pass

RNG = np.random.default_rng(4)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def matmul() -> ir.Model:
    text = "m (float[N,S,64] x) => (float[N,S,96] y) { p = MatMul (x, w)\n y = Add (p, b) }"
    return model_from_text(text, w=normal(64, 96), b=normal(96))


def gemm() -> ir.Model:
    text = "m (float[N,64] x) => (float[N,96] y) { y = Gemm <transB=1> (x, w, b) }"
    return model_from_text(text, w=normal(96, 64), b=normal(96))


def conv() -> ir.Model:
    text = "m (float[N,16,8,8] x) => (float[N,32,6,6] y) { y = Conv <group=2> (x, w) }"
    return model_from_text(text, w=normal(32, 8, 3, 3))


def sample(model: ir.Model, rows: int = 3) -> dict[str, np.ndarray]:
    shape = [dim if isinstance(dim, int) else rows for dim in model.graph.inputs[0].shape or ()]
    return {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}


def noise(model: ir.Model, result: ir.Model) -> float:
    exact, found = (run_model(each, sample(model), optimize=True)["y"] for each in (model, result))
    return float(np.square(exact - found).sum() / np.square(exact).sum())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("make", "form", "op"),
    [
        (matmul, "dequantize-linear", "DequantizeLinear"),
        (gemm, "dequantize-linear", "DequantizeLinear"),
        (conv, "dequantize-linear", "DequantizeLinear"),
        (matmul, "matmul-nbits", "MatMulNBits"),
        (gemm, "matmul-nbits", "MatMulNBits"),
    ],
)
def test_forms_keep_the_meaning(make: Any, form: Any, op: str, bits: int, symmetric: bool) -> None:
    model = make()
    result = run_pass(QuantizeWeights(bits=bits, form=form, symmetric=symmetric, compute="float"), model).model
    if form == "dequantize-linear":
        onnx.checker.check_model(model_bytes(result), full_check=True)
    assert op in op_types(result)
    assert len(model_bytes(result)) < len(model_bytes(model))
    assert noise(model, result) < 6 * 4.0**-bits + 1e-5


def test_the_accuracy_level_is_written() -> None:
    for compute, level in (("int8", 4), ("float", 1)):
        result = run_pass(QuantizeWeights(bits=4, form="matmul-nbits", compute=compute), matmul()).model
        (node,) = (node for node in result.graph if node.op_type == "MatMulNBits")
        assert node.attributes["accuracy_level"].as_int() == level


@pytest.mark.parametrize(
    ("provider", "op"), [("cuda", "MatMulNBits"), ("tensorrt", "DequantizeLinear"), ("openvino", "DequantizeLinear")]
)
def test_auto_follows_the_target(provider: Any, op: str) -> None:
    dialect = "onnxruntime" if provider == "cuda" else "onnx"
    target = Target(provider, "none", dialect)
    assert op in op_types(run_pass(QuantizeWeights(bits=4), matmul(), target=target).model)


def test_on_cpus_products_of_single_rows_read_four_bits() -> None:
    for rows, op in ((1, "MatMulNBits"), (5, "MatMulIntegerToFloat")):
        data = ArrayDataset({"x": np.asarray(RNG.standard_normal((8, rows, 64)), np.float32)})
        assert op in op_types(run_pass(QuantizeWeights(bits=4), matmul(), calibration=data).model)


def test_other_widths_are_decoded() -> None:
    assert "DequantizeLinear" not in op_types(
        run_pass(QuantizeWeights(bits=3, form="dequantize-linear"), matmul()).model
    )


def test_forms_that_a_target_does_not_have_are_refused() -> None:
    with pytest.raises(UsageError, match="onnxruntime's own"):
        run_pass(QuantizeWeights(form="matmul-nbits"), matmul(), target=Target(dialect="onnx"))
    with pytest.raises(UsageError, match="opset 21"):
        run_pass(QuantizeWeights(form="dequantize-linear"), matmul(), target=Target(max_opset=17))


def test_a_scaled_product_is_decoded() -> None:
    text = "m (float[N,64] x) => (float[N,96] y) { y = Gemm <transB=1, alpha=0.5> (x, w, b) }"
    model = model_from_text(text, w=normal(96, 64), b=normal(96))
    result = run_pass(QuantizeWeights(bits=4, form="matmul-nbits", compute="float"), model).model
    assert "MatMulNBits" not in op_types(result)
    assert noise(model, result) < 6 * 4.0**-4


def large(rows: int) -> tuple[ir.Model, ArrayDataset]:
    """A product with enough weights to be timed, and data of so many rows."""
    text = "m (float[N,S,512] x) => (float[N,S,256] y) { y = MatMul (x, w) }"
    data = np.asarray(np.random.default_rng(2).standard_normal((8, rows, 512)), np.float32)
    return model_from_text(text, w=normal(512, 256)), ArrayDataset({"x": data})


def timer(monkeypatch: pytest.MonkeyPatch, low: float, high: float) -> list[list[str]]:
    """What `compare_latency` will say; the operators of what it was given are appended to the list."""
    seen: list[list[str]] = []

    def compare(usual: ir.Model, other: ir.Model, feeds: Any, *, budget_s: float) -> Any:
        assert run_model(usual, feeds)["y"].shape == run_model(other, feeds)["y"].shape == (len(feeds["x"]), 256)
        for each in (usual, other):
            arrays = [
                value.const_value.numpy().tobytes() for value in each.graph.initializers.values() if value.const_value
            ]
            large = [content for content in arrays if len(content) > 512 * 256 // 4]
            assert len(set(large)) == len(large) == len(each.graph.outputs)
        seen.extend([op_types(usual), op_types(other)])
        return SimpleNamespace(ratio=(low + high) / 2, ratio_low=low, ratio_high=high)

    monkeypatch.setattr(form_times, "compare_latency", compare)
    monkeypatch.setattr(quantize_weights, "is_this_machine", lambda target: True)
    return seen


@pytest.mark.parametrize(
    ("rows", "low", "high", "op"),
    [
        (1, 0.5, 0.6, "MatMulIntegerToFloat"),
        (1, 0.5, 1.1, "MatMulNBits"),
        (5, 0.5, 0.6, "MatMulNBits"),
        (5, 0.5, 1.1, "MatMulIntegerToFloat"),
    ],
)
def test_a_clear_measurement_changes_the_form(
    monkeypatch: pytest.MonkeyPatch, rows: int, low: float, high: float, op: str
) -> None:
    seen = timer(monkeypatch, low, high)
    model, data = large(rows)
    result = run_pass(QuantizeWeights(bits=4), model, calibration=data)
    assert op in op_types(result.model)
    assert ["MatMulNBits" in ops for ops in seen] == [rows == 1, rows != 1]
    assert len(result.details["decisions"]) == 1


def test_a_plan_gives_the_same_bytes_and_times_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    timer(monkeypatch, 0.5, 0.6)
    model, data = large(5)
    first = run_pass(QuantizeWeights(bits=4), model, calibration=data)
    assert first.details["plan"] == {"more-rows": "matmul-nbits"}
    seen = timer(monkeypatch, 2.0, 2.1)
    again = run_pass(QuantizeWeights(bits=4, plan=first.details["plan"]), model, calibration=data)
    assert not seen
    assert again.details["plan"] == first.details["plan"]
    assert model_bytes(again.model) == model_bytes(first.model)


def test_as_many_products_are_timed_as_the_model_has(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = timer(monkeypatch, 0.5, 0.6)
    text = "m (float[N,S,512] x) => (float[N,S,256] y, float[N,S,256] z) { y = MatMul (x, w)\n z = MatMul (x, v) }"
    _, data = large(1)
    run_pass(QuantizeWeights(bits=4), model_from_text(text, w=normal(512, 256), v=normal(512, 256)), calibration=data)
    assert [ops.count("MatMulNBits") for ops in seen] == [2, 0]


def test_without_a_budget_the_table_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = timer(monkeypatch, 0.5, 0.6)
    model, data = large(5)
    result = run_pass(QuantizeWeights(bits=4, budget=0), model, calibration=data)
    assert not seen
    assert result.details["plan"] == {"more-rows": "decoded"}


@pytest.mark.parametrize("plan", [{"ops": "decoded"}, {"int8-inputs": "decoded"}, {"one-row": "8"}])
def test_a_plan_of_something_else_is_refused(plan: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="a plan says one-row: decoded or matmul-nbits"):
        run_pass(QuantizeWeights(plan=plan), matmul())
