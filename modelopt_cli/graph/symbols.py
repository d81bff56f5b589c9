"""Names of dimensions that onnx's inference gives up on: what a Reshape leaves for -1, the length of a Range."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from modelopt_cli.graph.arithmetic import ShapeArithmetic, product, quotient
from modelopt_cli.graph.bounds import settled
from modelopt_cli.graph.shapes import Elements, broadcast, dimensions

Follow = Callable[[ShapeArithmetic, ir.Node], Elements | None]


def follow_symbols(graph: ir.Graph, refine: Callable[[ir.Value, Elements], bool]) -> bool:
    """Go through the nodes in order and tell ``refine`` what is known of outputs with unknown dimensions.

    Returns:
        Whether ``refine`` said of any that it is news.
    """
    known, news = ShapeArithmetic(), False
    for node in graph:
        follow = _FOLLOW.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        out = node.outputs[0] if node.outputs else None
        if follow is None or out is None or out.is_graph_output():
            continue
        before = dimensions(out)
        if before is not None and None not in before:
            continue
        dims = follow(known, node)
        if dims is not None and (before is None or len(before) == len(dims)):
            news = refine(out, dims) or news
    return news


def _reshape(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    before, target = dimensions(node.inputs[0]), known.elements(node.inputs[1])
    if target is None or node.attributes.get_int("allowzero", 0) != 0:
        return None
    dims = list(target)
    for axis, size in enumerate(target):
        if size == 0:
            dims[axis] = before[axis] if before is not None and axis < len(before) else None
    if target.count(-1) == 1:
        rest = product(size for size in dims if size != -1)
        dims[target.index(-1)] = None if before is None else quotient(product(before), rest)
    return tuple(dims)


def _range(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    start, limit, step = (known.elements(value) for value in node.inputs)
    counts = start == (0,) and step == (1,) and limit is not None and len(limit) == 1
    return limit if counts else None


def _same(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    return dimensions(node.inputs[0])


def _broadcast(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    return broadcast(settled(known, node.inputs))


def _expand(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    target = known.elements(node.inputs[1])
    return None if target is None else broadcast((*settled(known, node.inputs[:1], target), target))


def _transpose(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    before, perm = dimensions(node.inputs[0]), node.attributes.get_ints("perm", ())
    return None if before is None or len(perm) != len(before) else tuple(before[axis] for axis in perm)


def _matmul(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    a, b = dimensions(node.inputs[0]), dimensions(node.inputs[1])
    if a is None or b is None or min(len(a), len(b)) < 2:
        return None
    batch = broadcast((a[:-2], b[:-2]))
    return None if batch is None else (*batch, a[-2], b[-1])


def _slice(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    """The axes that are not cut."""
    data = dimensions(node.inputs[0])
    axes = known.numbers(node.inputs[3]) if len(node.inputs) > 3 else node.attributes.get_ints("axes", ())
    if data is None or not axes:
        return None
    cut = {axis % len(data) for axis in axes}
    return tuple(None if axis in cut else size for axis, size in enumerate(data))


def _indices(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    return dimensions(node.inputs[1])


def _gather(known: ShapeArithmetic, node: ir.Node) -> Elements | None:
    data, indices = dimensions(node.inputs[0]), dimensions(node.inputs[1])
    if data is None or indices is None or not data:
        return None
    axis = node.attributes.get_int("axis", 0) % len(data)
    return (*data[:axis], *indices, *data[axis + 1 :])


_SAME = (
    *("Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu", "Mish", "Softplus"),
    *("Erf", "Exp", "Log", "Sqrt", "Neg", "Abs", "Reciprocal", "Not", "Cast", "Identity", "Dropout", "Softmax"),
    *("LogSoftmax", "LayerNormalization", "RMSNormalization"),
)
_BROADCASTING = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Sum", "Equal", "Greater", "Less", "And", "Or", "Where", "Max", "Min"),
)

_FOLLOW: dict[str, Follow] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(_BROADCASTING, _broadcast),
    "Reshape": _reshape,
    "Expand": _expand,
    "Range": _range,
    "Transpose": _transpose,
    "MatMul": _matmul,
    "Gather": _gather,
    "GatherElements": _indices,
    "Slice": _slice,
}
