"""Reshapes in a row: only the last one counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import Elements, dimensions
from modelopt_cli.passes.fuse.engine import Editor, Rule

RESHAPES = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})


@dataclass(frozen=True)
class Found:
    """The last node of the row, what the one before it reads, and the shape that is wanted."""

    node: ir.Node
    source: ir.Value
    target: tuple[int, ...] | None


class MergeReshapes(Rule[Found]):
    """Reshape(Reshape(x, a), b) -> Reshape(x, b), with Squeeze, Unsqueeze and Flatten as other words for it."""

    name = "merge-reshapes"
    roots = RESHAPES

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        first = node.inputs[0].producer() if node.inputs[0] is not None else None
        if first is None or first.op_type not in RESHAPES or first.domain not in ("", "ai.onnx"):
            return None
        source = first.inputs[0]
        if source is None or not (_only_reshaped(first.outputs[0]) or _is_undone(source, node.outputs[0])):
            return None
        return Found(node, source, _target(node, dimensions(source)))

    def check(self, found: Found, graph: Editor) -> str | None:
        return None if found.target is not None else "the resulting shape is not known well enough for one Reshape"

    def rewrite(self, found: Found, graph: Editor) -> None:
        out = found.node.outputs[0]
        shape = graph.weight(np.array(found.target, dtype=np.int64), f"{out.name}_shape")
        graph.replace(out, graph.add("Reshape", [found.source, shape], like=out, before=found.node))


def _only_reshaped(value: ir.Value) -> bool:
    """Whether the value is needed for other shapes of it alone, so that nothing will read it."""
    used = value.uses()
    return not value.is_graph_output() and all(u.node.op_type in RESHAPES and u.idx == 0 for u in used)


def _is_undone(source: ir.Value, result: ir.Value) -> bool:
    """Whether the second node surely gives back what the first one was given."""
    before = dimensions(source)
    return before is not None and None not in before and before == dimensions(result)


def _target(node: ir.Node, before: Elements | None) -> tuple[int, ...] | None:
    constant = edit.constant(node.inputs[1]) if node.op_type == "Reshape" else None
    if constant is not None and (constant > 0).sum() + (constant == -1).sum() == constant.size:
        return tuple(int(size) for size in constant)
    after = dimensions(node.outputs[0])
    if after is None or 0 in after:
        return None
    target = []
    for axis, size in enumerate(after):
        if isinstance(size, int):
            target.append(size)
        elif size is not None and before is not None and axis < len(before) and before[axis] == size:
            target.append(0)
        else:
            target.append(-1)
    return tuple(target) if target.count(-1) <= 1 else None
