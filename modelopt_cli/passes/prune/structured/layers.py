"""Weighted sums as matrices over known channels: what absorbs the loss of some."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import constant
from modelopt_cli.passes.prune.linear import LinearLayer, linear_layer
from modelopt_cli.passes.prune.structured.channels import Axis
from modelopt_cli.passes.prune.structured.flow import Product
from modelopt_cli.passes.prune.structured.rules_product import GATES
from modelopt_cli.passes.prune.weights import Weight


@dataclass(frozen=True)
class Consumer:
    """A layer that sums over channels.

    Attributes:
        layer: Its matrix [1, rows, columns] and its inputs.
        channels: The channel behind each column, int64 [columns]; -1 where there is none.
    """

    layer: LinearLayer
    channels: np.ndarray

    @property
    def name(self) -> str:
        """Name of its first output, which no edit of channels changes."""
        return self.layer.node.outputs[0].name or ""


def layer_of(node: ir.Node) -> LinearLayer | str:
    """The linear map of a node, or why there is none."""
    indices = (1, 2) if node.op_type in GATES else (0, 1) if node.op_type in ("MatMul", "Gemm") else (1,)
    found = {id(value): Weight(value, (node,)) for i in indices if (value := _weight(node, i)) is not None}
    if not found:
        return "its weight is not stored as a float tensor"
    return linear_layer(node, list(found.values()))


def consumer_of(product: Product) -> Consumer | str:
    """The layer behind a product, or the reason why it cannot be fitted."""
    layer = layer_of(product.node)
    if isinstance(layer, str):
        return layer
    columns = layer.matrix().shape
    if columns[0] != 1:
        return "its directions or groups cannot be fitted together"
    ids = _ids(product.columns)
    if product.node.op_type in GATES:
        whole = np.full(columns[2], -1)
        start = 0 if product.weight == 1 else columns[2] - len(ids)
        whole[start : start + len(ids)] = ids
        return Consumer(layer, whole)
    return Consumer(layer, np.tile(ids, columns[2] // len(ids)))


def _weight(node: ir.Node, index: int) -> ir.Value | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    array = constant(value)
    if value is None or array is None or array.dtype.kind != "f":
        return None
    return value


def _ids(axis: Axis) -> np.ndarray:
    return np.full(axis.size or 0, -1) if axis.ids is None else axis.ids
