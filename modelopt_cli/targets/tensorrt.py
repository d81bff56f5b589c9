"""TensorRT's rules for models with explicit Q/DQ, checked without TensorRT.

From "Working with Quantized Types" of the TensorRT documentation
(https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html). What breaks one of
them is refused by the parser, or falls silently back to float.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import all_nodes, constant

_TYPES = frozenset(
    {ir.DataType.INT8, ir.DataType.INT4, ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT4E2M1}  # explicit quantization
)
_WEIGHT_AXIS = {"Conv": 0, "ConvTranspose": 1}
_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class Violation:
    """One node that breaks a rule, in words."""

    node: str
    rule: str


def tensorrt_violations(model: ir.Model) -> list[Violation]:
    """Everything that TensorRT would refuse or run in float, in the order of the graph."""
    return [Violation(node.name or node.op_type, rule) for node in all_nodes(model) for rule in _broken(node)]


def _broken(node: ir.Node) -> Iterator[str]:
    op = node.op_type
    if op == "DynamicQuantizeLinear" or op.startswith("DynamicQuantize"):
        yield "ranges found at run time: TensorRT needs constant scales"
    elif op.startswith("QLinear") or op in ("ConvInteger", "MatMulInteger", "QGemm", "MatMulIntegerToFloat"):
        yield f"{op} is no operator of TensorRT: it takes QuantizeLinear and DequantizeLinear"
    elif op in ("QuantizeLinear", "DequantizeLinear"):
        yield from _broken_pair(node)
    elif node.domain not in _STANDARD:
        yield f"{node.domain}.{op} needs a plug-in"


def _broken_pair(node: ir.Node) -> Iterator[str]:
    scale, zero = constant(node.inputs[1]), constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if scale is None:
        yield "its scale is computed: TensorRT needs a constant"
    elif not (np.isfinite(scale).all() and (scale > 0).all()):
        yield "its scale is not a positive number"
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        if zero is None:
            yield "its zero point is computed"
        elif np.any(zero.astype(np.float32) != 0):
            yield "its zero point is not 0: TensorRT is symmetric only"
    quantized = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
    kind = _type(node, quantized)
    if kind == ir.DataType.INT32:
        yield "an int32 bias: TensorRT wants biases in float"
    elif kind is not None and kind not in _TYPES:
        yield f"{kind.name.lower()}: TensorRT takes int8"
    yield from _misplaced(node, per_channel=scale is not None and scale.size > 1)


def _misplaced(node: ir.Node, *, per_channel: bool) -> Iterator[str]:
    source = node.inputs[0]
    weight = constant(source) is not None
    producer = None if source is None else source.producer()
    if node.op_type == "QuantizeLinear":
        if any(reader.op_type != "DequantizeLinear" for reader, _ in node.outputs[0].uses()):
            yield "what it gives is read by others than DequantizeLinear"
    else:
        weight = weight or (producer is not None and constant(producer.inputs[0]) is not None)
        if not weight and (producer is None or producer.op_type != "QuantizeLinear"):
            yield "integers that no QuantizeLinear made"
    if per_channel and not weight:
        yield "a scale for each channel of an activation: only weights have that"
    if per_channel and node.op_type == "DequantizeLinear":
        axis = node.attributes.get_int("axis", 1)
        for reader, _ in node.outputs[0].uses():
            wanted = _WEIGHT_AXIS.get(reader.op_type)
            if wanted is not None and axis != wanted:
                yield f"scales along axis {axis}: {reader.op_type} wants them along {wanted}"


def _type(node: ir.Node, quantized: ir.Value | None) -> ir.DataType | None:
    """Of the integers: from the zero point, the tensor itself, or the default of the operator."""
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    for value in (zero, quantized):
        if value is not None:
            if value.const_value is not None:
                return value.const_value.dtype
            if value.dtype is not None:
                return value.dtype
    return ir.DataType.UINT8 if node.op_type == "QuantizeLinear" and zero is None else None
