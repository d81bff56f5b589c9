"""An Expand or a filled tensor before arithmetic that broadcasts anyway is not needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.passes.fuse.broadcasting import BROADCASTING, PASSING, refusal_to_shrink, replace_smaller
from modelopt_cli.passes.fuse.engine import Editor, Rule


@dataclass(frozen=True)
class Found:
    """The Expand, or the ConstantOfShape."""

    node: ir.Node


class DropExpand(Rule[Found]):
    """When every reader's result, or that of its readers, has the same shape without it.

    op(Expand(x, s), y) -> op(x, y);  op(ConstantOfShape(s), y) -> op(number, y)
    """

    name = "drop-expand"
    roots = frozenset({"Expand", "ConstantOfShape"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        out = node.outputs[0]
        readers = [usage.node for usage in out.uses()]
        if out.is_graph_output() or not readers or node.inputs[0] is None:
            return None
        arithmetic = all(reader.op_type in BROADCASTING | PASSING for reader in readers)
        return Found(node) if arithmetic else None

    def check(self, found: Found, graph: Editor) -> str | None:
        return refusal_to_shrink(found.node.outputs[0])

    def rewrite(self, found: Found, graph: Editor) -> None:
        out = found.node.outputs[0]
        source = found.node.inputs[0] if found.node.op_type == "Expand" else _number(found.node, graph)
        assert source is not None
        replace_smaller(out, source)
        graph.replace(out, source)


def _number(node: ir.Node, graph: Editor) -> ir.Value:
    """What a ConstantOfShape is filled with: 0 as float32 where it does not say."""
    attribute = node.attributes.get("value")
    array = np.zeros((), np.float32) if attribute is None else attribute.as_tensor().numpy().reshape(())
    return graph.weight(array, f"{node.outputs[0].name}_number")
