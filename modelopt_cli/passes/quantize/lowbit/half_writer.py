"""Edits that store, compute, read or give in 16 bits, with a Cast wherever 16 and 32 bits meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import (
    add_node,
    add_weight,
    constant,
    drop_unread_weights,
    fresh_name,
    remove_dead,
    replace_output,
)
from modelopt_cli.passes.base import Skip
from modelopt_cli.passes.quantize.lowbit.half_format import NOTHING, HalfFormat
from modelopt_cli.passes.quantize.lowbit.half_ranges import HalfTypes
from modelopt_cli.passes.quantize.lowbit.slots import is_lookup

MIN_ELEMENTS = 256  # below, the Cast takes what half of the weight gives back


def store_weights(model: ir.Model, half: HalfFormat) -> tuple[int, list[Skip]]:
    """Store float32 weights in 16 bits, of branches and loop bodies too; how many, and what was left."""
    stored, skipped = 0, []
    for graph, value in list(_weights(model)):
        array = constant(value)
        if array is None or array.dtype != np.float32 or array.size < MIN_ELEMENTS or value.is_graph_output():
            continue
        if half.holds(array) or half.keeps(array):
            _store(graph, value, array, half)
        elif (scale := _row_scale(value, array, half)) is not None:
            _store(graph, value, array / scale, half, scale)
        else:
            skipped.append(Skip(value.name or "", f"{half.name} cannot hold its values"))
            continue
        stored += 1
    for graph in model.graphs():
        drop_unread_weights(graph)
    return stored, skipped


def _weights(model: ir.Model) -> Iterator[tuple[ir.Graph, ir.Value]]:
    for graph in model.graphs():
        yield from ((graph, value) for value in graph.initializers.values())
        yield from ((graph, node.outputs[0]) for node in graph if node.op_type == "Constant")


def _row_scale(value: ir.Value, array: np.ndarray, half: HalfFormat) -> np.ndarray | None:
    """Powers of two that bring each row of the first axis near 1, where that lets a weight into the format.

    BatchNormalization folded into a Conv leaves rows of 1e-10 beside those of 1. A session multiplies once,
    when it loads.
    """
    if array.ndim < 2 or not np.isfinite(array).all() or any(is_lookup(use.node) for use in value.uses()):
        return None
    largest = np.abs(array).max(axis=tuple(range(1, array.ndim)), keepdims=True)
    exponent = np.floor(np.log2(np.maximum(largest, NOTHING)))
    scale = np.asarray(np.exp2(np.where(largest > NOTHING, exponent, 0)), np.float32)
    return scale if half.keeps(array / scale) else None


def _store(
    graph: ir.Graph, value: ir.Value, array: np.ndarray, half: HalfFormat, scale: np.ndarray | None = None
) -> None:
    small = add_weight(graph, f"{value.name}_half", half.of(array))
    lookups = {use.node for use in value.uses() if use.idx == 0 and is_lookup(use.node)}
    for node in lookups:  # the rows that are looked up become float32, not the table at each run
        output = node.outputs[0]
        assert isinstance(node.graph, ir.Graph)
        rows = add_node(
            node.graph, node, "Gather", [small, node.inputs[1]], stem=f"{node.name}_half", attributes={"axis": 0}
        )
        replace_output(output, cast(node, rows, ir.DataType.FLOAT, output.shape))
        node.graph.remove(node, safe=True)
    producer = value.producer()
    if value.uses():
        first = graph[0]
        full = cast(first, small, ir.DataType.FLOAT, value.shape)
        if scale is not None:
            rows = add_weight(graph, f"{value.name}_rows", scale)
            full = add_node(
                graph, first, "Mul", [full, rows], stem=f"{value.name}_full", dtype=ir.DataType.FLOAT, shape=value.shape
            )
        value.replace_all_uses_with(full)
    if producer is not None:
        remove_dead(graph, [producer])


def compute_in_half(model: ir.Model, types: HalfTypes, nodes: Iterable[ir.Node]) -> None:
    """Write nodes of the main graph in 16 bits."""
    _Halves(model, types, nodes).write()


class _Halves:
    """Writes chosen nodes in 16 bits, with a Cast where a value passes between them and the others."""

    def __init__(self, model: ir.Model, types: HalfTypes, nodes: Iterable[ir.Node]) -> None:
        self._model, self._types = model, types
        self._nodes = dict.fromkeys(nodes)
        self._made = {value for node in self._nodes for _, value in types.outputs(node)}
        self._halves: dict[ir.Value, ir.Value] = {}

    def write(self) -> None:
        for node in self._nodes:
            for index, value in list(self._types.inputs(node)):
                if value not in self._made:
                    node.replace_input_with(index, self._half(value))
        for node in self._nodes:
            for _, value in list(self._types.outputs(node)):
                self._widen(node, value)
        drop_unread_weights(self._model.graph)

    def _half(self, value: ir.Value) -> ir.Value:
        """A float32 value that other nodes make, in 16 bits."""
        if value not in self._halves:
            array, producer = constant(value), value.producer()
            if array is not None:
                small = self._types.half.of(array)
                self._halves[value] = add_weight(self._model.graph, f"{value.name}_half", small)
            else:
                place = self._model.graph[0] if producer is None else producer
                after = producer is not None
                self._halves[value] = cast(place, value, self._types.half.dtype, value.shape, after=after)
        return self._halves[value]

    def _widen(self, node: ir.Node, value: ir.Value) -> None:
        """Give readers that stay float32 a Cast of a value that has 16 bits now."""
        inside = [(use.node, use.idx) for use in value.uses() if self._reads_half(use.node, use.idx)]
        if len(inside) < len(value.uses()) or value.is_graph_output():
            wide = cast(node, value, ir.DataType.FLOAT, value.shape, after=True)
            _keep(value, wide, inside)
        value.type = ir.TensorType(self._types.half.dtype)

    def _reads_half(self, node: ir.Node, index: int) -> bool:
        return node in self._nodes and any(found == index for found, _ in self._types.inputs(node))


def halve_interface(model: ir.Model, half: HalfFormat) -> int:
    """Let float32 inputs and outputs take 16 bits; how many did."""
    inputs = [v for v in model.graph.inputs if v.dtype == ir.DataType.FLOAT and not v.is_initializer()]
    for value in inputs:
        _halve_input(model, value, half)
    outputs = [v for v in model.graph.outputs if v.dtype == ir.DataType.FLOAT and v.producer() is not None]
    for value in outputs:
        _halve_output(model, value, half)
    return len(inputs) + len(outputs)


def _halve_input(model: ir.Model, value: ir.Value, half: HalfFormat) -> None:
    readers = [(use.node, use.idx) for use in value.uses()]
    value.type = ir.TensorType(half.dtype)
    rest = []
    for node, index in readers:
        if node.op_type == "Cast" and node.attributes.get_int("to", 0) == half.dtype and node.graph is model.graph:
            node.outputs[0].replace_all_uses_with(value)
            remove_dead(model.graph, [node])
        else:
            rest.append((node, index))
    if rest:
        wide = cast(model.graph[0], value, ir.DataType.FLOAT, value.shape)
        for node, index in rest:
            node.replace_input_with(index, wide)


def _halve_output(model: ir.Model, value: ir.Value, half: HalfFormat) -> None:
    producer = value.producer()
    assert producer is not None
    readers = [(use.node, use.idx) for use in value.uses()]
    small = cast(producer, value, half.dtype, value.shape, after=True)
    _keep(value, small, readers)
    small.type = ir.TensorType(half.dtype)


def _keep(value: ir.Value, new: ir.Value, readers: Iterable[tuple[ir.Node, int]]) -> None:
    """Let everyone read ``new``, but for its own Cast and some readers."""
    own = new.producer()
    assert own is not None
    replace_output(value, new)
    for reader, index in (*readers, (own, 0)):
        reader.replace_input_with(index, value)


def cast(
    place: ir.Node, value: ir.Value, dtype: ir.DataType, shape: ir.Shape | None, *, after: bool = False
) -> ir.Value:
    """``value`` as another type, by a node before (or after) a given one."""
    graph = place.graph
    assert isinstance(graph, ir.Graph)
    node = ir.node("Cast", [value], {"to": int(dtype)}, name=fresh_name(graph, f"{value.name}_cast"))
    node.outputs[0].name = fresh_name(graph, f"{value.name}_{dtype.name.lower()}")
    node.outputs[0].type, node.outputs[0].shape = ir.TensorType(dtype), shape
    (graph.insert_after if after else graph.insert_before)(place, node)
    return node.outputs[0]
