"""Two factors, or two summands, in a row are one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.affine import AFFINE_OPS, Affine, keeps_shape, read_affine, rounded
from modelopt_cli.passes.fuse.engine import Editor, Rule


@dataclass(frozen=True)
class Found:
    """The second node, the first one, and the operator and constant that do what both do."""

    node: ir.Node
    first: Affine
    op_type: str
    constant: np.ndarray


class MergeAffine(Rule[Found]):
    """(x * a) * b -> x * (a b), (x + a) + b -> x + (a + b), with Sub, Div and Neg as other words for it."""

    name = "merge-affine"
    roots = AFFINE_OPS - {"BatchNormalization"}

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        second = read_affine(node)
        first = None if second is None else read_affine(second.source.producer())
        if first is None or second is None or edit.only_reader(second.source) is not node:
            return None
        if first.scale is not None and second.scale is not None and first.offset is None and second.offset is None:
            return Found(node, first, "Mul", first.scale * second.scale)
        if first.offset is not None and second.offset is not None and first.scale is None and second.scale is None:
            return Found(node, first, "Add", first.offset + second.offset)
        return None

    def check(self, found: Found, graph: Editor) -> str | None:
        dtype = found.node.outputs[0].dtype
        if dtype is None or rounded(found.constant, dtype.numpy()) is None:
            return "the merged constant does not fit its type"
        if not keeps_shape(found.constant, found.first.source) and found.constant.size > 1:
            return "the merged constant would be larger than both"
        return None

    def rewrite(self, found: Found, graph: Editor) -> None:
        out = found.node.outputs[0]
        assert out.dtype is not None
        array = rounded(found.constant, out.dtype.numpy())
        assert array is not None
        constant = graph.weight(array, f"{out.name}_constant")
        graph.replace(out, graph.add(found.op_type, [found.first.source, constant], like=out, before=found.node))
