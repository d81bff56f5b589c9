"""Layers and kernels of a pair, on a model small enough to know them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli import CompressOptions, compress, load_model, open_dataset
from modelopt_cli.format import IDENTICAL_DB
from modelopt_cli.pipeline.kernels import kernel_kind
from modelopt_cli.pipeline.layers import layers_of
from modelopt_cli.progress import Silent
from modelopt_cli.recipe.load import parse_recipe
from modelopt_cli.report.model import RunReport
from modelopt_cli.testing import model_from_text

TEXT = """<ir_version: 8, opset_import: ["": 17]>
g (float[1, 4] x) => (float[1, 3] y)
<float[4, 4] w = {1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 4}, float[4, 3] v = {1,1,1,1,1,1,1,1,1,1,1,1}>
{
  [first] h = MatMul(x, w)
  [act] r = Relu(h)
  [second] y = MatMul(r, v)
}"""


class Two:
    """Two samples."""

    source = "two"
    labels = None

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return iter([{"x": np.array([[1, 2, 3, 4]], np.float32)}, {"x": np.array([[4, -1, 2, 1]], np.float32)}])

    def __len__(self) -> int:
        return 2

    def take(self, count: int) -> Two:
        return self


def test_layers_have_their_zeros_and_the_error_at_their_place() -> None:
    original, result = model_from_text(TEXT), model_from_text(TEXT)
    weight = result.graph.initializers["v"]
    changed = np.ones((4, 3), np.float32)
    changed[0] = 0
    weight.const_value = ir.tensor(changed, name="v")
    first, second = layers_of(original, result, Two(), Silent())
    assert (first.node, first.weights, first.parameters, first.sparsity) == ("first", "float", 16, 0.75)
    assert first.sqnr_db == IDENTICAL_DB
    assert (second.node, second.sparsity) == ("second", 0.25)
    power = sum(
        (sum(max(a * b, 0) for a, b in zip(x, (1, 2, 3, 4), strict=True))) ** 2 for x in ((1, 2, 3, 4), (4, -1, 2, 1))
    )
    assert second.sqnr_db == pytest.approx(10 * np.log10(power / (1**2 + 4**2)), abs=1e-3)


def test_without_data_there_are_no_errors() -> None:
    model = model_from_text(TEXT)
    assert [layer.sqnr_db for layer in layers_of(model, model, None, Silent())] == [None, None]


def test_a_tensor_on_another_scale_is_not_called_noise() -> None:
    result = model_from_text(TEXT)
    for name, factor in (("w", 2.0), ("v", 0.5)):
        value = result.graph.initializers[name]
        assert value.const_value is not None
        value.const_value = ir.tensor((value.const_value.numpy() * factor).astype(np.float32), name=name)
    first, second = layers_of(model_from_text(TEXT), result, Two(), Silent())
    assert first.sqnr_db is None
    assert second.sqnr_db == IDENTICAL_DB


@pytest.fixture(scope="module")
def report(samples: Path) -> RunReport:
    data = open_dataset(samples / "digits_resnet" / "calib.npz")
    text = "{version: 1, name: s, steps: [{pass: fuse}, {pass: quantize-static, with: {budget: 0, samples: 16}}]}"
    options = CompressOptions(calibration=data, budget_s=0.1, inside=True)
    return compress(load_model(samples / "digits_resnet" / "model.onnx"), parse_recipe(text, "text"), options).report


def test_kernels_say_what_ran_and_in_what_order(report: RunReport) -> None:
    kernels = report.kernels
    assert kernels is not None
    assert kernels.runs == 10
    assert {each.kind for each in kernels.graph} >= {"integer", "conversion"}
    assert all(source < row for row, each in enumerate(kernels.graph) for source in each.reads)
    assert sum(bool(each.reads) for each in kernels.graph) >= len(kernels.graph) - 2
    counts = {each.op_type: each.result_count for each in kernels.types if each.result_count}
    assert counts == {op: sum(each.op_type == op for each in kernels.graph) for op in counts}
    assert sum(each.original_ms for each in kernels.types) > 0
    assert any(part.ms > 0 and part.baseline_ms > 0 for part in kernels.sections)


def test_layers_of_an_int8_model_are_int8(report: RunReport) -> None:
    assert [layer.op_type for layer in report.layers] == ["Conv"] * 9 + ["Gemm"]
    integer = [layer for layer in report.layers if layer.weights == "int8"]
    assert len(integer) >= 6
    assert all(layer.sqnr_db is not None and 15 < layer.sqnr_db < 80 for layer in integer)


def test_nothing_is_looked_at_that_nobody_asked_for(samples: Path) -> None:
    text = "{version: 1, name: s, steps: [{pass: fuse}]}"
    done = compress(
        load_model(samples / "digits_resnet" / "model.onnx"), parse_recipe(text, "text"), CompressOptions(budget_s=0.1)
    )
    assert done.report.layers == ()
    assert done.report.kernels is None


@pytest.mark.parametrize(
    ("op_type", "kind"),
    [
        ("QLinearConv", "integer"),
        ("MatMulIntegerToFloat", "integer"),
        ("QuantizeLinear", "conversion"),
        ("Conv", "float"),
    ],
)
def test_kinds_of_kernels(op_type: str, kind: str) -> None:
    assert kernel_kind(op_type) == kind
