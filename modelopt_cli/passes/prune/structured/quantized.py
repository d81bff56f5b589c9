"""Weights that are stored as integers: what a layer behind DequantizeLinear multiplies by."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import constant


def stored_weight(value: ir.Value | None) -> np.ndarray | None:
    """The numbers of a weight: a constant, or one that DequantizeLinear reads, ``scale * (integers - zero point)``.

    One that is quantized in the graph (QuantizeLinear and DequantizeLinear behind a float constant) counts as it is
    stored. None for anything else that the graph computes, and for scales by block.
    """
    array = constant(value)
    if array is not None:
        return array
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "DequantizeLinear" or node.domain not in ("", "ai.onnx"):
        return None
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    if before is not None and before.op_type == "QuantizeLinear":
        return constant(before.inputs[0])
    integers, scale = constant(node.inputs[0]), constant(node.inputs[1])
    if integers is None or scale is None:
        return None
    if node.attributes.get_int("block_size", 0):
        return None
    zero = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    axis = int(node.attributes.get_int("axis", 1)) % max(integers.ndim, 1)
    shifted = integers.astype(np.float32)
    if zero is not None:
        shifted = shifted - _along(zero.astype(np.float32), axis, integers.ndim)
    found: np.ndarray = shifted * _along(scale.astype(np.float32), axis, integers.ndim)
    return found


def _along(parameters: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """One number for all, or one for each position of an axis, as what broadcasts to the tensor."""
    if parameters.size == 1:
        return parameters.reshape(())
    return parameters.reshape([-1 if place == axis else 1 for place in range(rank)])
