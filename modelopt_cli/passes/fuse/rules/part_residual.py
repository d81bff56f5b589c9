"""A residual Add in front of a LayerNormalization, kept from a fusion that makes it slower."""

from __future__ import annotations

import onnx_ir as ir

from modelopt_cli.graph.residual import FIRST_OPSET, is_residual
from modelopt_cli.passes.fuse.engine import Editor, Rule


class PartResidual(Rule[ir.Node]):
    """Write the sum so that onnxruntime's CPU does not make it SkipLayerNormalization (see `graph.residual`).

    Add(x, skip) -> LayerNormalization   =>   Sum(x, skip) -> LayerNormalization

    The last rule of all, because others look for Add; passes that quantize take it back where the Add becomes integer.
    """

    name = "part-residual"
    roots = frozenset({"Add"})

    def match(self, node: ir.Node, graph: Editor) -> ir.Node | None:
        return node if graph.opset >= FIRST_OPSET and is_residual(node) else None

    def rewrite(self, found: ir.Node, graph: Editor) -> None:
        found.op_type = "Sum"
