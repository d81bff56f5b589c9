"""Weights that float operators read, stored as int8: a quarter of the bytes at no latency.

``W -> Cast(int8 to float) -> Mul(scale)`` is constant-folded when a session loads, so that the operator runs on a plain
float weight; DequantizeLinear would be kept for fusion and run at every inference.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import add_weight, constant, fresh_name
from modelopt_cli.passes.quantize.weights import QuantizedWeight, channel_shape, quantize_weight

MIN_ELEMENTS = 1024  # below, the two nodes and the scales take as much of the file as the weight gives back
# Operator -> index of the weight, and the axis of its output channels.
_WEIGHTS = {"Conv": (1, 0), "ConvTranspose": (1, 1), "Gemm": (1, None), "MatMul": (1, -1)}

Rounder = Callable[[ir.Node, np.ndarray, int | None], tuple[QuantizedWeight, np.ndarray | None] | None]
"""(node, its weight, channel axis) -> integers and what to add to the bias for them; None for the nearest step."""


def store_weights_as_int8(graph: ir.Graph, rounder: Rounder | None = None) -> list[str]:
    """Store every float32 weight of Conv, ConvTranspose, Gemm and MatMul as int8; returns their names.

    Args:
        graph: Edited in place.
        rounder: Knows how some weights are better rounded than to the nearest step.
    """
    done: dict[ir.Value, ir.Value] = {}
    for node in list(graph):
        if node.op_type not in _WEIGHTS or node.domain not in ("", "ai.onnx"):
            continue
        index, axis = _WEIGHTS[node.op_type]
        value = node.inputs[index]
        array = constant(value)
        if value is None or array is None or array.dtype != np.float32 or array.size < MIN_ELEMENTS:
            continue
        if not np.isfinite(array).all():
            continue
        if node.op_type == "Gemm":
            axis = 0 if node.attributes.get_int("transB", 0) else 1
        if value not in done:
            known = rounder(node, array, axis) if rounder is not None and len(value.uses()) == 1 else None
            rounded, shift = known or (quantize_weight(array, axis=axis), None)
            done[value] = _stored(graph, node, value, rounded)
            if shift is not None:
                _add_to_bias(graph, node, shift)
        node.replace_input_with(index, done[value])
    return [value.name or "" for value in done]


def _add_to_bias(graph: ir.Graph, node: ir.Node, shift: np.ndarray) -> None:
    """A float bias that makes up for the rounding; a computed one and that of a MatMul stay as they are."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    array = constant(bias)
    if node.op_type == "MatMul" or (bias is not None and (array is None or array.size != shift.size)):
        return
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    sum_ = shift if array is None else array.reshape(-1) + shift
    node.replace_input_with(2, add_weight(graph, "bias.shifted", np.asarray(sum_, np.float32)))


def _stored(graph: ir.Graph, before: ir.Node, value: ir.Value, weight: QuantizedWeight) -> ir.Value:
    stem = value.name or "weight"
    shape = channel_shape(weight.values.ndim, weight.axis)
    integers = add_weight(graph, f"{stem}.int8", weight.values)
    scale = add_weight(graph, f"{stem}.step", weight.scale.reshape(shape))
    cast = ir.node("Cast", [integers], {"to": int(ir.DataType.FLOAT)}, name=fresh_name(graph, f"{stem}.cast"))
    product = ir.node("Mul", [cast.outputs[0], scale], name=fresh_name(graph, f"{stem}.product"))
    for node in (cast, product):
        node.outputs[0].name = fresh_name(graph, f"{node.name}.out")
        node.outputs[0].shape = ir.Shape(weight.values.shape)
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    graph.insert_before(before, [cast, product])
    return product.outputs[0]
