"""How channels pass through weighted sums: convolutions, matrix products, recurrent operators."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelopt_cli.passes.prune.states import GATES
from modelopt_cli.passes.prune.structured.channels import Axis
from modelopt_cli.passes.prune.structured.flow import Flow, Product, Refuse
from modelopt_cli.passes.prune.structured.quantized import stored_weight

Outputs = list[list[Axis] | None]

_KERNEL = "it is a tap of a kernel"


def conv(flow: Flow, node: ir.Node) -> Outputs:
    """X [N, C, ...], W [M, C / groups, taps...], B [M]."""
    _stored(node, 1)
    data, weight = flow.axes(node, 0), flow.axes(node, 1)
    groups = node.attributes.get_int("group", 1)
    flow.hold(weight[2:], _KERNEL)
    rows = weight[0]
    if groups == 1:
        flow.channels.join(data[1], weight[1])
        flow.products.append(Product(node, 1, weight[1], rows))
    elif weight[1].size == 1 or rows.size == groups:
        rows = _whole_groups(flow, node, data[1], weight[0], groups)
        flow.hold(weight[1:2], "it is one of few inputs of a group")
    else:
        _same_in_each(flow, data[1], weight[1], groups)
        _same_in_each(flow, weight[0], flow.channels.fresh((weight[0].size or 0) // groups), groups)
        flow.products.append(Product(node, 1, weight[1], rows))
    if flow.has(node, 2):
        flow.channels.join(rows, flow.axes(node, 2)[0])
    return [_image(flow, node, data, rows)]


def conv_transpose(flow: Flow, node: ir.Node) -> Outputs:
    """X [N, C, ...], W [C, M / groups, taps...], B [M]."""
    _stored(node, 1)
    data, weight = flow.axes(node, 0), flow.axes(node, 1)
    groups = node.attributes.get_int("group", 1)
    flow.hold(weight[2:], _KERNEL)
    if groups == 1:
        flow.channels.join(data[1], weight[0])
        rows = weight[1]
        flow.products.append(Product(node, 1, weight[0], rows))
    else:
        each = weight[1].size or 1
        flow.hold(weight[1:2], "it is one of few outputs of a group")
        rows = flow.channels.fresh(groups * each)
        rows = _whole_groups(flow, node, data[1], rows, groups)
        flow.channels.join(data[1], weight[0])
    if flow.has(node, 2):
        flow.channels.join(rows, flow.axes(node, 2)[0])
    return [_image(flow, node, data, rows)]


def matmul(flow: Flow, node: ir.Node) -> Outputs:
    """A [..., m, k] times B [..., k, n]; a vector has only k."""
    a, b = flow.axes(node, 0), flow.axes(node, 1)
    inner, other = a[-1], b[-2] if len(b) > 1 else b[-1]
    flow.channels.join(inner, other)
    left, right = a[-2:-1], b[-1:] if len(b) > 1 else []
    for index, columns, rows in ((1, other, right), (0, inner, left)):
        if stored_weight(node.inputs[index]) is not None and len((a, b)[index]) == 2 and rows:
            flow.products.append(Product(node, index, columns, rows[0]))
    return [[*flow.broadcast([a[:-2], b[:-2]]), *left, *right]]


def gemm(flow: Flow, node: ir.Node) -> Outputs:
    """A [m, k] (or turned) times B [k, n] (or turned), plus C that broadcasts to [m, n]."""
    a, b = flow.axes(node, 0), flow.axes(node, 1)
    left, inner = (a[1], a[0]) if node.attributes.get_int("transA", 0) else (a[0], a[1])
    right, other = (b[0], b[1]) if node.attributes.get_int("transB", 0) else (b[1], b[0])
    flow.channels.join(inner, other)
    if stored_weight(node.inputs[1]) is not None:
        flow.products.append(Product(node, 1, other, right))
    out = [left, right]
    return [flow.broadcast([out, flow.axes(node, 2)]) if flow.has(node, 2) else out]


def einsum(flow: Flow, node: ir.Node) -> Outputs:
    """One channel axis for each letter."""
    equation = str(node.attributes.get_string("equation", "")).replace(" ", "")
    if "..." in equation or "->" not in equation:
        raise Refuse("an Einsum with an ellipsis or without an arrow")
    terms, result = equation.split("->")
    letters: dict[str, Axis] = {}
    for index, term in enumerate(terms.split(",")):
        for letter, axis in zip(term, flow.axes(node, index), strict=True):
            letters[letter] = flow.broadcast([[letters.get(letter, axis)], [axis]])[0]
    return [[letters[letter] for letter in result]]


def recurrent(flow: Flow, node: ir.Node) -> Outputs:
    """W [directions, gates * H, I], R [.., gates * H, H], B [.., 2 * gates * H]; H units go in both directions."""
    if node.attributes.get_int("layout", 0):
        raise Refuse("a recurrent operator of layout 1")
    _stored(node, 1)
    _stored(node, 2)
    gates, data, weight, back = GATES[node.op_type], flow.axes(node, 0), flow.axes(node, 1), flow.axes(node, 2)
    flow.channels.join(data[2], weight[2])
    flow.hold([weight[0], back[0]], "it is a direction")
    units = back[2]
    assert units.ids is not None or units.size == 1
    for axis, times in ((weight[1], gates), (back[1], gates)):
        _same_in_each(flow, axis, units, times)
    for index, times in ((3, 2 * gates), (7, 3)):
        if flow.has(node, index):
            direction, axis = flow.axes(node, index)
            flow.hold([direction], "it is a direction")
            _same_in_each(flow, axis, units, times)
    for index in (5, 6):
        if flow.has(node, index):
            flow.channels.join(flow.axes(node, index)[2], units)
    flow.units.append(units)
    flow.products.append(Product(node, 1, weight[2], units))
    flow.products.append(Product(node, 2, units, units))
    flow.rewrites.append(lambda kept: _set_int(node, "hidden_size", kept.count(units)))
    states = [Axis(weight[0].size), Axis(None), units]
    outputs: Outputs = [[Axis(None), *states], states, states]
    return outputs[: len(node.outputs)]


def _stored(node: ir.Node, index: int) -> None:
    """Refuse weights that the graph computes: what leaves them cannot be known."""
    if index < len(node.inputs) and node.inputs[index] is not None and stored_weight(node.inputs[index]) is None:
        raise Refuse("its weight is computed by the graph")


def _whole_groups(flow: Flow, node: ir.Node, data: Axis, rows: Axis, groups: int) -> Axis:
    """A group goes with all of its inputs and outputs; returns the outputs."""
    each = flow.channels.fresh(groups)
    assert each.ids is not None
    for axis in (data, rows):
        size = len(axis.ids) if axis.ids is not None else axis.size or 0
        flow.channels.join(axis, Axis(size, np.repeat(each.ids, size // groups)))
    flow.rewrites.append(lambda kept: _set_int(node, "group", kept.count(each)))
    return rows


def _same_in_each(flow: Flow, axis: Axis, part: Axis, times: int) -> None:
    """``axis`` is ``times`` parts in a row; the same positions go in each."""
    ids = None if part.ids is None else np.tile(part.ids, times)
    flow.channels.join(axis, Axis(None if part.size is None else part.size * times, ids, part.why))


def _image(flow: Flow, node: ir.Node, data: list[Axis], rows: Axis) -> list[Axis]:
    sizes = flow.sizes(node.outputs[0]) or (None,) * len(data)
    spatial = [Axis(size if isinstance(size, int) else None) for size in sizes[2:]]
    return [data[0], rows, *spatial]


def _set_int(node: ir.Node, name: str, value: int) -> None:
    if node.attributes.get_int(name, 1) != value:
        node.attributes[name] = ir.AttrInt64(name, value)
