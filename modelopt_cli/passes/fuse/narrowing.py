"""Which inputs of an operator may hold fewer entries along an axis when its output is to hold only those."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import Elements, dimensions, rank
from modelopt_cli.passes.fuse.layout import JOINING, UNARY
from modelopt_cli.passes.fuse.pattern import STANDARD

PRODUCTS = frozenset({"MatMul", "Gemm", "Attention"})
SOFTMAX_OF_ONE_AXIS = 13  # before this opset Softmax joins all axes from its own on
_MASK, _PAST = 3, (4, 5, 6)  # inputs of Attention; with the past come lengths

Axes = dict[int, int]  # by the position of an input, the axis of it


def narrowed_inputs(node: ir.Node, axis: int, opset: int) -> Axes | None:
    """The inputs of which entry i along the axis given here is all that entry i along ``axis`` of the output needs.

    Inputs that are not named stay whole. None where the operator mixes entries along the axis, or too little is known
    of the shapes to say.

    Args:
        node: A node of one output.
        axis: Of its output, counted from 0.
        opset: Version of the standard operators in the model.
    """
    if node.domain not in STANDARD or sum(bool(out.name) for out in node.outputs) != 1:
        return None
    if node.op_type in UNARY:
        return {0: axis}
    if node.op_type in JOINING:
        return _joining(node, axis)
    if node.op_type in ("Softmax", "LogSoftmax") and opset < SOFTMAX_OF_ONE_AXIS:
        return None
    find = _FIND.get(node.op_type)
    return None if find is None else find(node, axis)


def reshaped(node: ir.Node, axis: int, count: int) -> list[int] | None:
    """The numbers to reshape to when ``count`` entries along ``axis`` are left; None when the present ones do."""
    target = edit.constant(node.inputs[1])
    assert target is not None
    numbers = [int(number) for number in target.reshape(-1)]
    if numbers[axis] in (0, -1):
        return None
    return [*numbers[:axis], count, *numbers[axis + 1 :]]


def _joining(node: ir.Node, axis: int) -> Axes | None:
    return _broadcast(node, axis, range(len(node.inputs)))


def _broadcast(node: ir.Node, axis: int, positions: range) -> Axes | None:
    """The operands that have the axis; those that are repeated along it stay. At least one must surely have it."""
    dims = dimensions(node.outputs[0])
    if dims is None:
        return None
    axes: Axes = {}
    for position in positions:
        own = dimensions(node.inputs[position])
        if own is None:
            return None
        place = axis - len(dims) + len(own)
        if place < 0 or (own[place] == 1 and dims[axis] != 1):
            continue
        if own[place] is None or own[place] != dims[axis]:
            return None
        axes[position] = place
    return axes or None


def _matmul(node: ir.Node, axis: int) -> Axes | None:
    out, left, right = rank(node.outputs[0]), rank(node.inputs[0]), rank(node.inputs[1])
    if out is None or left is None or right is None or min(left, right) < 2 or axis == out - 1:
        return None
    return {0: left - 2} if axis == out - 2 else _broadcast(node, axis, range(2))


def _gemm(node: ir.Node, axis: int) -> Axes | None:
    bias = dimensions(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else ()
    if axis != 0 or node.attributes.get_int("transA", 0) != 0 or bias is None or (len(bias) == 2 and bias[0] != 1):
        return None
    return {0: 0}


def _norm(node: ir.Node, axis: int) -> Axes | None:
    dims = rank(node.inputs[0])
    if dims is None or axis >= node.attributes.get_int("axis", -1) % dims:
        return None
    flat = all(rank(value) == 1 for value in node.inputs[1:] if value is not None)
    return {0: axis} if flat else None


def _softmax(node: ir.Node, axis: int) -> Axes | None:
    dims = rank(node.inputs[0])
    return None if dims is None or axis == node.attributes.get_int("axis", -1) % dims else {0: axis}


def _transpose(node: ir.Node, axis: int) -> Axes | None:
    perm = node.attributes.get_ints("perm", ())
    return {0: perm[axis]} if perm else None


def _reshape(node: ir.Node, axis: int) -> Axes | None:
    """Only where all axes up to this one stay as they are."""
    inner, outer = dimensions(node.inputs[0]), dimensions(node.outputs[0])
    target = edit.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if inner is None or outer is None or target is None or node.attributes.get_int("allowzero", 0) != 0:
        return None
    same = len(inner) > axis and inner[: axis + 1] == outer[: axis + 1] and None not in inner[: axis + 1]
    return {0: axis} if same else None


def _concat(node: ir.Node, axis: int) -> Axes | None:
    dims = rank(node.outputs[0])
    if dims is None or axis == node.attributes.get_int("axis", 0) % dims:
        return None
    return dict.fromkeys(range(len(node.inputs)), axis)


def _attention(node: ir.Node, axis: int) -> Axes | None:
    """Each query by itself: keys, values and the states from before stay whole."""
    dims = dimensions(node.inputs[0])
    if dims is None or axis != len(dims) - 2 or node.attributes.get_int("is_causal", 0) != 0:
        return None
    if any(len(node.inputs) > position and node.inputs[position] is not None for position in _PAST):
        return None
    axes: Axes = {0: axis}
    mask = node.inputs[_MASK] if len(node.inputs) > _MASK else None
    if mask is not None:
        rows = _mask_rows(dimensions(mask))
        if rows is None or (rows != 1 and rows != dims[axis]):
            return None
        if rows != 1:
            axes[_MASK] = len(mask.shape or ()) - 2
    return axes


def _mask_rows(dims: Elements | None) -> int | str | None:
    return None if dims is None or len(dims) < 2 else dims[-2]


_FIND: dict[str, Callable[[ir.Node, int], Axes | None]] = {
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _norm),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **{"MatMul": _matmul, "Gemm": _gemm, "Attention": _attention, "Concat": _concat},
    **{"Transpose": _transpose, "Reshape": _reshape},
}
