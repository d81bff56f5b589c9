"""The Euclidean length along axes, spelled out as the root of a sum of squares."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import only_made_for
from modelopt_cli.passes.fuse.rules.recognise_norm import is_square

AXES_OPSET = 18  # from here on ReduceL2 reads its axes as ReduceSum does since 13


@dataclass(frozen=True)
class Found:
    """The root, the sum below it, and what is squared."""

    node: ir.Node
    reduced: ir.Node
    source: ir.Value


class RecogniseL2(Rule[Found]):
    """Sqrt(ReduceSum(x * x)) -> ReduceL2(x);  Sqrt(ReduceSumSquare(x)) -> ReduceL2(x)"""

    name = "recognise-l2"
    roots = frozenset({"Sqrt"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        reduced = only_made_for(node.inputs[0], node, "ReduceSum", "ReduceSumSquare")
        if reduced is None or reduced.inputs[0] is None:
            return None
        if reduced.op_type == "ReduceSumSquare":
            return Found(node, reduced, reduced.inputs[0])
        square = only_made_for(reduced.inputs[0], reduced, "Mul", "Pow")
        source = None if square is None else square.inputs[0]
        return Found(node, reduced, source) if square and source and is_square(square, source) else None

    def check(self, found: Found, graph: Editor) -> str | None:
        if found.source.dtype is None or not found.source.dtype.is_floating_point():
            return "it is not known to be of floating point"
        if graph.opset < AXES_OPSET and len(found.reduced.inputs) > 1:
            return None if graph.shapes.numbers(found.reduced.inputs[1]) else "its axes are computed"
        return None

    def rewrite(self, found: Found, graph: Editor) -> None:
        out, reduced = found.node.outputs[0], found.reduced
        attributes: dict[str, object] = {"keepdims": reduced.attributes.get_int("keepdims", 1)}
        axes = reduced.attributes.get_ints("axes", ())
        inputs: list[ir.Value | None] = [found.source]
        if graph.opset >= AXES_OPSET:
            inputs.extend(reduced.inputs[1:])
            if reduced.attributes.get_int("noop_with_empty_axes", 0):
                attributes["noop_with_empty_axes"] = 1
        elif len(reduced.inputs) > 1:
            axes = graph.shapes.numbers(reduced.inputs[1]) or ()
        if axes:
            attributes["axes"] = list(axes)
        graph.replace(out, graph.add("ReduceL2", inputs, like=out, before=found.node, attributes=attributes))
