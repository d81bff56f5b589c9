"""Masks that let everything through: comparisons that hold for every position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import dimensions
from modelopt_cli.passes.fuse.broadcasting import refusal_to_shrink, replace_smaller
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import operands

_VIEWS = frozenset({"Expand", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Identity", "Flatten", "Cast"})


@dataclass(frozen=True)
class Found:
    """The node, and which of its inputs it always gives."""

    node: ir.Node
    source: ir.Value


class KnownTruths(Rule[Found]):
    """And(true, x) -> x;  Where(true, x, y) -> x, where that is surely true: a constant, or Range(0, n) >= 0."""

    name = "known-truths"
    roots = frozenset({"And", "Where"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        if node.op_type == "Where":
            source = node.inputs[1]
            return Found(node, source) if source is not None and is_true(node.inputs[0]) else None
        for condition, other in operands(node):
            if is_true(condition):
                return Found(node, other)
        return None

    def check(self, found: Found, graph: Editor) -> str | None:
        out = found.node.outputs[0]
        dims = dimensions(out)
        if dims is not None and None not in dims and dims == dimensions(found.source):
            return None
        return refusal_to_shrink(out)

    def rewrite(self, found: Found, graph: Editor) -> None:
        out = found.node.outputs[0]
        if dimensions(out) != dimensions(found.source):
            replace_smaller(out, found.source)
        graph.replace(out, found.source)


def is_true(value: ir.Value | None) -> bool:
    """Whether every element of a boolean tensor is true for all inputs of the model."""
    array = edit.constant(value)
    if array is not None:
        return array.dtype == np.bool_ and bool(array.all())
    node = None if value is None else value.producer()
    if node is None or node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type in _VIEWS - {"Cast"}:
        return is_true(node.inputs[0])
    if node.op_type == "And":
        return all(is_true(each) for each in node.inputs)
    if node.op_type == "GreaterOrEqual":
        bound = edit.constant(node.inputs[1])
        return bound is not None and bool((bound <= 0).all()) and _is_count(node.inputs[0])
    return False


def _is_count(value: ir.Value | None) -> bool:
    """Whether no element is negative: positions, counted upwards from a number."""
    array = edit.constant(value)
    if array is not None:
        return array.dtype.kind in "iu" and bool((array >= 0).all())
    node = None if value is None else value.producer()
    if node is None or node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type in ("Range", "Add"):
        first, second = node.inputs[0], node.inputs[2 if node.op_type == "Range" else 1]
        return _is_count(first) and _is_count(second)
    return node.op_type == "Shape" or (node.op_type in _VIEWS and _is_count(node.inputs[0]))
