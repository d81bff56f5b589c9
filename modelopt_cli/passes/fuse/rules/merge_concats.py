"""Concats in a row are one, and parts that are put together again in their order were never apart."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.graph.shapes import dimensions, rank
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import STANDARD, only_made_for
from modelopt_cli.passes.fuse.rules.merge_slices import END, slice_cuts


@dataclass(frozen=True)
class Found:
    """The Concat, its axis, and what it is to join."""

    node: ir.Node
    axis: int
    inputs: tuple[ir.Value, ...]


class MergeConcats(Rule[Found]):
    """Join in one step, and nothing that was whole before.

    Concat(a, Concat(b, c)) -> Concat(a, b, c)                  (along the same axis)
    Concat(Split(x)) -> x                                       (all parts in their order, along the same axis)
    Concat(Slice(x, : k), Slice(x, k :)) -> x                   (likewise)
    """

    name = "merge-concats"
    roots = frozenset({"Concat"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        dims = rank(node.outputs[0])
        if not dims or any(value is None for value in node.inputs):
            return None
        axis = node.attributes.get_int("axis", 0) % dims
        inputs = tuple(value for value in node.inputs if value is not None)
        flat = _flattened(node, inputs, axis, dims)
        whole = _without_parts(flat, axis, graph)
        return Found(node, axis, whole) if whole != inputs else None

    def rewrite(self, found: Found, graph: Editor) -> None:
        out = found.node.outputs[0]
        if len(found.inputs) == 1 and not out.is_graph_output():
            graph.replace(out, found.inputs[0])
            return
        attributes: dict[str, object] = {"axis": found.axis}
        graph.replace(out, graph.add("Concat", found.inputs, like=out, before=found.node, attributes=attributes))


def _flattened(node: ir.Node, inputs: tuple[ir.Value, ...], axis: int, dims: int) -> tuple[ir.Value, ...]:
    flat: list[ir.Value] = []
    for value in inputs:
        inner = only_made_for(value, node, "Concat")
        if inner is not None and inner.attributes.get_int("axis", 0) % dims == axis:
            flat.extend(part for part in inner.inputs if part is not None)
        else:
            flat.append(value)
    return tuple(flat)


def _without_parts(values: tuple[ir.Value, ...], axis: int, graph: Editor) -> tuple[ir.Value, ...]:
    """The values with each run of all parts of one value replaced by this value."""
    result: list[ir.Value] = []
    start = 0
    while start < len(values):
        source, count = _run(values[start:], axis, graph)
        result.append(source if source is not None else values[start])
        start += count
    return tuple(result)


def _run(values: tuple[ir.Value, ...], axis: int, graph: Editor) -> tuple[ir.Value | None, int]:
    """The value whose parts come first, and how many they are; None and 1 when the first is no such part."""
    node = values[0].producer()
    source = node.inputs[0] if node is not None and node.inputs else None
    shape = dimensions(source)
    if node is None or node.domain not in STANDARD or source is None or shape is None or axis >= len(shape):
        return None, 1
    if node.op_type == "Split" and node.attributes.get_int("axis", 0) % len(shape) == axis:
        parts = tuple(node.outputs)
        return (source, len(parts)) if values[: len(parts)] == parts and len(parts) > 1 else (None, 1)
    position = 0
    for count, value in enumerate(values, start=1):
        end = _slice_end(value, source, axis, position, shape[axis], graph)
        if end is None:
            return None, 1
        if end == shape[axis]:
            return (source, count) if count > 1 else (None, 1)
        position = end
    return None, 1


def _slice_end(value: ir.Value, source: ir.Value, axis: int, position: int, size: object, graph: Editor) -> int | None:
    """Where a Slice of ``source`` along ``axis`` alone ends, when it starts at ``position``."""
    node = value.producer()
    if node is None or node.op_type != "Slice" or node.inputs[0] is not source or not isinstance(size, int):
        return None
    cuts = slice_cuts(node, graph)
    if cuts is None or set(cuts) != {axis}:
        return None
    start, end, step = cuts[axis]
    start, end = (max(number + size, 0) if number < 0 else number for number in (start, end))
    end = size if end >= END else min(end, size)
    return end if step == 1 and start == position and end > start else None
