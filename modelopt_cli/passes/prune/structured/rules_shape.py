"""How channels pass through operators that move them: Reshape, Transpose, Concat, Split, Slice, Gather and the like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import add_weight, constant
from modelopt_cli.passes.prune.structured.channels import Axis
from modelopt_cli.passes.prune.structured.flow import Flow, Kept, Refuse, replace_input
from modelopt_cli.passes.prune.structured.reshape import follow_reshape

Outputs = list[list[Axis] | None]


def reshape(flow: Flow, node: ir.Node) -> Outputs:
    """Axes split and merge; the positive numbers of the target follow the channels."""
    data = flow.axes(node, 0)
    sizes = flow.sizes(node.outputs[0])
    target = flow.array(node, 1)
    if sizes is None:
        raise Refuse("the shape of its result is not known: run fuse first")
    out = follow_reshape(flow, node, data, [s if isinstance(s, int) else None for s in sizes], target)
    if not any(axis.ids is not None for axis in out):
        return [out]
    if target is None:
        _rewrite_computed_target(flow, node, out, sizes)
        return [out]
    wanted = target.reshape(-1).tolist()

    def make(kept: Kept) -> np.ndarray:
        new = list(wanted)
        for place, axis in enumerate(out):
            if kept.changes(axis) and wanted[place] != -1:
                new[place] = kept.count(axis)
        return np.asarray(new)

    flow.rewrite_input(node, 1, make)
    return [out]


def _rewrite_computed_target(flow: Flow, node: ir.Node, out: list[Axis], sizes: Sequence[object]) -> None:
    """A target that the graph computes becomes a constant, where at most one of its numbers depends on the data."""
    free = [place for place, size in enumerate(sizes) if not isinstance(size, int)]
    if len(free) > 1:
        flow.hold(out, f"the target of Reshape '{node.name}' is computed by the graph: run fuse first")
        return

    def rewrite(kept: Kept) -> None:
        if any(kept.changes(axis) for axis in out):
            target = [
                -1 if place in free else kept.count(axis) if axis.ids is not None else axis.size
                for place, axis in enumerate(out)
            ]
            replace_input(node, 1, np.asarray(target, np.int64))

    flow.rewrites.append(rewrite)


def flatten(flow: Flow, node: ir.Node) -> Outputs:
    """[a, b, c, d] to [a * b, c * d]."""
    data = flow.axes(node, 0)
    at = node.attributes.get_int("axis", 1)
    at = at + len(data) if at < 0 else at
    sizes = []
    for part in (data[:at], data[at:]):
        known = [axis.size for axis in part]
        sizes.append(math.prod(size for size in known if size is not None) if None not in known else None)
    return [follow_reshape(flow, node, data, sizes, None)]


def squeeze(flow: Flow, node: ir.Node) -> Outputs:
    """Axes of size 1 leave."""
    data = flow.axes(node, 0)
    axes = _axes_of(flow, node, 1)
    if axes is None:
        if any(axis.size is None for axis in data):
            raise Refuse("it is not known which axes are squeezed")
        gone = {place for place, axis in enumerate(data) if axis.size == 1}
    else:
        gone = {axis % len(data) for axis in axes}
    return [[axis for place, axis in enumerate(data) if place not in gone]]


def unsqueeze(flow: Flow, node: ir.Node) -> Outputs:
    """Axes of size 1 come in."""
    data, axes = flow.axes(node, 0), _axes_of(flow, node, 1)
    if axes is None:
        raise Refuse("the axes are computed by the graph")
    rank = len(data) + len(axes)
    new = {axis % rank for axis in axes}
    rest = iter(data)
    return [[Axis(1) if place in new else next(rest) for place in range(rank)]]


def transpose(flow: Flow, node: ir.Node) -> Outputs:
    """Axes change places."""
    data = flow.axes(node, 0)
    order = node.attributes.get_ints("perm", list(range(len(data)))[::-1])
    return [[data[axis] for axis in order]]


def concat(flow: Flow, node: ir.Node) -> Outputs:
    """Axes one behind another; along the others the operands meet."""
    operands = [flow.axes(node, index) for index in range(len(node.inputs))]
    rank = len(operands[0])
    place = node.attributes.get_int("axis", 0) % rank
    columns = [[axes[other] for axes in operands] for other in range(rank)]
    return [
        [
            _chain(flow, column) if other == place else flow.broadcast([[axis] for axis in column])[0]
            for other, column in enumerate(columns)
        ]
    ]


def _chain(flow: Flow, axes: list[Axis]) -> Axis:
    if all(axis.ids is None for axis in axes) or any(axis.size is None for axis in axes):
        flow.hold(axes, "it is joined to a tensor of unknown size")
        sizes = [axis.size for axis in axes]
        return Axis(None if None in sizes else sum(size for size in sizes if size is not None), None, axes[0].why)
    ids = []
    for axis in axes:
        if axis.ids is None:
            filler = flow.channels.fresh(axis.size or 0)
            flow.channels.block(filler, axis.why or "it is joined to channels that stay")
            ids.append(filler.ids)
        else:
            ids.append(axis.ids)
    joined = np.concatenate([each for each in ids if each is not None])
    return Axis(len(joined), joined)


def split(flow: Flow, node: ir.Node) -> Outputs:
    """Parts of an axis; the sizes of the parts follow the channels."""
    data = flow.axes(node, 0)
    place = node.attributes.get_int("axis", 0) % len(data)
    axis = data[place]
    if axis.ids is None:
        return [_with(data, place, Axis(_size_at(flow, value, place), None, axis.why)) for value in node.outputs]
    sizes = _split_sizes(flow, node, len(axis.ids))
    ends = np.cumsum(sizes).tolist()
    parts = [Axis(size, axis.ids[end - size : end]) for size, end in zip(sizes, ends, strict=True)]

    def rewrite(kept: Kept) -> None:
        counts = np.asarray([kept.count(part) for part in parts], np.int64)
        if counts.tolist() == sizes:
            return
        version = node.graph.opset_imports.get("", 13) if isinstance(node.graph, ir.Graph) else 13
        if version < 13:
            node.attributes["split"] = ir.AttrInt64s("split", counts.tolist())
        elif flow.has(node, 1):
            replace_input(node, 1, counts)
        else:
            _add_split_input(node, counts)

    flow.rewrites.append(rewrite)
    return [_with(data, place, part) for part in parts]


def _add_split_input(node: ir.Node, counts: np.ndarray) -> None:
    assert isinstance(node.graph, ir.Graph)
    node.attributes.pop("num_outputs", None)
    node.resize_inputs(2)
    node.replace_input_with(1, add_weight(node.graph, f"{node.name or 'split'}_sizes", counts))


def _split_sizes(flow: Flow, node: ir.Node, total: int) -> list[int]:
    given = flow.array(node, 1)
    if given is not None:
        return [int(size) for size in given.reshape(-1)]
    if flow.has(node, 1):
        raise Refuse("the sizes of the parts are computed by the graph")
    written = node.attributes.get_ints("split", [])
    if written:
        return list(written)
    each = -(-total // len(node.outputs))
    return [each] * (len(node.outputs) - 1) + [total - each * (len(node.outputs) - 1)]


def slice_(flow: Flow, node: ir.Node) -> Outputs:
    """A range of an axis; its bounds follow the channels."""
    data = flow.axes(node, 0)
    if len(node.inputs) == 1:
        raise Refuse("a Slice of before opset 10")
    axes = flow.array(node, 3) if flow.has(node, 3) else np.arange(len(data))
    if axes is None:
        raise Refuse("the axes are computed by the graph")
    places = [int(axis) % len(data) for axis in axes.reshape(-1)]
    out = list(data)
    for order, place in enumerate(places):
        if data[place].ids is None:
            out[place] = Axis(_size_at(flow, node.outputs[0], place), None, data[place].why)
        else:
            out[place] = _slice_channels(flow, node, data[place], order)
    return [out]


def _slice_channels(flow: Flow, node: ir.Node, axis: Axis, order: int) -> Axis:
    assert axis.ids is not None
    bounds = [flow.array(node, 1), flow.array(node, 2)]
    steps = flow.array(node, 4) if flow.has(node, 4) else np.ones(order + 1)
    if bounds[0] is None or bounds[1] is None or steps is None or steps.reshape(-1)[order] != 1:
        return flow.hold([axis], f"Slice '{node.name}' steps over it, or its bounds are computed by the graph")[0]
    start, end, _ = slice(int(bounds[0].reshape(-1)[order]), int(bounds[1].reshape(-1)[order])).indices(len(axis.ids))
    for index, at in ((1, start), (2, end)):
        flow.rewrites.append(partial(_set_bound, node, index, order, Axis(at, axis.ids[:at])))
    return Axis(max(end - start, 0), axis.ids[start:end])


def _set_bound(node: ir.Node, index: int, order: int, before: Axis, kept: Kept) -> None:
    """A bound moves by what leaves before it."""
    bounds = constant(node.inputs[index])
    assert bounds is not None
    if kept.changes(before):
        replace_input(node, index, _replaced(bounds, order, kept.count(before)))


def gather(flow: Flow, node: ir.Node) -> Outputs:
    """Constant indices pick channels; the others pass, and so does an axis that is looked up by data."""
    data = flow.axes(node, 0)
    place = node.attributes.get_int("axis", 0) % len(data)
    axis, indices = data[place], flow.array(node, 1)
    if axis.ids is not None and indices is None:
        axis = flow.hold([axis], f"Gather '{node.name}' looks it up by data")[0]
    if axis.ids is None:
        picked = flow.axes(node, 1) if indices is None else [Axis(size, None, axis.why) for size in indices.shape]
        return [[*data[:place], *picked, *data[place + 1 :]]]
    assert indices is not None
    ids = axis.ids[indices]
    if indices.ndim != 1:
        flow.hold([Axis(ids.size, ids.reshape(-1))], f"Gather '{node.name}' picks it")
        picked = [Axis(size) for size in indices.shape]
    else:
        picked = [Axis(len(ids), ids)]
    whole = np.arange(len(axis.ids))

    def make(kept: Kept) -> np.ndarray:
        mask = kept.mask(axis)
        moved = (np.cumsum(mask) - 1)[whole[indices]]
        found: np.ndarray = moved[mask[whole[indices]]] if indices.ndim == 1 else moved
        return found if not mask.all() else indices

    flow.rewrite_input(node, 1, make)
    return [[*data[:place], *picked, *data[place + 1 :]]]


def pad(flow: Flow, node: ir.Node) -> Outputs:
    """Channels pass where nothing is added along their axis."""
    data = flow.axes(node, 0)
    pads = flow.array(node, 1)
    written = node.attributes.get_ints("pads", node.attributes.get_ints("paddings", []))
    if pads is None and not written:
        raise Refuse("the padding is computed by the graph")
    amounts = written if pads is None else pads.reshape(-1).tolist()
    axes = flow.array(node, 3) if flow.has(node, 3) else np.arange(len(data))
    if axes is None:
        raise Refuse("the axes are computed by the graph")
    places = [int(axis) % len(data) for axis in axes.reshape(-1)]
    out = list(data)
    for order, place in enumerate(places):
        if amounts[order] or amounts[len(places) + order]:
            flow.hold([data[place]], f"Pad '{node.name}' adds to it")
            out[place] = Axis(_size_at(flow, node.outputs[0], place))
    return [out]


def resize(flow: Flow, node: ir.Node) -> Outputs:
    """Channels pass where their axis keeps its size."""
    data = flow.axes(node, 0)
    scales = flow.array(node, 1 if node.op_type == "Upsample" else 2)
    sizes = flow.array(node, 3) if flow.has(node, 3) else None
    axes = node.attributes.get_ints("axes", list(range(len(data))))
    if node.op_type == "Upsample" and scales is None:
        scales = np.asarray(node.attributes.get_floats("scales", [])) if "scales" in node.attributes else None
    out = [Axis(_size_at(flow, node.outputs[0], place), None, axis.why) for place, axis in enumerate(data)]
    out = [axis if axis.ids is not None or axis.size == 1 else new for axis, new in zip(data, out, strict=True)]
    tracked = [place for place, axis in enumerate(data) if axis.ids is not None]
    for place in tracked:
        if place not in [axis % len(data) for axis in axes]:
            continue
        order = [axis % len(data) for axis in axes].index(place)
        if sizes is not None and int(sizes.reshape(-1)[order]) == data[place].size:
            flow.rewrites.append(partial(_set_bound, node, 3, order, data[place]))
        elif scales is None or scales.size == 0 or float(scales.reshape(-1)[order]) != 1.0:
            out[place] = flow.hold([data[place]], f"{node.op_type} '{node.name}' may stretch it")[0]
    return [out]


def expand(flow: Flow, node: ir.Node) -> Outputs:
    """Axes of size 1 are repeated; channels pass."""
    data, target = flow.axes(node, 0), flow.array(node, 1)
    sizes = flow.sizes(node.outputs[0])
    if sizes is None:
        raise Refuse("the shape of its result is not known")
    lead = len(sizes) - len(data)
    out = [Axis(size if isinstance(size, int) else None) for size in sizes]
    for place, axis in enumerate(data):
        if axis.ids is not None:
            out[lead + place] = axis
    tracked = [place for place, axis in enumerate(out) if axis.ids is not None]
    if tracked and target is None:
        raise Refuse("its target is computed by the graph: run fuse first")
    if tracked and target is not None:
        offset = len(sizes) - target.size

        def make(kept: Kept) -> np.ndarray:
            new = target.reshape(-1).copy()
            for place in tracked:
                if place >= offset and new[place - offset] != 1:
                    new[place - offset] = kept.count(out[place])
            return new

        flow.rewrite_input(node, 1, make)
    return [out]


def depth_to_space(flow: Flow, node: ir.Node) -> Outputs:
    """Block * block channels become one; they go together."""
    data, block = flow.axes(node, 0), node.attributes.get_int("blocksize", 1) ** 2
    if data[1].ids is None or data[1].size is None:
        return [flow.still(node.outputs[0], data[1].why)]
    out = flow.channels.fresh(data[1].size // block)
    assert out.ids is not None
    apart = str(node.attributes.get_string("mode", "DCR")) == "CRD"
    flow.channels.join(data[1], Axis(data[1].size, np.repeat(out.ids, block) if apart else np.tile(out.ids, block)))
    return [[data[0], out, Axis(_size_at(flow, node.outputs[0], 2)), Axis(_size_at(flow, node.outputs[0], 3))]]


def space_to_depth(flow: Flow, node: ir.Node) -> Outputs:
    """A channel becomes block * block, spread out."""
    data, block = flow.axes(node, 0), node.attributes.get_int("blocksize", 1) ** 2
    ids = None if data[1].ids is None else np.tile(data[1].ids, block)
    size = None if data[1].size is None else data[1].size * block
    channels = Axis(size, ids, data[1].why)
    return [[data[0], channels, Axis(_size_at(flow, node.outputs[0], 2)), Axis(_size_at(flow, node.outputs[0], 3))]]


def shape(flow: Flow, node: ir.Node) -> Outputs:
    """Reading sizes is harmless where nobody looks at that of a channel axis."""
    data = flow.axes(node, 0)
    last = node.attributes.get_int("end", len(data))
    start, end, _ = slice(node.attributes.get_int("start", 0), last).indices(len(data))
    for reader, _ in node.outputs[0].uses():
        looked = flow.array(reader, 1) if reader.op_type == "Gather" else None
        all_places = range(start, end)
        places = all_places if looked is None else [all_places[int(each)] for each in looked.reshape(-1)]
        flow.hold([data[place] for place in places], f"its number is read by Shape '{node.name}': run fuse first")
    return [[Axis(end - start)]]


def _axes_of(flow: Flow, node: ir.Node, index: int) -> list[int] | None:
    given = flow.array(node, index) if flow.has(node, index) else None
    if given is not None:
        return [int(axis) for axis in given.reshape(-1)]
    return list(node.attributes.get_ints("axes", [])) or None


def _with(data: list[Axis], place: int, axis: Axis) -> list[Axis]:
    return [*data[:place], axis, *data[place + 1 :]]


def _replaced(array: np.ndarray, order: int, number: int) -> np.ndarray:
    new = array.copy()
    new.reshape(-1)[order] = number
    return new


def _size_at(flow: Flow, value: ir.Value, place: int) -> int | None:
    sizes = flow.sizes(value)
    size = sizes[place] if sizes is not None and place < len(sizes) else None
    return size if isinstance(size, int) else None
