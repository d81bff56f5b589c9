"""Nodes that give back what they read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import dimensions, rank, static_shape
from modelopt_cli.passes.fuse.affine import keeps_shape
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.rules.merge_slices import END


@dataclass(frozen=True)
class Found:
    """The node's output, and the value that is the same."""

    output: ir.Value
    same: ir.Value


def _always(node: ir.Node, graph: Editor) -> ir.Value | None:
    return node.inputs[0]


def _dropout(node: ir.Node, graph: Editor) -> ir.Value | None:
    training = edit.scalar(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else 0.0
    return node.inputs[0] if training == 0.0 else None


def _cast(node: ir.Node, graph: Editor) -> ir.Value | None:
    value = node.inputs[0]
    to = node.attributes.get_int("to", 0)
    return value if value is not None and value.dtype is not None and int(value.dtype) == to else None


def _cast_like(node: ir.Node, graph: Editor) -> ir.Value | None:
    value, like = node.inputs[0], node.inputs[1]
    return value if value is not None and like is not None and value.dtype in {like.dtype} - {None} else None


def _transpose(node: ir.Node, graph: Editor) -> ir.Value | None:
    perm = node.attributes.get_ints("perm", ())
    return node.inputs[0] if perm and list(perm) == sorted(perm) else None


def _reshape(node: ir.Node, graph: Editor) -> ir.Value | None:
    value = node.inputs[0]
    before, wanted = dimensions(value), graph.shapes.elements(node.inputs[1])
    if before is None or wanted is None or len(before) != len(wanted):
        return None
    same = [w == 0 or (w is not None and w == d) for w, d in zip(wanted, before, strict=True)]
    if node.attributes.get_int("allowzero", 0) and 0 in wanted:
        return None
    inferred = sum(w == -1 for w in wanted)  # one -1 takes what the other, equal, dimensions leave
    return value if sum(same) + inferred == len(same) and inferred <= 1 and 0 not in before else None


def _expand(node: ir.Node, graph: Editor) -> ir.Value | None:
    value = node.inputs[0]
    before, wanted = dimensions(value), graph.shapes.elements(node.inputs[1])
    if before is None or wanted is None or len(wanted) > len(before):
        return None
    aligned = before[len(before) - len(wanted) :]
    return value if all(w == 1 or (w is not None and w == d) for w, d in zip(wanted, aligned, strict=True)) else None


def _same_rank_and_size(node: ir.Node, graph: Editor) -> ir.Value | None:
    value = node.inputs[0]
    shape = static_shape(value)
    return value if shape is not None and shape == static_shape(node.outputs[0]) else None


def _pad(node: ir.Node, graph: Editor) -> ir.Value | None:
    pads = node.attributes.get_ints("pads", ()) if len(node.inputs) < 2 else graph.shapes.numbers(node.inputs[1])
    return node.inputs[0] if pads and not any(pads) else None


def _slice(node: ir.Node, graph: Editor) -> ir.Value | None:
    if len(node.inputs) < 3:
        return None
    starts, ends = (graph.shapes.numbers(value) for value in node.inputs[1:3])
    steps = graph.shapes.numbers(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else (1,)
    everything = starts and ends and steps and not any(starts) and set(steps) == {1} and min(ends) >= END
    return node.inputs[0] if everything else _same_rank_and_size(node, graph) if set(steps or ()) == {1} else None


def _neutral(constant: float, both_sides: bool) -> Callable[[ir.Node, Editor], ir.Value | None]:
    def find(node: ir.Node, graph: Editor) -> ir.Value | None:
        for index in (1, 0) if both_sides else (1,):
            array, other = edit.constant(node.inputs[index]), node.inputs[1 - index]
            if array is None or other is None or not np.all(array == constant) or array.size == 0:
                continue
            return other if keeps_shape(array, other) else None
        return None

    return find


def _only_input(node: ir.Node, graph: Editor) -> ir.Value | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


def _power(node: ir.Node, graph: Editor) -> ir.Value | None:
    return node.inputs[0] if edit.scalar(node.inputs[1]) == 1.0 and rank(node.inputs[1]) == 0 else None


_SAME: dict[str, Callable[[ir.Node, Editor], ir.Value | None]] = {
    "Identity": _always,
    "Dropout": _dropout,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _same_rank_and_size,
    "Expand": _expand,
    "Pad": _pad,
    "Slice": _slice,
    "Add": _neutral(0.0, both_sides=True),
    "Sub": _neutral(0.0, both_sides=False),
    "Mul": _neutral(1.0, both_sides=True),
    "Div": _neutral(1.0, both_sides=False),
    "Pow": _power,
    "Concat": _only_input,
    "Sum": _only_input,
    "Max": _only_input,
    "Min": _only_input,
}


class DropNoOp(Rule[Found]):
    """Remove a node whose output is its input.

    op(x) -> x      Identity, Dropout, Cast to the same type, Transpose by (0, 1, ..), Reshape or Expand to the same
                    shape, Pad by 0, Slice of everything, x + 0, x - 0, x * 1, x / 1, x ^ 1, Concat and Sum of one
    """

    name = "drop-no-op"

    roots = frozenset(_SAME)

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        if any(out.uses() or out.is_graph_output() for out in node.outputs[1:]):
            return None
        same = _SAME[node.op_type](node, graph)
        return None if same is None else Found(node.outputs[0], same)

    def check(self, found: Found, graph: Editor) -> str | None:
        if not found.output.is_graph_output():
            return None
        if found.same.is_graph_input() or found.same.is_initializer() or found.same.is_graph_output():
            return "it gives an output of the model its name"
        if found.same.graph is not found.output.graph:
            return "it hands a value of the outer graph out of a branch"
        return None

    def rewrite(self, found: Found, graph: Editor) -> None:
        graph.replace(found.output, found.same)
