"""A line with a bend at 0: LeakyRelu, and PRelu where the slope varies over channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import rank
from modelopt_cli.passes.fuse.affine import keeps_shape, read_affine
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import made_by, only_made_for, operands


@dataclass(frozen=True)
class Found:
    """The last node, x, and the slope left of 0, broadcastable to x."""

    node: ir.Node
    source: ir.Value
    slope: np.ndarray


class RecogniseLeakyRelu(Rule[Found]):
    """Give the decomposed activation its name.

    Max(x, a x) -> LeakyRelu(x, a)                      (0 <= a <= 1)
    Where(x > 0, x, a x) -> LeakyRelu(x, a), or PRelu(x, a)                     (also >=, and < and <= the other way)
    Relu(x) + (-a) Relu(-x) -> LeakyRelu(x, a), or PRelu(x, a) where a is no number
    """

    name = "recognise-leaky-relu"
    roots = frozenset({"Max", "Add", "Sub", "Where"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        if node.op_type == "Where":
            return _of_halves_chosen(node)
        if len(node.inputs) != 2:
            return None
        return _of_max(node) if node.op_type == "Max" else _of_halves(node)

    def check(self, found: Found, graph: Editor) -> str | None:
        if not keeps_shape(found.slope, found.source):
            return "the slope has more dimensions than what it is multiplied with"
        return None if found.node.outputs[0].dtype is not None else "its type is not known"

    def rewrite(self, found: Found, graph: Editor) -> None:
        out = found.node.outputs[0]
        assert out.dtype is not None
        if found.slope.size == 1:
            attributes: dict[str, object] = {"alpha": float(found.slope.reshape(()))}
            result = graph.add("LeakyRelu", [found.source], like=out, before=found.node, attributes=attributes)
        else:
            slope = graph.weight(found.slope.astype(out.dtype.numpy()), f"{out.name}_slope")
            result = graph.add("PRelu", [found.source, slope], like=out, before=found.node)
        graph.replace(out, result)


def _of_max(node: ir.Node) -> Found | None:
    for source, scaled in operands(node):
        affine = read_affine(only_made_for(scaled, node, "Mul"))
        if affine is None or affine.source is not source or affine.scale is None or affine.scale.size != 1:
            continue
        if 0.0 <= float(affine.scale.reshape(())) <= 1.0 and affine.scale.ndim <= (rank(source) or 0):
            return Found(node, source, affine.scale)
    return None


def _of_halves(node: ir.Node) -> Found | None:
    """``Relu(x)`` and a multiple of ``Relu(-x)``, added or subtracted."""
    pairs = operands(node) if node.op_type == "Add" else [(node.inputs[0], node.inputs[1])]
    for positive, negative in pairs:
        relu = only_made_for(positive, node, "Relu")
        if relu is None or relu.inputs[0] is None or negative is None:
            continue
        factor, value, reader = np.array(1.0 if node.op_type == "Add" else -1.0), negative, node
        affine = read_affine(only_made_for(negative, node, "Mul", "Neg", "Div"))
        if affine is not None and affine.scale is not None:
            factor, value, reader = factor * affine.scale, affine.source, affine.node
        other = only_made_for(value, reader, "Relu")
        mirrored = None if other is None else made_by(other.inputs[0], "Neg", "Mul")
        line = read_affine(mirrored)
        if line is None or line.source is not relu.inputs[0] or line.scale is None or line.offset is not None:
            continue
        if np.all(line.scale == -1.0) and edit.only_reader(line.node.outputs[0]) is other:
            return Found(node, line.source, -factor)
    return None


def _of_halves_chosen(node: ir.Node) -> Found | None:
    condition, one, other = node.inputs
    compared = only_made_for(condition, node, "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    if compared is None or edit.scalar(compared.inputs[1]) != 0.0:
        return None
    positive, negative = (one, other) if compared.op_type.startswith("Greater") else (other, one)
    affine = read_affine(only_made_for(negative, node, "Mul", "Div"))
    if positive is None or affine is None or affine.source is not positive or compared.inputs[0] is not positive:
        return None
    return Found(node, positive, affine.scale) if affine.scale is not None else None
