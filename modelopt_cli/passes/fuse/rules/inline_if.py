"""A branch that is always taken takes the place of its If."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.engine import Editor, Rule


@dataclass(frozen=True)
class Found:
    """The If, and the branch that is taken."""

    node: ir.Node
    branch: ir.Graph


class InlineIf(Rule[Found]):
    """If(constant) {a} else {b} -> a, or b."""

    name = "inline-if"
    roots = frozenset({"If"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        condition = edit.constant(node.inputs[0])
        if condition is None or condition.size != 1:
            return None
        taken = "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
        return Found(node, node.attributes[taken].as_graph())

    def check(self, found: Found, graph: Editor) -> str | None:
        for outer, inner in zip(found.node.outputs, found.branch.outputs, strict=True):
            maker = inner.producer()
            own = maker is not None and maker.graph is found.branch and list(found.branch.outputs).count(inner) == 1
            if outer.is_graph_output() and not own:
                return "an output of the model would be computed by no node of its own"
        return None

    def rewrite(self, found: Found, graph: Editor) -> None:
        node, branch = found.node, found.branch
        results = list(branch.outputs)
        branch.outputs.clear()
        for value in list(branch.initializers.values()):
            del branch.initializers[value.name or ""]
            value.name = edit.fresh_name(graph.graph, value.name or "constant")
            graph.graph.register_initializer(value)
        for inner in list(branch):
            branch.remove(inner)
            for out in inner.outputs:
                out.name = edit.fresh_name(graph.graph, out.name or inner.op_type) if out.name else out.name
            graph.graph.insert_before(node, inner)
            graph.touch(inner)
        for outer, result in zip(list(node.outputs), results, strict=True):
            graph.replace(outer, result)
