"""Normalisation over the last axes as a scale and a shift that are made of the moments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import rank
from modelopt_cli.passes.fuse.affine import as_float
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import made_by, operands
from modelopt_cli.passes.fuse.rules import recognise_norm
from modelopt_cli.passes.fuse.rules.recognise_norm import MEANS, Found, averaged, is_square, over

Constant = np.ndarray | None  # float64, broadcastable over the value


@dataclass(frozen=True)
class _Scale:
    """``gain / Sqrt(Mean((x - mean)^2) + epsilon)``."""

    mean: ir.Node
    epsilon: float
    gain: Constant
    nodes: tuple[ir.Node, ...]


class RecogniseMoments(Rule[Found]):
    """Give the normalisation its name where TensorFlow has folded mean, deviation, gain and bias into two terms.

    m = Mean(x);  r = g / Sqrt(Mean((x - m)^2) + e);  x * r + (b - m * r) -> LayerNormalization(x, g, b)   (opset 17)

    As tf.nn.batch_normalization computes it, which Keras calls for its LayerNormalization.
    """

    name = "recognise-moments"
    roots = frozenset({"Add", "Sub"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        for product, rest, sign in _terms(node):
            for x, scale in operands(product):
                found = _scale(scale, x)
                shift = None if found is None else _shift(rest, sign, found, scale)
                if found is None or shift is None:
                    continue
                bias, nodes = shift
                result = _found(node, x, found, bias, (product, *nodes))
                if result is not None:
                    return result
        return None

    def check(self, found: Found, graph: Editor) -> str | None:
        return recognise_norm.check(found, graph)

    def rewrite(self, found: Found, graph: Editor) -> None:
        recognise_norm.rewrite(found, graph)


def _found(node: ir.Node, x: ir.Value, scale: _Scale, bias: Constant, others: tuple[ir.Node, ...]) -> Found | None:
    sizes = averaged(scale.mean, x)
    if sizes is None or rank(node.outputs[0]) != rank(x):
        return None
    arrays = [None if array is None else over(sizes, array) for array in (scale.gain, bias)]
    if any(array is None and given is not None for array, given in zip(arrays, (scale.gain, bias), strict=True)):
        return None
    nodes = (node, *others, *scale.nodes)
    inner = [out for each in nodes[1:] for out in each.outputs]
    if any(out.is_graph_output() or any(usage.node not in nodes for usage in out.uses()) for out in inner):
        return None
    return Found(node, nodes, x, "LayerNormalization", scale.epsilon, sizes, *arrays)


def _terms(node: ir.Node) -> Iterator[tuple[ir.Node, ir.Value, int]]:
    """The product and what is added to it (1) or taken from it (-1)."""
    pairs = operands(node) if node.op_type == "Add" else ((node.inputs[0], node.inputs[1]),)
    for first, rest in pairs:
        product = made_by(first, "Mul")
        if product is not None and rest is not None:
            yield product, rest, 1 if node.op_type == "Add" else -1


def _scale(value: ir.Value | None, x: ir.Value) -> _Scale | None:
    """What ``x`` is multiplied with, when it is one over its deviation, times a constant."""
    node, gain = made_by(value, "Mul"), None
    nodes: tuple[ir.Node, ...] = ()
    if node is not None:
        found = [(inner, array) for inner, other in operands(node) if (array := edit.constant(other)) is not None]
        if len(found) != 1:
            return None
        value, gain = found[0][0], as_float(found[0][1])
        nodes = (node,)
    inverse = made_by(value, "Reciprocal", "Div")
    if inverse is None or (inverse.op_type == "Div" and edit.scalar(inverse.inputs[0]) != 1.0):
        return None
    root = made_by(inverse.inputs[-1], "Sqrt")
    add = None if root is None else made_by(root.inputs[0], "Add")
    if root is None or add is None:
        return None
    for variance, epsilon in operands(add):
        number, reduced = edit.scalar(epsilon), made_by(variance, *MEANS)
        square = None if reduced is None else made_by(reduced.inputs[0], "Mul", "Pow")
        centred = None if square is None else made_by(square.inputs[0], "Sub")
        if reduced is None or square is None or centred is None or number is None or number <= 0:
            continue
        mean = _mean_of(centred, x)
        if mean is None or not is_square(square, centred.outputs[0]) or averaged(reduced, x) != averaged(mean, x):
            continue
        return _Scale(mean, number, gain, (*nodes, inverse, root, add, reduced, square, centred, mean))
    return None


def _mean_of(centred: ir.Node, x: ir.Value) -> ir.Node | None:
    """The mean in ``x - mean`` or ``mean - x``, whose squares are the same."""
    for index in (0, 1):
        mean = made_by(centred.inputs[1 - index], *MEANS)
        if centred.inputs[index] is x and mean is not None and mean.inputs[0] is x:
            return mean
    return None


def _shift(value: ir.Value, sign: int, scale: _Scale, factor: ir.Value) -> tuple[Constant, tuple[ir.Node, ...]] | None:
    """The constant in ``sign * value = constant - mean * factor``, None for 0, and the nodes of it."""
    node = made_by(value, "Add", "Sub", "Neg", "Mul")
    if node is None:
        return None
    if node.op_type == "Mul":
        for one, other in operands(node):
            if other is factor and one is scale.mean.outputs[0]:
                return (None, (node,)) if sign < 0 else None
            negative = made_by(one, "Neg")
            if other is factor and negative is not None and negative.inputs[0] is scale.mean.outputs[0]:
                return (None, (node, negative)) if sign > 0 else None
        return None
    if node.op_type == "Neg":
        assert node.inputs[0] is not None
        found = _shift(node.inputs[0], -sign, scale, factor)
        return None if found is None else (found[0], (node, *found[1]))
    for index in (0, 1):
        constant, rest = as_float(edit.constant(node.inputs[index])), node.inputs[1 - index]
        if constant is None or rest is None:
            continue
        of_other, of_constant = (1, 1) if node.op_type == "Add" else ((-1, 1) if index == 0 else (1, -1))
        found = _shift(rest, sign * of_other, scale, factor)
        if found is not None:
            bias = constant * (sign * of_constant)
            return bias if found[0] is None else bias + found[0], (node, *found[1])
    return None
