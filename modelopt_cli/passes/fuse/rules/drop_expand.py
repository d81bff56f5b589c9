"""An Expand before arithmetic that broadcasts anyway is not needed."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.graph.shapes import dimensions
from modelopt_cli.passes.fuse.engine import Editor, Rule

BROADCASTING = frozenset(
    {"Add", "Sub", "Mul", "Div", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Where"}
)


@dataclass(frozen=True)
class Found:
    """The Expand."""

    node: ir.Node


class DropExpand(Rule[Found]):
    """op(Expand(x, s), y) -> op(x, y), when every reader's result has the same shape without it."""

    name = "drop-expand"
    roots = frozenset({"Expand"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        out = node.outputs[0]
        readers = [usage.node for usage in out.uses()]
        if out.is_graph_output() or not readers or node.inputs[0] is None:
            return None
        arithmetic = all(reader.op_type in BROADCASTING and reader.domain in ("", "ai.onnx") for reader in readers)
        return Found(node) if arithmetic else None

    def check(self, found: Found, graph: Editor) -> str | None:
        expanded = found.node.outputs[0]
        for usage in expanded.uses():
            others = [value for value in usage.node.inputs if value is not expanded]
            if not any(_covers(other, expanded) for other in others):
                return "the other operand of what reads it may be smaller"
        return None

    def rewrite(self, found: Found, graph: Editor) -> None:
        source = found.node.inputs[0]
        assert source is not None
        graph.replace(found.node.outputs[0], source)


def _covers(other: ir.Value | None, expanded: ir.Value) -> bool:
    """Whether ``other`` surely has every dimension that the Expand makes, so that broadcasting gives the same."""
    have, need = dimensions(other), dimensions(expanded)
    if have is None or need is None or len(have) < len(need):
        return False
    aligned = have[len(have) - len(need) :]
    return all(n == 1 or (n is not None and n == h) for h, n in zip(aligned, need, strict=True))
