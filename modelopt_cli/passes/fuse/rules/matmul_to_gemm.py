"""A matrix product with a bias is a Gemm."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import rank
from modelopt_cli.passes.fuse.affine import as_float, channel_vector
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import only_made_for, operands


@dataclass(frozen=True)
class Found:
    """The Add, the MatMul before it, and the bias."""

    node: ir.Node
    product: ir.Node
    bias: ir.Value


class MatMulToGemm(Rule[Found]):
    """MatMul(x, W) + b -> Gemm(x, W, b), for matrices: Gemm knows no batches."""

    name = "matmul-to-gemm"
    roots = frozenset({"Add"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        for product, bias in operands(node):
            matmul = only_made_for(product, node, "MatMul")
            if matmul is not None and as_float(edit.constant(bias)) is not None:
                return Found(node, matmul, bias)
        return None

    def check(self, found: Found, graph: Editor) -> str | None:
        weight, bias = edit.constant(found.product.inputs[1]), edit.constant(found.bias)
        if weight is None or bias is None or weight.ndim != 2 or rank(found.product.inputs[0]) != 2:
            return "it is not a product of matrices with a constant weight"
        if channel_vector(as_float(bias), 2, 1, weight.shape[1], 0.0) is None:
            return "the bias is not one number per output"
        return None

    def rewrite(self, found: Found, graph: Editor) -> None:
        out = found.node.outputs[0]
        inputs = [*found.product.inputs, found.bias]
        graph.replace(out, graph.add("Gemm", inputs, like=out, before=found.node))
