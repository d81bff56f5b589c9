"""Clipping twice is clipping once, to the common range, and a minimum or maximum with a number is clipping."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.affine import keeps_shape
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import clip_bounds, only_made_for, operands

CLIP_INPUTS_OPSET = 11
CLIPPED = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE})


@dataclass(frozen=True)
class Found:
    """The second node, what the first one reads, and the bounds of both together."""

    node: ir.Node
    source: ir.Value
    low: float
    high: float


class MergeClips(Rule[Found]):
    """Clip(Clip(x, a, b), c, d) -> Clip(x, clip(a, c, d), clip(b, c, d)), with Relu as Clip(x, 0, inf)."""

    name = "merge-clips"
    roots = frozenset({"Clip", "Relu"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        first = only_made_for(node.inputs[0], node, "Clip", "Relu")
        inner, outer = clip_bounds(first), clip_bounds(node)
        if first is None or inner is None or outer is None or first.inputs[0] is None:
            return None
        low, high = (min(max(bound, outer[0]), outer[1]) for bound in inner)
        return Found(node, first.inputs[0], low, high)

    def check(self, found: Found, graph: Editor) -> str | None:
        if graph.opset < CLIP_INPUTS_OPSET:
            return f"Clip has its bounds as inputs from opset {CLIP_INPUTS_OPSET} on"
        return None if found.node.outputs[0].dtype is not None else "its type is not known"

    def rewrite(self, found: Found, graph: Editor) -> None:
        _clip(found.node, found.source, found.low, found.high, graph)


def _clip(node: ir.Node, source: ir.Value, low: float, high: float, graph: Editor) -> None:
    """Let a Clip of ``source``, or a Relu, do what ``node`` does."""
    out = node.outputs[0]
    assert out.dtype is not None
    if (low, high) == (0.0, np.inf):
        graph.replace(out, graph.add("Relu", [source], like=out, before=node))
        return
    dtype = out.dtype.numpy()
    bounds = [
        graph.weight(np.array(bound, dtype=dtype), f"{out.name}_bound") if np.isfinite(bound) else None
        for bound in (low, high)
    ]
    graph.replace(out, graph.add("Clip", [source, *bounds], like=out, before=node))


@dataclass(frozen=True)
class FoundBound:
    """The Max or Min, what is bounded, and the bound."""

    node: ir.Node
    source: ir.Value
    bound: float


class RecogniseClip(Rule[FoundBound]):
    """Max(x, 0) -> Relu(x), Max(x, a) -> Clip(x, a), Min(x, b) -> Clip(x, max = b), for numbers a and b."""

    name = "recognise-clip"
    roots = frozenset({"Max", "Min"})

    def match(self, node: ir.Node, graph: Editor) -> FoundBound | None:
        if len(node.inputs) != 2 or node.outputs[0].dtype not in CLIPPED:
            return None
        for source, bound in operands(node):
            array = edit.constant(bound)
            if array is not None and array.size == 1 and keeps_shape(array, source):
                return FoundBound(node, source, float(array.reshape(())))
        return None

    def check(self, found: FoundBound, graph: Editor) -> str | None:
        if graph.opset < CLIP_INPUTS_OPSET:
            return f"Clip has its bounds as inputs from opset {CLIP_INPUTS_OPSET} on"
        return None

    def rewrite(self, found: FoundBound, graph: Editor) -> None:
        low, high = (found.bound, np.inf) if found.node.op_type == "Max" else (-np.inf, found.bound)
        _clip(found.node, found.source, low, high, graph)
