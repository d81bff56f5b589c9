"""A value plus its gated self is gated by one more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.linear import Linear, fits, read_linear, write
from modelopt_cli.passes.fuse.pattern import clip_bounds, only_made_for, operands


@dataclass(frozen=True)
class Found:
    """The Add, x, the gate's Clip with its bounds, and the linear node under it."""

    node: ir.Node
    source: ir.Value
    clip: ir.Node
    bounds: tuple[float, float]
    linear: Linear


class MergeGatedResidual(Rule[Found]):
    """Move the residual of a squeeze-and-excite block into the bias of its gate.

    x + x * Clip(W y + b, lo, hi) -> x * Clip(W y + (b + 1), lo + 1, hi + 1)
    """

    name = "merge-gated-residual"
    roots = frozenset({"Add"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        for source, product in operands(node):
            gated = only_made_for(product, node, "Mul")
            if gated is None:
                continue
            for same, gate in operands(gated):
                clip = only_made_for(gate, gated, "Clip")
                bounds = clip_bounds(clip)
                if same is not source or clip is None or bounds is None or not np.isfinite(bounds).all():
                    continue
                before = clip.inputs[0].producer() if clip.inputs[0] is not None else None
                linear = read_linear(before)
                if linear is not None and linear.takes_bias and edit.only_reader(linear.node.outputs[0]) is clip:
                    return Found(node, source, clip, bounds, linear)
        return None

    def check(self, found: Found, graph: Editor) -> str | None:
        if len(found.clip.inputs) < 3:
            return "the bounds of the Clip are attributes of an old opset"
        return None if fits(found.linear, None, _bias(found)) else "the new bias does not fit its type"

    def rewrite(self, found: Found, graph: Editor) -> None:
        write(found.linear, graph, None, _bias(found))
        out, gate = found.node.outputs[0], found.clip.outputs[0]
        assert out.dtype is not None
        for index, bound in enumerate(found.bounds, start=1):
            moved = graph.weight(np.array(bound + 1, dtype=out.dtype.numpy()), f"{gate.name}_bound")
            graph.set_input(found.clip, index, moved)
        graph.replace(out, graph.add("Mul", [found.source, gate], like=out, before=found.node))


def _bias(found: Found) -> np.ndarray:
    return found.linear.scaled_output(np.ones(found.linear.outputs), np.ones(found.linear.outputs))[1]
