"""Channels that one factor each may scale without a change of the outputs: which tensors share them, and which weights.

    Conv -> Relu -> Conv          one set: rows of the first weight, columns of the second
    Conv -> Relu -> depthwise     likewise; the depthwise Conv begins a set of its own
    Conv, Conv -> Add -> Conv     one set: both sums and what they make

A set ends at weights on both sides; what else touches it (an output of the graph, an operator that mixes channels or
bends numbers elsewhere than at zero) refuses it as a whole. That goes for HardSwish, and for the Clip of Relu6 too: its
upper bound would have to differ by channel, and no integer kernel saturates at more than one number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import constant

_KEEP = ("Relu", "LeakyRelu", "Identity", "MaxPool", "AveragePool", "GlobalAveragePool")
_GATES = ("Sigmoid", "HardSigmoid")
CHANNEL_AXIS = 1  # of activations


@dataclass
class ChannelSet:
    """Tensors whose channels carry the same factors.

    Attributes:
        values: The tensors, in graph order.
        makers: Conv and Gemm whose output channels they are.
        readers: Conv and Gemm whose input channels they are.
        refusal: Why the set is left alone, or None.
    """

    values: list[ir.Value] = field(default_factory=list)
    makers: list[ir.Node] = field(default_factory=list)
    readers: list[ir.Node] = field(default_factory=list)
    refusal: str | None = None

    @property
    def channels(self) -> int:
        """How many there are."""
        weight = constant(self.makers[0].inputs[1])
        assert weight is not None
        return int(weight.shape[output_axis(self.makers[0])])


def channel_sets(graph: ir.Graph) -> list[ChannelSet]:
    """All sets of a graph that Conv or Gemm make and read, and those with a ``refusal`` that they make or read."""
    joined = _Joined()
    for node in graph:
        _visit(node, joined)
    for value in (*graph.inputs, *graph.outputs):
        joined.set_of(value).refusal = "is an input or output of the graph"
    touched = [each for each in joined.sets() if each.makers or each.readers]
    for each in touched:
        each.refusal = each.refusal or _refusal(each, graph)
    return [each for each in touched if each.refusal is not None or (each.makers and each.readers)]


def output_axis(node: ir.Node) -> int:
    """The axis of a weight that counts output channels."""
    return 1 if node.op_type == "Gemm" and node.attributes.get_int("transB", 0) != 1 else 0


class _Joined:
    """Sets that grow together (union-find on tensors)."""

    def __init__(self) -> None:
        self._of: dict[ir.Value, ChannelSet] = {}

    def set_of(self, value: ir.Value) -> ChannelSet:
        if value not in self._of:
            self._of[value] = ChannelSet([value])
        return self._of[value]

    def join(self, one: ir.Value, other: ir.Value) -> ChannelSet:
        kept, gone = self.set_of(one), self.set_of(other)
        if kept is not gone:
            kept.values += gone.values
            kept.makers += gone.makers
            kept.readers += gone.readers
            kept.refusal = kept.refusal or gone.refusal
            self._of |= dict.fromkeys(gone.values, kept)
        return kept

    def sets(self) -> Iterator[ChannelSet]:
        return iter({id(each): each for each in self._of.values()}.values())


def _visit(node: ir.Node, joined: _Joined) -> None:
    kind, computed = node.op_type, [v for v in node.inputs if v is not None and constant(v) is None]
    if _has_plain_weight(node):
        joined.set_of(computed[0]).readers.append(node)
        joined.set_of(node.outputs[0]).makers.append(node)
    elif kind in _KEEP and len(node.outputs) == 1:
        joined.join(computed[0], node.outputs[0])
    elif kind == "Add" and len(computed) == 2 and computed[0].shape is not None and _same_shape(*computed):
        joined.join(joined.join(computed[0], computed[1]).values[0], node.outputs[0])
    elif kind == "Mul" and (gated := _gated(node)) is not None:
        joined.join(gated[0], node.outputs[0])
        joined.set_of(gated[1]).refusal = "is a gate"
    elif kind in ("Flatten", "Reshape") and _is_flat(node):
        joined.join(computed[0], node.outputs[0])
    else:
        for value in (*computed, *node.outputs):
            joined.set_of(value).refusal = f"{kind} does not pass factors on"


def _has_plain_weight(node: ir.Node) -> bool:
    """Conv, or Gemm without factors, whose weight and bias are constants of its own."""
    weight, bias = (node.inputs[i] if len(node.inputs) > i else None for i in (1, 2))
    array = constant(weight)
    if node.op_type not in ("Conv", "Gemm") or node.domain not in ("", "ai.onnx") or array is None or weight is None:
        return False
    if constant(node.inputs[0]) is not None or len(weight.uses()) > 1 or array.dtype != np.float32:
        return False
    attributes = node.attributes
    if node.op_type == "Gemm" and (
        attributes.get_float("alpha", 1.0) != 1
        or attributes.get_float("beta", 1.0) != 1
        or attributes.get_int("transA", 0) != 0
    ):
        return False
    numbers = constant(bias)
    return bias is None or (numbers is not None and numbers.size == array.shape[output_axis(node)])


def _same_shape(one: ir.Value, other: ir.Value) -> bool:
    """Whether neither is broadcast along the channels."""
    first, second = one.shape, other.shape
    return first is not None and second is not None and len(first) == len(second) and first[1] == second[1]


def _gated(node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """The factor of a Mul that may be scaled, and the gate (squeeze and excitation) that may not."""
    for index in (0, 1):
        value, gate = node.inputs[index], node.inputs[1 - index]
        maker = gate.producer() if gate is not None else None
        if value is not None and gate is not None and maker is not None and maker.op_type in _GATES:
            return (value, gate) if _same_shape(value, gate) and maker.inputs[0] is not value else None
    return None


def _is_flat(node: ir.Node) -> bool:
    """Whether [N, C, 1, 1] becomes [N, C]."""
    before = node.inputs[0].shape if node.inputs[0] is not None else None
    after = node.outputs[0].shape
    if before is None or after is None or len(before) < 2 or len(after) != 2:
        return False
    return before[1] == after[1] and all(size == 1 for size in before.dims[2:])


def _refusal(found: ChannelSet, graph: ir.Graph) -> str | None:
    if any(use.node.graph is not graph for value in found.values for use in value.uses()):
        return "is read inside of a branch or loop"
    if any(value.shape is not None and len(value.shape) < 2 for value in found.values):
        return "has no channels"
    return None
