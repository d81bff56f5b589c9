"""Slices in a row, of different axes or one after the other, are one; one that is squeezed away is a Gather."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.shapes import rank
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import made_by, only_made_for

INPUTS_OPSET = 10
END = 10**9  # from here on an end means "to the end": exporters write this or more, and no axis is as long

Cut = tuple[int, int, int]  # start, end, step


@dataclass(frozen=True)
class FoundSlices:
    """The second Slice, what the first one reads, and the cuts of both by axis."""

    node: ir.Node
    source: ir.Value
    cuts: dict[int, Cut]


class MergeSlices(Rule[FoundSlices]):
    """Slice(Slice(x, axis 1), axis 2) -> Slice(x, axes 1, 2); of the same axis when both count forward from 0."""

    name = "merge-slices"
    roots = frozenset({"Slice"})

    def match(self, node: ir.Node, graph: Editor) -> FoundSlices | None:
        first = made_by(node.inputs[0], "Slice")
        if first is None or graph.opset < INPUTS_OPSET or first.inputs[0] is None or _is_kept(first):
            return None
        inner, outer = slice_cuts(first, graph), slice_cuts(node, graph)
        if inner is None or outer is None:
            return None
        merged = dict(inner)
        for axis, cut in outer.items():
            both = _after(merged[axis], cut) if axis in merged else cut
            if both is None:
                return None
            merged[axis] = both
        return FoundSlices(node, first.inputs[0], merged)

    def rewrite(self, found: FoundSlices, graph: Editor) -> None:
        out = found.node.outputs[0]
        axes = sorted(found.cuts)
        columns = zip(*(found.cuts[axis] for axis in axes), strict=True)
        starts, ends, steps = (np.array(column, dtype=np.int64) for column in columns)
        parts = {"starts": starts, "ends": ends, "axes": np.array(axes, dtype=np.int64), "steps": steps}
        inputs = [graph.weight(array, f"{out.name}_{word}") for word, array in parts.items()]
        graph.replace(out, graph.add("Slice", [found.source, *inputs], like=out, before=found.node))


def _is_kept(node: ir.Node) -> bool:
    """Whether something else than another Slice reads it, so that it would stay beside the merged one."""
    out = node.outputs[0]
    return out.is_graph_output() or any(usage.node.op_type != "Slice" or usage.idx for usage in out.uses())


def slice_cuts(node: ir.Node, graph: Editor) -> dict[int, Cut] | None:
    """Start, end and step by axis, when all are numbers and the rank is known."""
    dims = rank(node.inputs[0])
    if dims is None or len(node.inputs) < 3:
        return None
    starts, ends = (graph.shapes.numbers(value) for value in node.inputs[1:3])
    if starts is None or ends is None:
        return None
    optional = [node.inputs[i] if len(node.inputs) > i else None for i in (3, 4)]
    axes, steps = (
        default if value is None else graph.shapes.numbers(value)
        for value, default in zip(optional, (tuple(range(len(starts))), (1,) * len(starts)), strict=True)
    )
    if axes is None or steps is None:
        return None
    cuts = zip(starts, ends, steps, strict=True)
    return {axis % dims: cut for axis, cut in zip(axes, cuts, strict=True)}


def _after(first: Cut, second: Cut) -> Cut | None:
    """Both cuts of one axis in one, when both count forward from the begin."""
    (a, b, step), (c, d, second_step) = first, second
    if step != 1 or second_step != 1 or min(a, b, c, d) < 0:
        return None
    return a + c, b if d >= END else min(b, a + d), 1


@dataclass(frozen=True)
class FoundGather:
    """The Squeeze, what the Slice or Split before it reads, the axis, and the index on it."""

    node: ir.Node
    source: ir.Value
    axis: int
    index: int


class SliceToGather(Rule[FoundGather]):
    """Squeeze(Slice(x, i, i + 1, axis), axis) -> Gather(x, i, axis), and so for the parts of a Split."""

    name = "slice-to-gather"
    roots = frozenset({"Squeeze"})

    def match(self, node: ir.Node, graph: Editor) -> FoundGather | None:
        part = node.inputs[0]
        before = None if part is None else part.producer()
        source = None if before is None or before.op_type not in ("Slice", "Split") else before.inputs[0]
        dims = rank(source)
        if part is None or before is None or source is None or dims is None:
            return None
        cut = _of_slice(node, graph) if before.op_type == "Slice" else _of_split(before, part, dims, graph)
        axes = graph.shapes.numbers(node.inputs[1]) if len(node.inputs) > 1 else None
        squeezed = axes if axes is not None else tuple(node.attributes.get_ints("axes", ()))
        if cut is None or len(squeezed) != 1 or squeezed[0] % dims != cut[0]:
            return None
        return FoundGather(node, source, *cut)

    def rewrite(self, found: FoundGather, graph: Editor) -> None:
        out = found.node.outputs[0]
        index = graph.weight(np.array(found.index, dtype=np.int64), f"{out.name}_index")
        attributes: dict[str, object] = {"axis": found.axis}
        result = graph.add("Gather", [found.source, index], like=out, before=found.node, attributes=attributes)
        graph.replace(out, result)


def _of_slice(node: ir.Node, graph: Editor) -> tuple[int, int] | None:
    """Axis and index of a Slice that keeps one element, and that only ``node`` reads."""
    sliced = only_made_for(node.inputs[0], node, "Slice")
    cuts = None if sliced is None else slice_cuts(sliced, graph)
    if cuts is None or len(cuts) != 1:
        return None
    ((axis, (start, end, step)),) = cuts.items()
    one = end == start + 1 or (start == -1 and end >= END)
    return (axis, start) if one and step == 1 else None


def _of_split(split: ir.Node, part: ir.Value, dims: int, graph: Editor) -> tuple[int, int] | None:
    """Axis and index of a part of a Split into single elements, when all of them are squeezed."""
    axis = split.attributes.get_int("axis", 0) % dims
    sizes = [None if out.shape is None or len(out.shape) != dims else out.shape[axis] for out in split.outputs]
    readers = [usage.node for out in split.outputs for usage in out.uses()]
    leaves = any(out.is_graph_output() for out in split.outputs)
    if any(size != 1 for size in sizes) or leaves or any(reader.op_type != "Squeeze" for reader in readers):
        return None
    return axis, list(split.outputs).index(part)
