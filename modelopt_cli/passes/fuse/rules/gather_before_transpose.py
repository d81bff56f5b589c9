"""One slice is taken before the axes are put in order."""

from __future__ import annotations

import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import only_made_for


class GatherBeforeTranspose(Rule[ir.Node]):
    """Take one slice before its axes are put in order, where that leaves nothing to put in order.

    Gather(Transpose(x, 1 0 2), 3, axis 1) -> Gather(x, 3, axis 0)
    """

    name = "gather-before-transpose"
    roots = frozenset({"Gather"})

    def match(self, node: ir.Node, graph: Editor) -> ir.Node | None:
        transpose = only_made_for(node.inputs[0], node, "Transpose")
        index = edit.constant(node.inputs[1])
        if transpose is None or index is None or index.ndim:
            return None
        perm = list(transpose.attributes.get_ints("perm", ()))
        axis = node.attributes.get_int("axis", 0) % max(len(perm), 1)
        left = perm[:axis] + perm[axis + 1 :]
        return node if perm and left == sorted(left) else None

    def rewrite(self, found: ir.Node, graph: Editor) -> None:
        transpose = found.inputs[0].producer() if found.inputs[0] is not None else None
        assert transpose is not None
        perm = transpose.attributes.get_ints("perm", ())
        graph.set_attribute(found, "axis", perm[found.attributes.get_int("axis", 0) % len(perm)])
        graph.set_input(found, 0, transpose.inputs[0])
