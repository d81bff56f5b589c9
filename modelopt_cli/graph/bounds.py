"""Dimensions that are at most a symbol: a table of positions is cut to the length of the input, if it is that long."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from modelopt_cli.graph.arithmetic import ShapeArithmetic
from modelopt_cli.graph.shapes import Element, Elements, dimensions

MAX_STEPS = 8
_ROWS = ("Gather", "GatherElements")  # of a table, by position: as many as there are indices


def at_most(known: ShapeArithmetic, value: ir.Value | None, axis: int, steps: int = MAX_STEPS) -> str | None:
    """A symbol that dimension ``axis`` of ``value`` never exceeds; None when none is known."""
    node, dims = None if value is None else value.producer(), dimensions(value)
    if dims is not None and isinstance(dims[axis], str):
        return str(dims[axis])
    if node is None or dims is None or node.domain not in ("", "ai.onnx") or steps == 0:
        return None
    if node.op_type == "Slice":
        return _cut(known, node, axis)
    if node.op_type in _ROWS and (node.op_type != "Gather" or node.attributes.get_int("axis", 0) == 0):
        indices = dimensions(node.inputs[1])
        return None if indices is None or axis >= len(indices) else at_most(known, node.inputs[1], axis, steps - 1)
    return None


def _cut(known: ShapeArithmetic, node: ir.Node, axis: int) -> str | None:
    """The end of a Slice that begins at 0."""
    starts, ends = (known.elements(value) for value in node.inputs[1:3])
    axes = known.numbers(node.inputs[3]) if len(node.inputs) > 3 else None
    steps = known.numbers(node.inputs[4]) if len(node.inputs) > 4 else (1,)
    if starts is None or ends is None or axes is None or steps is None or set(steps) != {1}:
        return None
    for start, end, cut in zip(starts, ends, axes, strict=True):
        if cut == axis and start == 0 and isinstance(end, str):
            return end
    return None


def settled(known: ShapeArithmetic, operands: Sequence[ir.Value | None], more: Elements = ()) -> list[Elements | None]:
    """Shapes of operands that are broadcast, unknown dimensions named where another operand leaves no choice.

    A dimension of at most ``s`` that is broadcast with one of ``s`` is ``s`` or 1: the result has ``s`` either way.

    Args:
        known: Shape arithmetic of the graph.
        operands: What is broadcast.
        more: A shape that they are broadcast with besides.
    """
    shapes = [dimensions(value) for value in operands]
    aligned = [shape for shape in (*shapes, more) if shape is not None]
    found: list[Elements | None] = []
    for value, shape in zip(operands, shapes, strict=True):
        if shape is None or None not in shape:
            found.append(shape)
            continue
        dims: list[Element] = list(shape)
        for axis, size in enumerate(shape):
            place = axis - len(shape)
            others = {other[place] for other in aligned if other is not shape and len(other) >= -place}
            if size is None and (name := at_most(known, value, axis)) in others:
                dims[axis] = name
        found.append(tuple(dims))
    return found
