"""What an added number loses as a zero point is given back by the biases behind it."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.passes.quantize import builder as builder_module
from modelopt_cli.passes.quantize.builder import Builder
from modelopt_cli.passes.quantize.kinds import Candidate
from modelopt_cli.passes.quantize.offsets import Missing, missing_offsets
from modelopt_cli.passes.quantize.params import QuantParams
from modelopt_cli.passes.quantize.plan import Plan, default_plan
from modelopt_cli.passes.quantize.regions import Regions
from modelopt_cli.passes.quantize.shapes import observed_shapes
from modelopt_cli.progress import Silent
from modelopt_cli.targets.schemes import scheme_for
from modelopt_cli.testing import THIS_MACHINE, ArrayDataset, model_from_text, run_model

RNG = np.random.default_rng(0)
SIZE = 9


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        "pads = [1, 1, 1, 1]",
        "pads = [0, 2, 1, 0]",
        "pads = [2, 2, 2, 2], dilations = [2, 2]",
        "strides = [2, 3], pads = [1, 1, 1, 1]",
        'auto_pad = "SAME_UPPER", strides = [2, 2]',
        'auto_pad = "SAME_LOWER", strides = [2, 2]',
        'auto_pad = "VALID"',
        "group = 2, pads = [1, 1, 1, 1]",
    ],
)
def test_an_offset_moves_the_mean_of_each_output_by_what_is_given_back(attributes: str) -> None:
    groups = 2 if "group" in attributes else 1
    weight = RNG.standard_normal((4, 2 // groups, 3, 3)).astype(np.float32)
    text = f"net (float[1,2,{SIZE},{SIZE}] x) => (float[1,4,h,w] y) {{ y = Conv <{attributes}> (x, w) }}"
    model = model_from_text(text.replace("<>", ""), w=weight)
    x = RNG.standard_normal((1, 2, SIZE, SIZE)).astype(np.float32)
    node, shapes = model.graph.node(0), observed_shapes(model, {"x": x}) | {"x": x.shape}
    grids = {value: QuantParams(0.1, 100, "uint8") for value in (*node.inputs[:1], *node.outputs)}
    added = _added(node, grids)
    found = missing_offsets(added, grids, shapes)[node]
    assert found.offset == pytest.approx(0.03)
    before, after = (run_model(model, {"x": values})["y"] for values in (x, x + np.float32(0.03)))
    np.testing.assert_allclose(found.shift(node, weight), (after - before).mean(axis=(0, 2, 3)), atol=1e-6)


def _added(node: ir.Node, grids: dict[ir.Value, QuantParams]) -> Regions:
    """A product behind ``x = z + 0.03``, which is a third of a step and so none."""
    number = ir.Value(name="number", const_value=ir.Tensor(np.float32(0.03)))
    z, x = ir.Value(name="z"), node.inputs[0]
    assert x is not None
    grids[z] = grids[x]
    total = ir.node("Add", [z, number])
    add = Candidate(total, "affine", (z,))
    moved = ir.node("Transpose", [total.outputs[0]])
    move = Candidate(moved, "move", (total.outputs[0],))
    grids |= {total.outputs[0]: grids[x], moved.outputs[0]: grids[x]}
    product = Candidate(node, "multiply", (moved.outputs[0],))
    moved.outputs[0].name = "x"  # its shape is that of the product's input
    return Regions({total: add, moved: move, node: product}, ())


def test_a_product_without_positions_takes_all_of_it() -> None:
    weight = RNG.standard_normal((6, 4)).astype(np.float32)
    node = ir.node("Gemm", [ir.Value(name="x"), ir.Value(name="w")], {"transB": 0})
    np.testing.assert_allclose(Missing(0.5, np.ones(())).shift(node, weight), weight.sum(axis=0) / 2, rtol=1e-5)


CHAIN = """net (float[1,8,16,16] x) => (float[1,8,16,16] y) {
    a = Conv (x, w1) b = Add (a, b1) c = Conv <pads = [1, 1, 1, 1]> (b, w2) d = Add (c, b2)
    y = Conv <pads = [1, 1, 1, 1]> (d, w3) }"""


def test_a_chain_of_added_numbers_keeps_its_mean() -> None:
    """Of weights that all have one sign, as the offset's share of the error is largest there."""
    weights = {name: np.abs(RNG.standard_normal((8, 8, 3, 3))).astype(np.float32) / 40 for name in ("w2", "w3")}
    weights["w1"] = RNG.standard_normal((8, 8, 1, 1)).astype(np.float32)
    x = RNG.standard_normal((8, 8, 16, 16)).astype(np.float32)
    step = 0.04  # of the sums, about
    model = model_from_text(CHAIN, **weights, b1=np.float32([1.4 * step]), b2=np.float32([0.45 * step]))
    made = Builder(model, scheme_for(THIS_MACHINE), ArrayDataset({"x": x}), progress=Silent())
    plan = Plan(default_plan(made.scheme).ops, min_macs=0)
    assert sum(what.kind == "affine" for what in made.regions(plan).integer.values()) == 2
    exact = np.concatenate([run_model(model, {"x": row[None]})["y"] for row in x])

    def bias() -> float:
        built = made.build(plan, final=True).model
        got = np.concatenate([run_model(built, {"x": row[None]})["y"] for row in x])
        return float(np.abs((got - exact).mean(axis=(0, 2, 3))).mean())

    with patch.object(builder_module, "missing_offsets", lambda *_: {}):
        before = bias()
    assert bias() < before / 2
