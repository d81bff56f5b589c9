"""A constant factor and summand move back into the weights before, through what lies between."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.passes.fuse.affine import AFFINE_OPS, read_affine
from modelopt_cli.passes.fuse.axes import ONE, ZERO, Refusal, as_vector
from modelopt_cli.passes.fuse.backward import Backward
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.flow import Change
from modelopt_cli.passes.fuse.linear import LINEAR_OPS


@dataclass(frozen=True)
class Found:
    """The affine node, its input, and either the plan or why there is none."""

    node: ir.Node
    source: ir.Value
    plan: Backward
    reason: str | None


class MoveAffineBackward(Rule[Found]):
    """Let what computes ``x`` compute ``s * x + o``.

    s AveragePool(Concat(W x + b, V x + c)) + o -> AveragePool(Concat((s1 W) x + s1 b + o1, (s2 V) x + s2 c + o2))
    MatMul(Transpose(x W + b), k) / s -> MatMul(Transpose(x (W / s) + b / s), k)     (the scale of attention scores)

    Right after a convolution or a matrix product, `fold-affine-after` does it.
    """

    name = "move-affine-backward"
    roots = AFFINE_OPS

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        affine = read_affine(node)
        before = None if affine is None else affine.source.producer()
        if affine is None or before is None or (read_affine(before) is not None and before.op_type != "Add"):
            return None
        if before.op_type in LINEAR_OPS and (before.op_type != "MatMul" or affine.scale is None):
            return None  # a sum behind a MatMul is its bias
        scale, offset = as_vector(affine.scale, affine.source, ONE), as_vector(affine.offset, affine.source, ZERO)
        if scale is None or offset is None or (change := Change(scale, offset)).is_neutral:
            return None  # x * 1 is for `drop-no-op`
        plan = Backward(graph)
        try:
            plan.move(affine.source, node.outputs[0], change)
        except Refusal as refusal:
            return Found(node, affine.source, plan, str(refusal))
        return Found(node, affine.source, plan, None)

    def check(self, found: Found, graph: Editor) -> str | None:
        return found.reason

    def rewrite(self, found: Found, graph: Editor) -> None:
        found.plan.commit()
        graph.replace(found.node.outputs[0], found.source)
