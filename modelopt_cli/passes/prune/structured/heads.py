"""Which of the axes that a Reshape makes counts attention heads: the one that a later product runs over in parallel."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from modelopt_cli.graph.edit import constant
from modelopt_cli.graph.shapes import Elements

_PASSING = frozenset({"Add", "Mul", "Div", "Sub", "Softmax", "Cast", "Identity", "Neg", "Concat", "Slice", "Expand"})
_DEPTH = 24  # nodes between a Reshape and its product: rotary embeddings take some twenty


def head_axis(value: ir.Value, candidates: set[int], shapes: Mapping[str, Elements]) -> int | None:
    """The candidate axis that becomes a batch axis of a product of activations, or None.

    Args:
        value: Result of a Reshape.
        candidates: Axes of it to choose from.
        shapes: What is known of shapes, by name.
    """
    return next((axis for axis in sorted(candidates) if _is_batch(value, axis, shapes, _DEPTH)), None)


def _is_batch(value: ir.Value, axis: int, shapes: Mapping[str, Elements], depth: int) -> bool:
    return depth > 0 and any(_is_batch_at(node, index, axis, shapes, depth) for node, index in value.uses())


def _is_batch_at(node: ir.Node, index: int, axis: int, shapes: Mapping[str, Elements], depth: int) -> bool:
    value = node.inputs[index]
    assert value is not None
    if node.op_type in ("MatMul", "FusedMatMul"):
        known = shapes.get(value.name or "")
        return known is not None and axis < len(known) - 2 and constant(node.inputs[1 - index]) is None
    if node.op_type == "Attention":
        known = shapes.get(value.name or "")
        return known is not None and len(known) == 4 and axis == 1 and index < 3
    if node.op_type == "Transpose":
        order = list(node.attributes.get_ints("perm", []))
        return axis in order and _is_batch(node.outputs[0], order.index(axis), shapes, depth - 1)
    if node.op_type in ("Gather", "Squeeze", "Split"):
        return _after_pick(node, index, axis, shapes, depth)
    if node.op_type in _PASSING:
        return _is_batch(node.outputs[0], axis, shapes, depth - 1)
    return False


def _after_pick(node: ir.Node, index: int, axis: int, shapes: Mapping[str, Elements], depth: int) -> bool:
    """Gather with a single index drops its axis; Squeeze drops those it names; Split keeps all."""
    if index != 0:
        return False
    place = node.attributes.get_int("axis", 0)
    if node.op_type == "Split":
        return axis != place and any(_is_batch(out, axis, shapes, depth - 1) for out in node.outputs)
    if node.op_type == "Gather":
        picked = constant(node.inputs[1])
        if picked is None or axis == place:
            return False
        return _is_batch(node.outputs[0], axis + (picked.ndim - 1 if axis > place else 0), shapes, depth - 1)
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    gone = (
        [int(each) for each in given.reshape(-1)] if given is not None else list(node.attributes.get_ints("axes", []))
    )
    if any(each < 0 for each in gone) or axis in gone:
        return False
    return _is_batch(node.outputs[0], axis - sum(each < axis for each in gone), shapes, depth - 1)
