"""What a node would be in integers: which of its inputs are activations, which are weights, and why it cannot be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import constant, only_reader, scalar
from modelopt_cli.passes.quantize.shapes import Shapes
from modelopt_cli.profiling.macs import node_macs
from modelopt_cli.targets.schemes import Scheme

Kind = Literal["multiply", "pointwise", "pool", "concat", "move", "affine", "hardswish", "hardsigmoid"]

_KINDS: dict[str, Kind] = {
    "Conv": "multiply",
    "Gemm": "multiply",
    "MatMul": "multiply",
    "Add": "pointwise",
    "Mul": "pointwise",
    "Sigmoid": "pointwise",
    "LeakyRelu": "pointwise",
    "HardSwish": "hardswish",
    "HardSigmoid": "hardsigmoid",
    "GlobalAveragePool": "pool",
    "AveragePool": "pool",
    "Concat": "concat",
}
_MOVES = ("MaxPool", "Resize", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather", "Expand")
_KINDS |= dict.fromkeys(_MOVES, "move")


@dataclass(frozen=True)
class Candidate:
    """A node as it would be in integers.

    Attributes:
        node: The node.
        kind: ``multiply`` has weights; ``pointwise``, ``pool`` and ``concat`` have kernels of their own; ``move`` keeps
            its input's scale; ``affine`` (times or plus one number) is nothing but another scale and zero point.
        activations: The inputs that are quantized at run time.
        absorbed: The Relu or Clip after it that saturation does for free, if any.
        macs: Multiply-accumulates in one run.
    """

    node: ir.Node
    kind: Kind
    activations: tuple[ir.Value, ...]
    absorbed: ir.Node | None = None
    macs: int = 0

    @property
    def head(self) -> ir.Value:
        """The tensor whose range counts: after the absorbed activation."""
        return (self.absorbed or self.node).outputs[0]


def candidate(node: ir.Node, scheme: Scheme, shapes: Shapes) -> Candidate | str | None:
    """The node as integers, a reason why it cannot be, or None when nobody would expect it to be."""
    kind = _KINDS.get(node.op_type)
    if node.domain not in ("", "ai.onnx") or kind is None or len(node.outputs) != 1 or not _is_float(node.outputs[0]):
        return None
    if shapes.not_float.intersection(
        str(value.name) for value in (*node.outputs, *node.inputs[:1]) if value is not None
    ):
        return None  # arithmetic on shapes and the like
    if node.op_type not in scheme.integer_ops:
        return f"the target has no integer {node.op_type}"
    found = _OPERANDS.get(node.op_type, _activations)(node)
    if isinstance(found, str):
        return found
    if scheme.symmetric and kind in ("hardswish", "hardsigmoid"):
        return "needs a zero point"
    if kind == "pointwise" and len(found) == 1 and len(node.inputs) == 2:
        return _affine(node, found[0], scheme)
    absorbed = _absorbed(node, scheme) if kind in ("multiply", "pointwise", "pool") else None
    return Candidate(node, kind, found, absorbed, _macs(node, shapes) if kind == "multiply" else 0)


def affine_of(node: ir.Node) -> tuple[float, float]:
    """Factor and offset of an ``affine`` candidate."""
    number = scalar(node.inputs[1])
    number = scalar(node.inputs[0]) if number is None else number
    assert number is not None
    return (number, 0.0) if node.op_type == "Mul" else (1.0, number)


def weight_axis(node: ir.Node) -> int | None:
    """The axis of the weight that counts output channels; None when it has none that a kernel takes."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    weight = node.inputs[1]
    array = constant(weight)
    return 1 if array is not None and array.ndim == 2 else None


def has_weight(node: ir.Node) -> bool:
    """Whether the second operand is constant (MatMul of two activations has none)."""
    return constant(node.inputs[1]) is not None


