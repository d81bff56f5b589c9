"""Shape arithmetic whose result is known becomes a constant."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.shapes import rank
from modelopt_cli.passes.fuse.engine import Editor, Rule


class KnownIntegers(Rule[ir.Value]):
    """Replace integers that follow from known dimensions.

    Gather(Shape(x: [n, 3, 224, 224]), 2) -> 224
    """

    name = "known-integers"
    roots = frozenset(
        {"Shape", "Size", "Gather", "Concat", "Slice", "Cast", "Squeeze", "Unsqueeze", "Add", "Sub", "Mul", "Div"}
    )

    def match(self, node: ir.Node, graph: Editor) -> ir.Value | None:
        value = node.outputs[0]
        if value.dtype not in (ir.DataType.INT64, ir.DataType.INT32) or rank(value) not in (0, 1):
            return None
        numbers = graph.shapes.numbers(value)
        return value if numbers is not None and not value.is_graph_output() else None

    def rewrite(self, found: ir.Value, graph: Editor) -> None:
        numbers = graph.shapes.numbers(found)
        assert numbers is not None and found.dtype is not None
        array = np.array(numbers, dtype=found.dtype.numpy())
        shape = (len(numbers),) if rank(found) == 1 else ()
        graph.replace(found, graph.weight(array.reshape(shape), found.name or "integers"))
