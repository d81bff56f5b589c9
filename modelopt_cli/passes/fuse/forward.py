"""Moving a factor and a summand forward, into what reads their product."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.shapes import dimensions
from modelopt_cli.passes.fuse.affine import channel_vector, read_affine
from modelopt_cli.passes.fuse.axes import ONE, ZERO, Refusal, Vector, as_vector
from modelopt_cli.passes.fuse.flow import Change, Plan, aligned, check_passes, constant_operand
from modelopt_cli.passes.fuse.linear import LINEAR_OPS, Linear

ARITHMETIC = ("Mul", "Div", "Add", "Sub")


class Forward(Plan):
    """Plans that a value arrives without its change, and that everything computed from it stays the same."""

    def move(self, value: ir.Value, change: Change) -> None:
        """Plan for all readers of ``value``.

        Raises:
            Refusal: Some reader cannot make up for it.
        """
        if change.is_neutral:
            return
        if value.is_graph_output():
            raise Refusal("what it computes is an output of the model")
        for usage in list(value.uses()):
            self._reader(usage.node, usage.idx, change)

    def _reader(self, node: ir.Node, index: int, change: Change) -> None:
        op = self.visit(node)
        if op in LINEAR_OPS and index == 0 and node.inputs[1] is not None:
            self._into_weights(node, change)
        elif op in ARITHMETIC:
            self._through_arithmetic(node, index, change)
        elif op == "Concat":
            self._through_concat(node, index, change)
        elif index == 0:
            check_passes(node, op, change)
            for out in node.outputs:
                self.move(out, change.after(node, out, self.graph.shapes))
        else:
            raise Refusal(f"{node.op_type} does not pass a factor on")

    def _into_weights(self, node: ir.Node, change: Change) -> None:
        linear = self.linear(node, change)
        scale, offset = (
            vector.per_channel(linear.inputs, linear.axis, linear.rank) for vector in (change.scale, change.offset)
        )
        weight = None if change.is_offset else linear.scaled_input(scale)
        if not np.any(offset):
            self.write(linear, weight, None)
            return
        if linear.pads():
            raise Refusal(f"{node.op_type} pads with zeros, which the offset would not reach")
        bias = linear.offset_input(offset)
        self.write(linear, weight, bias if linear.takes_bias else None)
        if not linear.takes_bias:
            self._into_following_add(linear, bias)

    def _into_following_add(self, linear: Linear, bias: np.ndarray) -> None:
        product = linear.node.outputs[0]
        readers = [usage.node for usage in product.uses()]
        affine = read_affine(readers[0]) if len(readers) == 1 and not product.is_graph_output() else None
        if affine is None or affine.node.op_type != "Add" or affine.offset is None:
            raise Refusal(f"{linear.node.op_type} has no bias to take the offset")
        constant = channel_vector(affine.offset, linear.rank, linear.rank - 1, bias.size, 0.0)
        if constant is None:
            raise Refusal(f"what is added after {linear.node.op_type} is not one number per output")
        self.set_constant(affine.node, 1 if affine.node.inputs[0] is product else 0, constant + bias)

    def _through_arithmetic(self, node: ir.Node, index: int, change: Change) -> None:
        value, known = node.inputs[index], constant_operand(node)
        if known is None:
            self._through_product(node, index, change)
            return
        at, constant = known
        scale, offset = change.scale.broadcastable(), change.offset.broadcastable()
        if node.op_type in ("Add", "Sub"):  # (s x + o) + c = s (x + (o + c) / s), and c - (s x + o) likewise
            if not np.all(scale):
                raise Refusal("the factor is 0")
            self.set_constant(node, at, (constant + (offset if node.op_type == "Add" else -offset)) / scale)
            self.move(node.outputs[0], Change(change.scale))
            return
        if node.op_type == "Div" and index == 1:
            raise Refusal("Div divides by it")
        factor = constant if node.op_type == "Mul" else 1 / constant
        if not change.offset.is_all(0.0):  # (s x + o) c = x (s c) + o c
            vector = None if value is None else as_vector(factor, value)
            if vector is None:
                raise Refusal(f"the constant of {node.op_type} varies along several axes")
            self.move(node.outputs[0], Change(ONE, change.offset.times(vector)))
        if not change.is_offset:  # and the end of the way of a factor
            self.set_constant(node, at, constant * scale if node.op_type == "Mul" else constant / scale)

    def _through_product(self, node: ir.Node, index: int, change: Change) -> None:
        if not change.offset.is_all(0.0):
            raise Refusal(f"{node.op_type} does not pass a summand on")
        if node.op_type not in ("Mul", "Div") or (node.op_type == "Div" and index == 1):
            raise Refusal(f"{node.op_type} joins it with another computed value")
        if node.inputs[0] is node.inputs[1]:
            raise Refusal(f"{node.op_type} multiplies it with itself")
        self.move(node.outputs[0], Change(aligned(change.scale, node.inputs[index], node.outputs[0])))

    def _through_concat(self, node: ir.Node, index: int, change: Change) -> None:
        self.move(node.outputs[0], change.each(partial(_joined, node, index)))


def _joined(node: ir.Node, index: int, vector: Vector, neutral: float) -> Vector:
    """The numbers of one input of a Concat beside neutral ones for all others."""
    if vector.is_all(neutral):
        return ONE if neutral else ZERO
    shapes = [dimensions(value) for value in node.inputs]
    mine = shapes[index]
    if mine is None or any(shape is None for shape in shapes):
        raise Refusal("the shapes of what Concat joins are not known")
    axis = node.attributes.get_int("axis", 0) % len(mine)
    if not vector.is_scalar and vector.axis != axis:
        raise Refusal("Concat joins it with others along another axis")
    sizes = [shape[axis] for shape in shapes if shape is not None]
    counts = [size for size in sizes if isinstance(size, int)]
    if len(counts) < len(sizes):
        raise Refusal("how much Concat joins is not known")
    parts = [np.full(count, neutral) for count in counts]
    parts[index] = np.broadcast_to(vector.values, counts[index])
    return Vector(np.concatenate(parts), axis, len(mine))
