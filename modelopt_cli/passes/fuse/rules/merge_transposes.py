"""Two transpositions in a row are one, or none."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.passes.fuse.engine import Editor, Rule


@dataclass(frozen=True)
class Found:
    """The second Transpose, the first one's input, and both permutations in one."""

    node: ir.Node
    source: ir.Value
    perm: tuple[int, ...]


class MergeTransposes(Rule[Found]):
    """Transpose(Transpose(x, p), q) -> Transpose(x, p[q])."""

    name = "merge-transposes"
    roots = frozenset({"Transpose"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        first = node.inputs[0].producer() if node.inputs[0] is not None else None
        if first is None or first.op_type != "Transpose" or first.inputs[0] is None:
            return None
        p, q = first.attributes.get_ints("perm", ()), node.attributes.get_ints("perm", ())
        if not p or not q:
            return None
        return Found(node, first.inputs[0], tuple(p[axis] for axis in q))

    def rewrite(self, found: Found, graph: Editor) -> None:
        graph.set_attribute(found.node, "perm", found.perm)
        graph.set_input(found.node, 0, found.source)
