"""Moving a factor and a summand backward, into what computes the value."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.shapes import dimensions
from modelopt_cli.passes.fuse.axes import Refusal, Vector, before
from modelopt_cli.passes.fuse.flow import Change, Plan, aligned, check_passes, constant_operand
from modelopt_cli.passes.fuse.linear import LINEAR_OPS
from modelopt_cli.passes.fuse.pattern import STANDARD

SELECTING = frozenset({"Slice", "Split", "Gather"})


class Backward(Plan):
    """Plans that a value is computed with a change in it."""

    def move(self, value: ir.Value | None, via: ir.Value, change: Change) -> None:
        """Plan for what computes ``value``, of which ``via`` is computed.

        Raises:
            Refusal: Nothing that computes it can take the change, or something else would see it.
        """
        if change.is_neutral:
            return
        node = None if value is None else value.producer()
        if value is None or node is None:
            raise Refusal("no weight before it takes the factor")
        self._check_readers(value, via, change)
        op = self.visit(node)
        if op in LINEAR_OPS and constant_operand(node) is not None:
            self._into_weights(node, change)
        elif op == "MatMul":
            self._into_either(node, change)
        elif op in ("Mul", "Div", "Add", "Sub"):
            self._through_arithmetic(node, change)
        elif op == "Concat":
            self._through_concat(node, change)
        else:
            check_passes(node, op, change)
            moved = change.each(lambda vector, number: before(node, vector, value, self.graph.shapes, number))
            self.move(node.inputs[0], value, moved)

    def _check_readers(self, value: ir.Value, via: ir.Value, change: Change) -> None:
        """Whether all others that read it take parts of it that stay as they are."""
        if value.is_graph_output():
            raise Refusal("what it would be folded into is an output of the model")
        readers = [usage.node for usage in value.uses()]
        for node in readers:
            others: Sequence[ir.Value] = ()
            if node is not via.producer() or readers.count(node) > 1:
                if node.op_type not in SELECTING or node.domain not in STANDARD or node.inputs[0] is not value:
                    raise Refusal("its output is read by several nodes")
                others = node.outputs
            elif node.op_type == "Split":
                others = [out for out in node.outputs if out is not via]
            if not all(change.after(node, out, self.graph.shapes).is_neutral for out in others):
                raise Refusal("its output is read by several nodes")

    def _into_weights(self, node: ir.Node, change: Change) -> None:
        linear = self.linear(node, change)
        scale, offset = (
            vector.per_channel(linear.outputs, linear.axis, linear.rank) for vector in (change.scale, change.offset)
        )
        has_offset = bool(np.any(offset))
        if has_offset and not linear.takes_bias:
            raise Refusal(f"{node.op_type} has no bias to take the offset")
        weight, bias = linear.scaled_output(scale, offset)
        keeps_bias = linear.bias is None and not has_offset
        self.write(linear, None if change.is_offset else weight, None if keeps_bias else bias)

    def _into_either(self, node: ir.Node, change: Change) -> None:
        """A product of two computed matrices takes a number by either of them."""
        if not change.scale.is_scalar or not change.offset.is_all(0.0):
            raise Refusal("a product of two computed matrices takes a number only")
        self._first([[(node.inputs[0], change)], [(node.inputs[1], change)]], node)

    def _through_arithmetic(self, node: ir.Node, change: Change) -> None:
        known = constant_operand(node)
        if known is None:
            self._through_two(node, change)
            return
        at, constant = known
        value, out = node.inputs[1 - at], node.outputs[0]
        scale, offset = change.scale.broadcastable(), change.offset.broadcastable()
        if node.op_type in ("Add", "Sub"):  # s (x + c) + o = s x + (s c + o), and s (x - c) + o = s x - (s c - o)
            subtracted = node.op_type == "Sub" and at == 1
            self.set_constant(node, at, constant * scale + (-offset if subtracted else offset))
            self.move(value, out, Change(aligned(change.scale, out, value)))
            return
        if not change.offset.is_all(0.0):
            raise Refusal(f"{node.op_type} does not pass a summand on")
        if node.op_type == "Div" and at == 1 and not np.all(scale):
            raise Refusal("the factor is 0")
        self.set_constant(node, at, constant / scale if node.op_type == "Div" and at == 1 else constant * scale)

    def _through_two(self, node: ir.Node, change: Change) -> None:
        a, b = node.inputs[0], node.inputs[1]
        out = node.outputs[0]
        if node.op_type in ("Add", "Sub"):  # both are scaled, and one of them takes the summand
            (sa, oa), (sb, ob) = ((aligned(part, out, v) for part in (change.scale, change.offset)) for v in (a, b))
            negated = Vector(-ob.values, ob.axis, ob.rank) if node.op_type == "Sub" else ob
            self._first([[(a, Change(sa, oa)), (b, Change(sb))], [(a, Change(sa)), (b, Change(sb, negated))]], node)
            return
        if not change.offset.is_all(0.0):
            raise Refusal(f"{node.op_type} does not pass a summand on")
        by_first = [(a, Change(aligned(change.scale, out, a)))]
        by_second = [] if node.op_type == "Div" else [[(b, Change(aligned(change.scale, out, b)))]]
        self._first([by_first, *by_second], node)

    def _first(self, ways: Sequence[Sequence[tuple[ir.Value | None, Change]]], node: ir.Node) -> None:
        """The first of several ways that all its values can take.

        Raises:
            Refusal: None of them can; the reason of the last.
        """
        edits, changed = list(self.edits), set(self.changed)
        for last, way in enumerate(ways, start=1):
            try:
                for value, change in way:
                    self.move(value, node.outputs[0], change)
                return
            except Refusal:
                self.edits, self.changed = list(edits), set(changed)
                if last == len(ways):
                    raise

    def _through_concat(self, node: ir.Node, change: Change) -> None:
        start, dims = 0, dimensions(node.outputs[0])
        axis = node.attributes.get_int("axis", 0) % len(dims) if dims else None
        for value in node.inputs:
            shape = dimensions(value)
            size = None if shape is None or axis is None else shape[axis]
            end = start + size if isinstance(size, int) else None
            self.move(value, node.outputs[0], change.each(partial(_part, axis=axis, start=start, end=end)))
            start = end if end is not None else 0


def _part(vector: Vector, neutral: float, axis: int | None, start: int, end: int | None) -> Vector:
    """The numbers of one input of a Concat along ``axis``."""
    if vector.is_scalar or vector.axis != axis:
        return vector
    if end is None:
        raise Refusal("how much Concat joins is not known")
    return vector.part(slice(start, end))
