"""A node that may keep or drop axes needs no other one to bring them back or to drop them."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import rank
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import only_made_for

REDUCING = frozenset({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"})
ARGUMENTS = frozenset({"ArgMax", "ArgMin"})


@dataclass(frozen=True)
class Found:
    """The Squeeze or Unsqueeze, and the node before it."""

    node: ir.Node
    before: ir.Node


class KeepAxes(Rule[Found]):
    """Keep or drop axes where they are reduced or taken.

    Unsqueeze(ReduceMean(x, a, keepdims = 0), a) -> ReduceMean(x, a, keepdims = 1), and with Squeeze the other way round
    Unsqueeze(Gather(x, i, a), a) -> Gather(x, [i], a), and with Squeeze the other way round
    """

    name = "keep-axes"
    roots = frozenset({"Squeeze", "Unsqueeze"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        before = only_made_for(node.inputs[0], node, "Gather", *REDUCING, *ARGUMENTS)
        dims = None if before is None else rank(before.inputs[0])
        if before is None or dims is None:
            return None
        squeezes = node.op_type == "Squeeze"
        given = graph.shapes.numbers(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get_ints("axes", ())
        axes = None if not given else {axis % dims for axis in given}
        if before.op_type == "Gather":
            return Found(node, before) if _takes_one(before, squeezes) and axes == _gathered(before, dims) else None
        keeps = bool(before.attributes.get_int("keepdims", 1))
        return Found(node, before) if keeps == squeezes and axes == _reduced(before, dims, graph) else None

    def rewrite(self, found: Found, graph: Editor) -> None:
        out, before = found.node.outputs[0], found.before
        inputs, attributes = list(before.inputs), {**before.attributes}
        squeezes = found.node.op_type == "Squeeze"
        written: dict[str, object] = {**attributes}
        if before.op_type == "Gather":
            index = edit.constant(inputs[1])
            assert index is not None
            inputs[1] = graph.weight(index.reshape(() if squeezes else (1,)), f"{out.name}_index")
        else:
            written["keepdims"] = 0 if squeezes else 1
        graph.replace(out, graph.add(before.op_type, inputs, like=out, before=found.node, attributes=written))


def _takes_one(gather: ir.Node, as_axis: bool) -> bool:
    """Whether it takes one element, as an axis of one or without it."""
    index = edit.constant(gather.inputs[1])
    return index is not None and index.size == 1 and index.ndim == int(as_axis)


def _gathered(gather: ir.Node, dims: int) -> set[int]:
    return {gather.attributes.get_int("axis", 0) % dims}


def _reduced(node: ir.Node, dims: int, graph: Editor) -> set[int] | None:
    if node.op_type in ARGUMENTS:
        return {node.attributes.get_int("axis", 0) % dims}
    given = node.inputs[1] if len(node.inputs) > 1 else None
    axes = graph.shapes.numbers(given) if given is not None else tuple(node.attributes.get_ints("axes", ()))
    return {axis % dims for axis in axes} if axes else None
