"""A constant factor and summand move forward into the weights that follow."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.passes.fuse.affine import AFFINE_OPS, read_affine
from modelopt_cli.passes.fuse.axes import ONE, ZERO, Refusal, as_vector
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.flow import Change
from modelopt_cli.passes.fuse.forward import Forward


@dataclass(frozen=True)
class Found:
    """The affine node, its input, and either the plan or why there is none."""

    node: ir.Node
    source: ir.Value
    plan: Forward
    reason: str | None


class MoveAffineForward(Rule[Found]):
    """Let what reads ``s * x + o`` read ``x``.

    Conv(W, s x + o) -> Conv(W s, x) + W o        (o only where no zero padding is)
    Conv(W, Relu(s x) * g) -> Conv(W s, Relu(x) * g)     (s > 0)
    """

    name = "move-affine-forward"
    roots = AFFINE_OPS

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        affine = read_affine(node)
        if affine is None:
            return None
        scale, offset = as_vector(affine.scale, affine.source, ONE), as_vector(affine.offset, affine.source, ZERO)
        if scale is None or offset is None or (change := Change(scale, offset)).is_neutral:
            return None  # x * 1 is for `drop-no-op`
        plan = Forward(graph)
        try:
            plan.move(node.outputs[0], change)
        except Refusal as refusal:
            return Found(node, affine.source, plan, str(refusal))
        return Found(node, affine.source, plan, None)

    def check(self, found: Found, graph: Editor) -> str | None:
        return found.reason

    def rewrite(self, found: Found, graph: Editor) -> None:
        found.plan.commit()
        graph.replace(found.node.outputs[0], found.source)
