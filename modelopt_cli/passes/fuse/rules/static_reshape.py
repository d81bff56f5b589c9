"""A computed target shape of Reshape becomes a constant with 0 for "as before" and -1 for "the rest"."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import Elements, dimensions
from modelopt_cli.passes.fuse.engine import Editor, Rule


@dataclass(frozen=True)
class Found:
    """The Reshape, and what is known of its target shape."""

    node: ir.Node
    wanted: Elements
    target: tuple[int, ...] | None


class StaticReshape(Rule[Found]):
    """Reshape without shape arithmetic.

    Reshape(x: [n, s, 384], Concat(n, s, 12, 32)) -> Reshape(x, [0, 0, 12, 32])
    Reshape(x: [n, s, 384], Concat(n, -1, 12, 32)) -> Reshape(x, [0, 0, 12, 32])
    """

    name = "static-reshape"
    roots = frozenset({"Reshape"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        if edit.constant(node.inputs[1]) is not None:
            return None
        wanted = graph.shapes.elements(node.inputs[1])
        if wanted is None:
            return None
        return Found(node, wanted, _target(wanted, dimensions(node.inputs[0]) or ()))

    def check(self, found: Found, graph: Editor) -> str | None:
        if found.node.attributes.get_int("allowzero", 0) and 0 in found.wanted:
            return "allowzero is set and a dimension is 0, so 0 cannot mean 'as before'"
        if found.target is None:
            return "several dimensions of the target are computed, and only one can be -1"
        return None

    def rewrite(self, found: Found, graph: Editor) -> None:
        array = np.array(found.target, dtype=np.int64)
        graph.drop_attribute(found.node, "allowzero")
        graph.set_input(found.node, 1, graph.weight(array, f"{found.node.outputs[0].name}_shape"))


def _target(wanted: Elements, before: Elements) -> tuple[int, ...] | None:
    """With at most one -1; None when more are computed, or a 0 among the numbers stands for no dimension."""
    target = []
    for position, element in enumerate(wanted):
        if element == 0 and position >= len(before):
            return None
        if element == -1 and _is_rest(position, wanted, before):
            target.append(0)
        elif isinstance(element, int):
            target.append(element)
        elif element is not None and position < len(before) and before[position] == element:
            target.append(0)
        else:
            target.append(-1)
    return tuple(target) if target.count(-1) <= 1 else None


def _is_rest(position: int, wanted: Elements, before: Elements) -> bool:
    """Whether -1 can only be the named dimension that is there already: all others are there on both sides."""
    if position >= len(before) or not isinstance(before[position], str) or wanted.count(-1) != 1 or 0 in wanted:
        return False
    left, right = ([*before[:position], *before[position + 1 :]], [*wanted[:position], *wanted[position + 1 :]])
    names = [sorted(str(e) for e in side if not isinstance(e, int)) for side in (left, right)]
    sizes = [math.prod(e for e in side if isinstance(e, int)) for side in (left, right)]
    return None not in (*left, *right) and names[0] == names[1] and sizes[0] == sizes[1]