def _activations(node: ir.Node) -> tuple[ir.Value, ...] | str:
    """The computed float inputs; constants that are not numbers have no cheap place in integers."""
    found = []
    for value in node.inputs[: 1 if _KINDS[node.op_type] == "move" else None]:
        if value is None:
            continue
        array = constant(value)
        if array is None:
            if not _is_float(value):
                return "its input is not float"
            found.append(value)
        elif array.size != 1 or node.op_type == "Concat":
            return "has a constant operand that is not one number"
    return tuple(found) if found else "has no computed input"


def _conv(node: ir.Node) -> tuple[ir.Value, ...] | str:
    return _weighted(node, ranks=(3, 4, 5))


def _gemm(node: ir.Node) -> tuple[ir.Value, ...] | str:
    attributes = node.attributes
    plain = attributes.get_float("alpha", 1.0) == 1 == attributes.get_float("beta", 1.0)
    if not plain or attributes.get_int("transA", 0) != 0:
        return "scales or transposes its operands"
    return _weighted(node, ranks=(2,))


def _matmul(node: ir.Node) -> tuple[ir.Value, ...] | str:
    if constant(node.inputs[1]) is None:
        return "multiplies two activations"
    return _weighted(node, ranks=(2,))


def _weighted(node: ir.Node, ranks: tuple[int, ...]) -> tuple[ir.Value, ...] | str:
    first, weight, bias = node.inputs[0], constant(node.inputs[1]), node.inputs[2] if len(node.inputs) > 2 else None
    if first is None or constant(first) is not None or not _is_float(first):
        return "its input is not a computed float tensor"
    if weight is None or weight.dtype != np.float32:
        return "its weight is not a float32 constant"
    if weight.ndim not in ranks:
        return f"its weight has rank {weight.ndim}"
    if not np.isfinite(weight).all():
        return "its weight holds NaN or Inf"
    if bias is not None:
        array, axis = constant(bias), weight_axis(node)
        if array is None or axis is None or array.size != weight.shape[axis]:
            return "its bias is not one constant per output"
    return (first,)


_OPERANDS = {"Conv": _conv, "Gemm": _gemm, "MatMul": _matmul}


def _affine(node: ir.Node, activation: ir.Value, scheme: Scheme) -> Candidate | str:
    factor, _ = affine_of(node)
    if factor <= 0:
        return "multiplies by a number that is not positive"
    if node.op_type == "Add" and scheme.symmetric:
        return "needs a zero point"
    producer = activation.producer()
    if node.op_type == "Add" and producer is not None and producer.op_type == "HardSigmoid":
        return "its input's integers are those of the HardSigmoid's input, which cannot be widened to hold the sum's 0"
    return Candidate(node, "affine", (activation,))


def _absorbed(node: ir.Node, scheme: Scheme) -> ir.Node | None:
    """The Relu or Clip that reads this node alone, when the integer range ends where it does."""
    reader = only_reader(node.outputs[0])
    if reader is None or scheme.symmetric:
        return None
    if reader.op_type == "Relu":
        return reader
    if reader.op_type != "Clip":
        return None
    low, high = clip_bounds(reader)
    return reader if low is not None and high is not None and low <= 0 <= high else None


def clip_bounds(node: ir.Node) -> tuple[float | None, float | None]:
    """Lower and upper bound of a Clip; infinite where left out, None where computed."""
    bounds: list[float | None] = []
    for index, open_end in ((1, -math.inf), (2, math.inf)):
        value = node.inputs[index] if len(node.inputs) > index else None
        bounds.append(open_end if value is None else scalar(value))
    return bounds[0], bounds[1]


def _macs(node: ir.Node, shapes: Shapes) -> int:
    inputs = [shapes[str(v.name)] for v in node.inputs if v is not None]
    return node_macs(node.op_type, inputs, [shapes[str(node.outputs[0].name)]])


def _is_float(value: ir.Value) -> bool:
    return value.dtype is None or value.dtype == ir.DataType.FLOAT
