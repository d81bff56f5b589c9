"""A branch that is always taken takes the place of its If."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.ranks import needed_rank, possible_ranks

BRANCHES = ("then_branch", "else_branch")


@dataclass(frozen=True)
class Found:
    """The If, and the branch that is taken."""

    node: ir.Node
    branch: ir.Graph


class InlineIf(Rule[Found]):
    """Take the branch out that is always taken.

    If(constant) {a} else {b} -> a, or b
    LSTM(If(c) {Squeeze(x)} else {x}) -> LSTM(Squeeze(x))     (x has 4 axes, with which LSTM would fail)

    PyTorch's exporter writes such branches for ``squeeze`` and for what may be batched or not.
    """

    name = "inline-if"
    roots = frozenset({"If"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        condition = edit.constant(node.inputs[0])
        if condition is not None and condition.size == 1:
            taken = BRANCHES[0] if bool(condition.reshape(-1)[0]) else BRANCHES[1]
            return Found(node, node.attributes[taken].as_graph())
        possible = [branch for branch in BRANCHES if _may_be_taken(node, node.attributes[branch].as_graph())]
        return Found(node, node.attributes[possible[0]].as_graph()) if len(possible) == 1 else None

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


def _may_be_taken(node: ir.Node, branch: ir.Graph) -> bool:
    """Whether what reads the results can run with the ranks that they have in this branch."""
    for outer, inner in zip(node.outputs, branch.outputs, strict=True):
        needed = needed_rank(outer)
        ranks = None if needed is None else possible_ranks(inner)
        if ranks is not None and needed not in ranks:
            return False
    return True
