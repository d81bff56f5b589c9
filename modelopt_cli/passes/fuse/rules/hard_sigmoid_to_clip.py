"""A HardSigmoid right after a convolution is a Clip: its line goes into the weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.linear import LINEAR_OPS, Linear, fits, read_linear, refusal, write
from modelopt_cli.passes.fuse.pattern import STANDARD

CLIP_INPUTS_OPSET = 11


@dataclass(frozen=True)
class Found:
    """The HardSigmoid, the linear node before it, and the linear node's new weights."""

    node: ir.Node
    linear: Linear
    weight: np.ndarray
    bias: np.ndarray


class HardSigmoidToClip(Rule[Found]):
    """Leave the clipping only, which runtimes fuse into the convolution and quantizers into its range.

    HardSigmoid(W x + b) -> Clip((alpha W) x + (alpha b + beta), 0, 1)
    """

    name = "hard-sigmoid-to-clip"
    roots = frozenset({"HardSigmoid"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        source = node.inputs[0]
        before = None if source is None else source.producer()
        if before is None or before.op_type not in LINEAR_OPS or before.domain not in STANDARD:
            return None
        if source is None or edit.only_reader(source) is not node or (linear := read_linear(before)) is None:
            return None
        if not linear.takes_bias or node.outputs[0].dtype is None:
            return None
        alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
        weight, bias = linear.scaled_output(np.full(linear.outputs, alpha), np.full(linear.outputs, beta))
        return Found(node, linear, weight, bias)

    def check(self, found: Found, graph: Editor) -> str | None:
        if graph.opset < CLIP_INPUTS_OPSET:
            return f"Clip has its bounds as inputs from opset {CLIP_INPUTS_OPSET} on"
        if not fits(found.linear, found.weight, found.bias):
            return "the folded weight does not fit its type"
        return refusal(found.linear)

    def rewrite(self, found: Found, graph: Editor) -> None:
        write(found.linear, graph, found.weight, found.bias)
        out = found.node.outputs[0]
        assert out.dtype is not None
        bounds = [graph.weight(np.array(b, dtype=out.dtype.numpy()), f"{out.name}_{b}") for b in (0, 1)]
        graph.replace(out, graph.add("Clip", [found.node.inputs[0], *bounds], like=out, before=found.node))
