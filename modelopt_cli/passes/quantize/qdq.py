"""Write the integer part of a graph as QuantizeLinear / DequantizeLinear, where the runtime's matcher looks for them.

Each tensor gets one QuantizeLinear, right after the node that makes it, and one DequantizeLinear that all who may read
integers read; nothing stands between a Conv and its QuantizeLinear (an absorbed Relu or Clip is dropped: the integers
saturate where it did)::

    x -> Conv -> Relu -> y        =>   x -> Q -> DQ -> Conv -> Q -> DQ -> y
                                                   W8 -> DQ /  (bias: int32 -> DQ, scale of x times scale of W)
    x -> HardSwish -> y           =>   xq -> DQ ----------------------> Mul -> Q -> DQ -> y
                                       xq -> Clip(u8) -> DQ (over 6) /
    x -> Mul(a) / Add(b) -> y     =>   xq -> DQ with another scale and zero point -> y
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import add_weight, fresh_name, remove_dead, replace_output
from modelopt_cli.passes.quantize.grids import HARDSWISH_KNEE, hardsigmoid_line
from modelopt_cli.passes.quantize.kinds import Candidate, has_weight
from modelopt_cli.passes.quantize.params import QuantParams
from modelopt_cli.passes.quantize.regions import Regions
from modelopt_cli.passes.quantize.weighted import WeightWriter


class QdqWriter:
    """Rewrites the nodes of ``regions`` in place.

    Args:
        graph: The main graph of the model.
        regions: What runs as integers.
        grids: Scale and zero point of every tensor of it.
        weights: Where weights and biases are quantized.
    """

    def __init__(
        self, graph: ir.Graph, regions: Regions, grids: Mapping[ir.Value, QuantParams], weights: WeightWriter
    ) -> None:
        self._graph = graph
        self._regions = regions
        self._grids = grids
        self._weights = weights
        self._integers: dict[ir.Value, ir.Value] = {}
        self._floats: dict[ir.Value, ir.Value] = {}
        self._numbers: dict[tuple[str, float], ir.Value] = {}

    def write(self) -> int:
        """Insert everything; returns how many nodes became integer."""
        for what in list(self._regions.integer.values()):
            for value in dict.fromkeys(what.activations):
                self._quantize(value)
            self._write(what)
        # Readers of a tensor's integers leave its DequantizeLinear without a reader, and the runtime would run it.
        remove_dead(self._graph, [node for value in self._floats.values() if (node := value.producer()) is not None])
        return len(self._regions.integer)

    def _write(self, what: Candidate) -> None:
        if what.kind == "affine":
            self._finish(what, self._integers[what.activations[0]])
        elif what.kind == "hardsigmoid":
            self._finish(what, self._hardsigmoid(what))
        elif what.kind == "hardswish":
            self._hardswish(what)
        else:
            self._kernel(what)

    def _kernel(self, what: Candidate) -> None:
        """A node with an integer kernel of its own: DQ before it, Q after it."""
        for index, value in enumerate(what.node.inputs):
            if value is not None and value in self._floats:
                what.node.replace_input_with(index, self._floats[value])
        if what.kind == "multiply" and has_weight(what.node):
            self._weights.write(what.node, self._grids[what.activations[0]])
        if what.kind == "multiply" and what.node.op_type != "Conv" and not self._read_as_integer(what.head):
            return  # MatMul and Gemm have kernels that write float: no need to round what nobody reads rounded
        if what.absorbed is not None:
            what.node.outputs[0].shape = what.head.shape
            what.node.outputs[0].type = what.head.type
        self._requantize(what)

    def _requantize(self, what: Candidate) -> None:
        """Q and DQ behind a kernel; whoever read its result reads the DQ."""
        old, grid, made = what.head, self._grids[what.head], what.node.outputs[0]
        self._finish(what, self._insert_after(what.node, "QuantizeLinear", [made, *self._numbers_of(grid)], old, "q"))

    def _finish(self, what: Candidate, integers: ir.Value) -> None:
        """Give the head's readers ``integers`` through a DQ of the head's grid, and drop what it replaces."""
        head = what.head
        anchor = integers.producer()
        assert anchor is not None
        floats = self._insert_after(
            anchor, "DequantizeLinear", [integers, *self._numbers_of(self._grids[head])], head, "dq"
        )
        source = what.node.outputs[0]
        if what.absorbed is not None or what.kind in ("affine", "hardsigmoid", "hardswish"):
            replace_output(head, floats)
        else:
            self._redirect(source, floats, keep=anchor)
        self._integers[floats], self._floats[floats] = integers, floats
        self._integers[head], self._floats[head] = integers, floats
        for node in (what.absorbed, what.node if what.kind in ("affine", "hardsigmoid", "hardswish") else None):
            if node is not None:
                self._graph.remove(node, safe=True)

    def _redirect(self, old: ir.Value, new: ir.Value, keep: ir.Node) -> None:
        """All readers of ``old`` but ``keep`` read ``new``."""
        replace_output(old, new)
        keep.replace_input_with(0, old)

    def _hardsigmoid(self, what: Candidate) -> ir.Value:
        x = what.activations[0]
        alpha, beta = hardsigmoid_line(what.node)
        grid = self._grids[x]
        low, high = _integer(grid, -beta / alpha), _integer(grid, (1 - beta) / alpha)
        return self._clip(what.node, self._integers[x], low, high, grid)

    def _hardswish(self, what: Candidate) -> None:
        """X * clip(x + 3, 0, 6) / 6, in which the clipped factor is x's own integers under another grid."""
        x, node, name = what.activations[0], what.node, what.head
        grid = self._grids[x]
        low, high = _integer(grid, -HARDSWISH_KNEE), _integer(grid, HARDSWISH_KNEE)
        clipped = self._clip(node, self._integers[x], low, high, grid)
        gate = QuantParams(grid.scale / (2 * HARDSWISH_KNEE), low, grid.dtype)
        producer = clipped.producer()
        assert producer is not None
        factor = self._insert_after(producer, "DequantizeLinear", [clipped, *self._numbers_of(gate)], x, "gate")
        product = self._insert_before(node, "Mul", [self._floats[x], factor], name, "product")
        made = product.producer()
        assert made is not None
        integers = self._insert_after(
            made, "QuantizeLinear", [product, *self._numbers_of(self._grids[what.head])], name, "q"
        )
        self._finish(what, integers)

    def _clip(self, before: ir.Node, integers: ir.Value, low: int, high: int, grid: QuantParams) -> ir.Value:
        bounds = [self._number(grid.dtype, low), self._number(grid.dtype, high)]
        return self._insert_before(before, "Clip", [integers, *bounds], before.outputs[0], "clip")

    def _quantize(self, value: ir.Value) -> None:
        """Q and DQ of a tensor that a float node makes; its float readers go on reading the float."""
        if value in self._integers:
            return
        inputs = [value, *self._numbers_of(self._grids[value])]
        producer = value.producer()
        if producer is None:
            integers = self._insert_before(self._graph[0], "QuantizeLinear", inputs, value, "q")
        else:
            integers = self._insert_after(producer, "QuantizeLinear", inputs, value, "q")
        anchor = integers.producer()
        assert anchor is not None
        floats = self._insert_after(anchor, "DequantizeLinear", [integers, *inputs[1:]], value, "dq")
        self._integers[value], self._floats[value] = integers, floats

    def _read_as_integer(self, head: ir.Value) -> bool:
        return any(use.node in self._regions.integer for use in head.uses())

    def _numbers_of(self, grid: QuantParams) -> tuple[ir.Value, ir.Value]:
        return self._number("float32", grid.scale), self._number(grid.dtype, grid.zero_point)

    def _number(self, dtype: str, number: float) -> ir.Value:
        """One scalar initializer per number, shared."""
        key = (dtype, number)
        if key not in self._numbers:
            self._numbers[key] = add_weight(self._graph, "qparam", np.asarray(number, dtype))
        return self._numbers[key]

    def _insert_after(
        self, anchor: ir.Node, op_type: str, inputs: list[ir.Value], like: ir.Value, suffix: str
    ) -> ir.Value:
        node, output = self._make(op_type, inputs, like, suffix)
        self._graph.insert_after(anchor, node)
        return output

    def _insert_before(
        self, anchor: ir.Node, op_type: str, inputs: list[ir.Value], like: ir.Value, suffix: str
    ) -> ir.Value:
        node, output = self._make(op_type, inputs, like, suffix)
        self._graph.insert_before(anchor, node)
        return output

    def _make(self, op_type: str, inputs: list[ir.Value], like: ir.Value, suffix: str) -> tuple[ir.Node, ir.Value]:
        name = f"{like.name}.{suffix}"
        node = ir.node(op_type, inputs, name=fresh_name(self._graph, name))
        output = node.outputs[0]
        output.name = fresh_name(self._graph, f"{name}.out")
        output.shape = like.shape
        dtype = inputs[2].dtype if op_type == "QuantizeLinear" else inputs[0].dtype if op_type == "Clip" else None
        output.type = ir.TensorType(dtype or ir.DataType.FLOAT)
        return node, output


def _integer(grid: QuantParams, number: float) -> int:
    return min(max(grid.zero_point + round(number / grid.scale), grid.least), grid.most)
