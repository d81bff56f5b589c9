"""A number that multiplies a product of two computed values moves back into the weights of one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.affine import as_float, read_affine, rounded
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.linear import LINEAR_OPS, fits, read_linear, refusal, write
from modelopt_cli.passes.fuse.pattern import STANDARD

MOVES = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
MAX_DEPTH = 12

Edits = list[Callable[[], None]]


@dataclass(frozen=True)
class Found:
    """The scaling node, its input, and the edits that make up for it; None when some path cannot take the factor."""

    node: ir.Node
    source: ir.Value
    edits: Edits | None


class ScaleBackward(Rule[Found]):
    """Fold the scale of attention scores into the query's projection.

    MatMul(Transpose(x W + b), k) / s -> MatMul(Transpose(x (W / s) + b / s), k)
    """

    name = "scale-backward"
    roots = frozenset({"Mul", "Div"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        affine = read_affine(node)
        if affine is None or affine.scale is None or affine.scale.size != 1 or affine.offset is not None:
            return None
        factor = float(affine.scale.reshape(()))
        before = affine.source.producer()
        if before is None or before.op_type not in {"MatMul", "Add", *MOVES}:
            return None
        return Found(node, affine.source, _plan(affine.source, node, factor, graph, 0))

    def check(self, found: Found, graph: Editor) -> str | None:
        return None if found.edits is not None else "no weight before it takes the factor"

    def rewrite(self, found: Found, graph: Editor) -> None:
        for make in found.edits or ():
            make()
        graph.replace(found.node.outputs[0], found.source)


def _plan(value: ir.Value | None, reader: ir.Node, factor: float, graph: Editor, depth: int) -> Edits | None:
    """The edits that multiply ``value``, which only ``reader`` reads, by ``factor``."""
    node = None if value is None else value.producer()
    if value is None or node is None or depth > MAX_DEPTH or edit.only_reader(value) is not reader:
        return None
    if node.domain not in STANDARD or node.graph is not graph.graph or graph.is_protected(node):
        return None
    if node.op_type in MOVES:
        return _plan(node.inputs[0], node, factor, graph, depth + 1)
    if node.op_type == "Add":
        return _through_add(node, factor, graph, depth)
    if (linear := read_linear(node)) is not None:
        weight, bias = linear.scaled_output(np.full(linear.outputs, factor), np.zeros(linear.outputs))
        new_bias = bias if linear.bias is not None else None
        if refusal(linear) is not None or not fits(linear, weight, new_bias):
            return None
        return [lambda: write(linear, graph, weight, new_bias)]
    if node.op_type == "MatMul" and node.op_type in LINEAR_OPS:
        for operand in node.inputs:
            if (edits := _plan(operand, node, factor, graph, depth + 1)) is not None:
                return edits
    return None


def _through_add(node: ir.Node, factor: float, graph: Editor, depth: int) -> Edits | None:
    for index in (0, 1):
        constant = edit.constant(node.inputs[index])
        number = as_float(constant)
        if number is None or constant is None:
            continue
        new = rounded(number * factor, constant.dtype)
        rest = _plan(node.inputs[1 - index], node, factor, graph, depth + 1)
        if rest is None or new is None:
            return None
        return [*rest, partial(_set_constant, graph, node, index, new)]
    return None


def _set_constant(graph: Editor, node: ir.Node, index: int, array: np.ndarray) -> None:
    old = node.inputs[index]
    graph.set_input(node, index, graph.weight(array, old.name if old is not None and old.name else "constant"))
