"""Normalisation over the last axes, spelled out in means, squares and roots."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import dimensions, rank
from modelopt_cli.passes.fuse.affine import as_float
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import made_by, only_made_for, operands

MEANS = ("ReduceMean", "GlobalAveragePool")
OPSETS = {"LayerNormalization": 17, "RMSNormalization": 23}


@dataclass(frozen=True)
class Found:
    """The last node of the pattern, all of its nodes, what is normalised, and the arguments of the operator.

    ``scale`` and ``bias`` are float64 over the normalised axes; None for 1 and 0.
    """

    last: ir.Node
    nodes: tuple[ir.Node, ...]
    source: ir.Value
    op_type: str
    epsilon: float
    sizes: tuple[int, ...]
    scale: np.ndarray | None
    bias: np.ndarray | None


class RecogniseNorm(Rule[Found]):
    """Give the decomposed normalisation its name (https://arxiv.org/abs/1607.06450, https://arxiv.org/abs/1910.07467).

    c = x - ReduceMean(x);  c / Sqrt(ReduceMean(c^2) + e) * s + b -> LayerNormalization(x, s, b)     (opset 17)
    x / Sqrt(ReduceMean(x^2) + e) * s -> RMSNormalization(x, s)                                       (opset 23)

    In an older opset the pattern is kept whole, because runtimes recognise it themselves.
    """

    name = "recognise-norm"
    roots = frozenset({"Div", "Mul"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        for centred, deviation in quotients(node):
            found = _normalised(node, centred, deviation)
            if found is not None:
                return _with_affine(found)
        return None

    def check(self, found: Found, graph: Editor) -> str | None:
        return check(found, graph)

    def rewrite(self, found: Found, graph: Editor) -> None:
        rewrite(found, graph)


def check(found: Found, graph: Editor) -> str | None:
    """Why the operator cannot be had, if it cannot; the pattern is kept whole then."""
    opset = OPSETS[found.op_type]
    if graph.opset < opset:
        graph.protect(found.nodes)
        graph.wish(opset)
        return f"{found.op_type} is an operator from opset {opset} on; the runtime recognises these nodes itself"
    return None if found.last.outputs[0].dtype is not None else "its type is not known"


def rewrite(found: Found, graph: Editor) -> None:
    """Put the operator in the place of the pattern."""
    out = found.last.outputs[0]
    assert out.dtype is not None
    dtype = out.dtype.numpy()
    scale = np.ones(found.sizes) if found.scale is None else found.scale
    inputs = [found.source, graph.weight(scale.astype(dtype), f"{out.name}_scale")]
    if found.bias is not None:
        inputs.append(graph.weight(found.bias.astype(dtype), f"{out.name}_bias"))
    attributes: dict[str, object] = {"axis": -len(found.sizes), "epsilon": found.epsilon}
    graph.replace(out, graph.add(found.op_type, inputs, like=out, before=found.last, attributes=attributes))


def quotients(node: ir.Node) -> list[tuple[ir.Value, ir.Node]]:
    """``a`` and the node of the root that it is divided by: ``a / Sqrt(v)``, ``a * (1 / Sqrt(v))``."""
    a, b = node.inputs[0], node.inputs[1]
    if a is None or b is None:
        return []
    if node.op_type == "Div":
        root = only_made_for(b, node, "Sqrt", "Pow")
        return [(a, root)] if root is not None and _is_root(root, 0.5) else []
    found = []
    for value, inverse in operands(node):
        divided = only_made_for(inverse, node, "Reciprocal", "Div", "Pow")
        if divided is None or (divided.op_type == "Div" and edit.scalar(divided.inputs[0]) != 1.0):
            continue
        if divided.op_type == "Pow":
            if _is_root(divided, -0.5):
                found.append((value, divided))
            continue
        root = only_made_for(divided.inputs[-1], divided, "Sqrt")
        if root is not None:
            found.append((value, root))
    return found


def _is_root(node: ir.Node, exponent: float) -> bool:
    return node.op_type == "Sqrt" or edit.scalar(node.inputs[1]) == exponent


def _normalised(node: ir.Node, centred: ir.Value, root: ir.Node) -> Found | None:
    add = only_made_for(root.inputs[0], root, "Add")
    if add is None:
        return None
    for mean, epsilon in operands(add):
        number = edit.scalar(epsilon)
        reduced = only_made_for(mean, add, *MEANS)
        if number is None or reduced is None or number <= 0:
            continue
        square = only_made_for(reduced.inputs[0], reduced, "Pow", "Mul")
        sizes = averaged(reduced, centred)
        if square is None or sizes is None or not is_square(square, centred):
            continue
        nodes = (node, root, add, reduced, square)
        subtract = made_by(centred, "Sub")
        if subtract is not None and (source := _centred(subtract, len(sizes), nodes)) is not None:
            return Found(node, (*nodes, subtract), source, "LayerNormalization", number, sizes, None, None)
        return Found(node, nodes, centred, "RMSNormalization", number, sizes, None, None)
    return None


def is_square(node: ir.Node, value: ir.Value) -> bool:
    if node.inputs[0] is not value:
        return False
    return node.inputs[1] is value if node.op_type == "Mul" else edit.scalar(node.inputs[1]) == 2.0


def _centred(subtract: ir.Node, count: int, readers: tuple[ir.Node, ...]) -> ir.Value | None:
    """The x of ``x - ReduceMean(x)`` over as many last axes, when nothing else reads the difference."""
    source, mean = subtract.inputs[0], only_made_for(subtract.inputs[1], subtract, *MEANS)
    if source is None or mean is None or mean.inputs[0] is not source:
        return None
    sizes = averaged(mean, source)
    others = [usage.node for usage in subtract.outputs[0].uses() if usage.node not in readers]
    if sizes is None or len(sizes) != count or others or subtract.outputs[0].is_graph_output():
        return None
    return source


def averaged(mean: ir.Node, value: ir.Value) -> tuple[int, ...] | None:
    """Sizes of the axes of ``value`` over which the mean is taken, when these are the last ones, known and kept."""
    dims = dimensions(value)
    axes: list[int] = list(mean.attributes.get_ints("axes", ()))
    if len(mean.inputs) > 1 and (array := edit.constant(mean.inputs[1])) is not None:
        axes = [int(axis) for axis in array.reshape(-1)]
    if mean.op_type == "GlobalAveragePool":  # as tf2onnx writes the mean over the last axis of [batch, tokens, width]
        axes = list(range(2, len(dims or ())))
    if not dims or not axes or mean.attributes.get_int("keepdims", 1) != 1:
        return None
    if sorted(axis % len(dims) for axis in axes) != list(range(len(dims) - len(axes), len(dims))):
        return None
    sizes = tuple(size for size in dims[len(dims) - len(axes) :] if isinstance(size, int))
    return sizes if len(sizes) == len(axes) else None


def _with_affine(found: Found) -> Found:
    """The pattern with the Mul and, where the operator has a bias, the Add of constants behind it."""
    last, nodes, values = found.last, list(found.nodes), [found.scale, found.bias]
    for index, op_type in enumerate(("Mul", "Add")):
        reader = edit.only_reader(last.outputs[0])
        if reader is None or reader.op_type != op_type or (op_type == "Add" and found.op_type == "RMSNormalization"):
            continue
        other = reader.inputs[1] if reader.inputs[0] is last.outputs[0] else reader.inputs[0]
        constant = over(found.sizes, as_float(edit.constant(other)))
        if constant is None or rank(reader.outputs[0]) != rank(found.source):
            continue
        values[index] = constant
        last = reader
        nodes.append(reader)
    return Found(
        last, tuple(nodes), found.source, found.op_type, found.epsilon, found.sizes, scale=values[0], bias=values[1]
    )


def over(sizes: tuple[int, ...], constant: np.ndarray | None) -> np.ndarray | None:
    """A constant as an array of the normalised sizes, when it does not vary over other axes."""
    if constant is None or constant.size > math.prod(sizes) or any(s != 1 for s in constant.shape[: -len(sizes)]):
        return None
    inner = constant.reshape(constant.shape[-len(sizes) :] if constant.ndim > len(sizes) else constant.shape)
    return np.ascontiguousarray(np.broadcast_to(inner, sizes))
