"""Clipping twice is clipping once, to the common range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import clip_bounds, only_made_for

CLIP_INPUTS_OPSET = 11


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
        out = found.node.outputs[0]
        assert out.dtype is not None
        if (found.low, found.high) == (0.0, float("inf")):
            graph.replace(out, graph.add("Relu", [found.source], like=out, before=found.node))
            return
        dtype = out.dtype.numpy()
        bounds = [
            graph.weight(np.array(bound, dtype=dtype), f"{out.name}_bound") if np.isfinite(bound) else None
            for bound in (found.low, found.high)
        ]
        graph.replace(out, graph.add("Clip", [found.source, *bounds], like=out, before=found.node))
