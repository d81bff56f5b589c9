"""Constant arithmetic after a convolution or matrix product goes into its weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.affine import AFFINE_OPS, channel_vector, read_affine
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.linear import LINEAR_OPS, Linear, fits, read_linear, refusal, write


@dataclass(frozen=True)
class Found:
    """The linear node, the end of the chain of affine nodes, and what they do together."""

    linear: Linear
    chain: tuple[ir.Node, ...]
    scale: np.ndarray
    offset: np.ndarray
    blocked: str | None


class FoldAffineAfter(Rule[Found]):
    """Fold a whole chain of constant Mul, Add, Sub, Div, Neg and BatchNormalization backward.

    s * (W x + b) + o -> (s W) x + (s b + o)

    MatMul has no bias: there the scale is folded and one Add remains.
    """

    name = "fold-affine-after"
    roots = LINEAR_OPS

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        if not any(usage.node.op_type in AFFINE_OPS for usage in node.outputs[0].uses()):
            return None
        linear = read_linear(node)
        if linear is None:
            return None
        found = _follow(linear)
        if found.chain or found.blocked:
            return None if _is_only_bias(found) else found
        return None

    def check(self, found: Found, graph: Editor) -> str | None:
        if not found.chain:
            return found.blocked
        if (reason := refusal(found.linear)) is not None and not _is_offset(found):
            return reason
        weight, bias = found.linear.scaled_output(found.scale, found.offset)
        return None if fits(found.linear, weight, bias) else "the folded weight does not fit its type"

    def rewrite(self, found: Found, graph: Editor) -> None:
        linear, last = found.linear, found.chain[-1]
        weight, bias = linear.scaled_output(found.scale, found.offset)
        new_weight = None if _is_offset(found) else weight
        out = linear.node.outputs[0]
        if linear.takes_bias:
            write(linear, graph, new_weight, bias)
            graph.replace(last.outputs[0], out)
            return
        write(linear, graph, new_weight, None)
        if np.any(bias):
            offset = graph.weight(bias.astype(linear.stored.dtype), f"{out.name}_bias")
            out = graph.add("Add", [out, offset], like=last.outputs[0], before=found.chain[0])
        graph.replace(last.outputs[0], out)


def _follow(linear: Linear) -> Found:
    scale, offset = np.ones(linear.outputs), np.zeros(linear.outputs)
    chain: list[ir.Node] = []
    value = linear.node.outputs[0]
    blocked = None
    while True:
        reader = edit.only_reader(value)
        affine = read_affine(reader)
        if affine is None or affine.source is not value or reader is None:
            blocked = _why_stopped(value) if not chain else None
            break
        s, o = (
            channel_vector(array, linear.rank, linear.axis, linear.outputs, default)
            for array, default in ((affine.scale, 1.0), (affine.offset, 0.0))
        )
        if s is None or o is None:
            break
        scale, offset = scale * s, offset * s + o
        chain.append(reader)
        value = reader.outputs[0]
    return Found(linear, tuple(chain), scale, offset, blocked)


def _why_stopped(value: ir.Value) -> str | None:
    """A reason worth telling: every reader is affine, but there are several, or the value leaves the model."""
    readers = [usage.node for usage in value.uses()]
    affine = [node for node in readers if read_affine(node) is not None]
    if not affine or len(affine) < len(readers):
        return None
    if value.is_graph_output():
        return f"what {affine[0].op_type} would be folded into is an output of the model"
    return "its output is read by several nodes" if len(readers) > 1 else None


def _is_only_bias(found: Found) -> bool:
    """A MatMul with its bias already is what this rule would make of it."""
    return not found.linear.takes_bias and len(found.chain) == 1 and found.chain[0].op_type == "Add"


def _is_offset(found: Found) -> bool:
    return bool(np.all(found.scale == 1.0))
