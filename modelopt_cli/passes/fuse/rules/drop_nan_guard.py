"""A Softmax over finite numbers gives no NaN that would have to be replaced."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.finite import is_finite
from modelopt_cli.passes.fuse.pattern import made_by, operands


@dataclass(frozen=True)
class Found:
    """The Where, the result of the Softmax, and what is added to its scores, if anything."""

    node: ir.Node
    result: ir.Value
    mask: ir.Value | None
    scores: ir.Value | None


class DropNanGuard(Rule[Found]):
    """Where(IsNaN(Softmax(x + mask)), 0, Softmax(x + mask)) -> Softmax(x + mask), with a mask that is never -inf.

    The guard is for rows in which all is -inf. (Where activations overflowed, the original gives 0 and this NaN.)
    """

    name = "drop-nan-guard"
    roots = frozenset({"Where"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        guard, result = made_by(node.inputs[0], "IsNaN"), node.inputs[2]
        softmax = made_by(result, "Softmax")
        if guard is None or softmax is None or result is None or guard.inputs[0] is not result:
            return None
        if edit.scalar(node.inputs[1]) != 0.0:
            return None
        add = made_by(softmax.inputs[0], "Add")
        if add is None:
            return Found(node, result, None, softmax.inputs[0])
        for scores, mask in operands(add):
            if made_by(scores, "MatMul", "Mul", "Div", "Reshape") is not None:
                return Found(node, result, mask, scores)
        return Found(node, result, add.outputs[0], None)

    def check(self, found: Found, graph: Editor) -> str | None:
        if made_by(found.scores, "MatMul", "Mul", "Div", "Reshape") is None:
            return "the scores are no product, and may be -inf"
        if found.mask is not None and not is_finite(found.mask):
            return "its mask may be -inf for a whole row"
        return None

    def rewrite(self, found: Found, graph: Editor) -> None:
        graph.replace(found.node.outputs[0], found.result)
