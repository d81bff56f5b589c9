"""A Transpose of the last two axes needs no Reshape around it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.graph.shapes import dimensions
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.heads import LAST_TWO
from modelopt_cli.passes.fuse.pattern import made_by


@dataclass(frozen=True)
class Found:
    """The last Reshape, and what the first one reads."""

    node: ir.Node
    source: ir.Value


class TransposeThroughReshape(Rule[Found]):
    """As PyTorch's newer exporter writes the transposed keys.

    Reshape(Transpose(Reshape(x: [a, b, c, d], [a b, c, d]), [0, 2, 1]), [a, b, d, c]) => Transpose(x, [0, 1, 3, 2])
    """

    name = "transpose-through-reshape"
    roots = frozenset({"Reshape"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        transpose = made_by(node.inputs[0], "Transpose")
        first = made_by(None if transpose is None else transpose.inputs[0], "Reshape")
        if transpose is None or first is None or tuple(transpose.attributes.get_ints("perm", ())) != (0, 2, 1):
            return None
        source = first.inputs[0]
        before, middle, after = (dimensions(value) for value in (source, first.outputs[0], node.outputs[0]))
        if source is None or before is None or middle is None or after is None or len(before) != 4 or None in before:
            return None
        a, b, c, d = before
        return Found(node, source) if middle[1:] == (c, d) and after == (a, b, d, c) else None

    def rewrite(self, found: Found, graph: Editor) -> None:
        out = found.node.outputs[0]
        attributes: dict[str, object] = {"perm": LAST_TWO}
        result = graph.add("Transpose", [found.source], like=out, before=found.node, attributes=attributes)
        graph.replace(out, result)
