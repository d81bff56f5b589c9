"""Weighted sums as matrices over known channels: what absorbs the loss of some."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import add_weight, constant
from modelopt_cli.passes.prune.linear import LinearLayer, linear_layer
from modelopt_cli.passes.prune.states import GATES
from modelopt_cli.passes.prune.structured.channels import Axis
from modelopt_cli.passes.prune.structured.flow import Product
from modelopt_cli.passes.prune.structured.quantized import stored_weight
from modelopt_cli.passes.prune.weights import Weight


@dataclass(frozen=True)
class PlainLayer:
    """A weighted sum that is not fitted again: what leaves it is missed, and chosen by its weights alone.

    Attributes:
        node: GRU, ConvTranspose, a Conv of several groups, a layer whose weight others read too or is stored as
            integers behind DequantizeLinear.
        index: Input that is the weight.
        place: Axis of the weight that is summed over.
    """

    node: ir.Node
    index: int
    place: int

    bias: None = None
    inputs: tuple[str, ...] = ()

    def matrix(self) -> np.ndarray:
        """The weight as [1, rows, columns]."""
        moved = np.moveaxis(self._array(), self.place, -1)
        return moved.reshape(1, -1, moved.shape[-1]).astype(np.float32)

    def replace(self, matrix: np.ndarray) -> None:
        """Put a matrix like that in its place; a quantized weight becomes a float one, for this node alone."""
        old, value, graph = self._array(), self.node.inputs[self.index], self.node.graph
        moved = matrix.reshape(np.moveaxis(old, self.place, -1).shape)
        array = np.moveaxis(moved, -1, self.place).astype(old.dtype)
        assert value is not None
        if constant(value) is not None:
            Weight(value, (self.node,)).replace(array)
            return
        assert isinstance(graph, ir.Graph)
        self.node.replace_input_with(self.index, add_weight(graph, "weight", array))

    def _array(self) -> np.ndarray:
        array = stored_weight(self.node.inputs[self.index])
        assert array is not None
        return array


@dataclass(frozen=True)
class Consumer:
    """A layer that sums over channels.

    Attributes:
        layer: Its matrix [1, rows, columns] and its inputs.
        channels: The channel behind each column, int64 [columns]; -1 where there is none.
    """

    layer: LinearLayer | PlainLayer
    channels: np.ndarray

    @property
    def name(self) -> str:
        """Name of its first output, which no edit of channels changes."""
        return self.layer.node.outputs[0].name or ""

    @property
    def key(self) -> tuple[str, int]:
        """Equal for two that read through the same matrix."""
        return self.name, self.layer.index if isinstance(self.layer, PlainLayer) else -1

    def layer_in(self, node: ir.Node) -> LinearLayer | PlainLayer:
        """The layer of the same node in a clone of the model."""
        if isinstance(self.layer, PlainLayer):
            return PlainLayer(node, self.layer.index, self.layer.place)
        found = layer_of(node)
        assert not isinstance(found, str)
        return found


def layer_of(node: ir.Node) -> LinearLayer | str:
    """The linear map of a node, or why there is none."""
    indices = (1, 2) if node.op_type in GATES else (0, 1) if node.op_type in ("MatMul", "Gemm") else (1,)
    found = {id(value): Weight(value, (node,)) for i in indices if (value := _weight(node, i)) is not None}
    if not found:
        return "its weight is not stored as a float tensor"
    return linear_layer(node, list(found.values()))


def consumer_of(product: Product) -> Consumer:
    """The layer behind a product, as one that can be fitted again where there is such."""
    layer, ids = layer_of(product.node), _ids(product.columns)
    shape = (0, 0, 0) if isinstance(layer, str) else layer.matrix().shape
    if isinstance(layer, str) or shape[0] != 1:  # directions or groups cannot be fitted together
        return Consumer(PlainLayer(product.node, product.weight, column_place(product.node, product.weight)), ids)
    if product.node.op_type in GATES:
        whole = np.full(shape[2], -1)
        start = 0 if product.weight == 1 else shape[2] - len(ids)
        whole[start : start + len(ids)] = ids
        return Consumer(layer, whole)
    return Consumer(layer, np.tile(ids, shape[2] // len(ids)))


def column_place(node: ir.Node, index: int) -> int:
    """Which axis of a weight is summed over."""
    if node.op_type in GATES:
        return 2
    if node.op_type == "Gemm":
        return int(bool(node.attributes.get_int("transB", 0)) == (index == 1))
    return {"Conv": 1, "ConvTranspose": 0, "MatMul": 1 - index}[node.op_type]


def _weight(node: ir.Node, index: int) -> ir.Value | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    array = constant(value)
    if value is None or array is None or array.dtype.kind != "f":
        return None
    return value


def _ids(axis: Axis) -> np.ndarray:
    return np.full(axis.size or 0, -1) if axis.ids is None else axis.ids
