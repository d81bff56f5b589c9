"""Embedding tables in int8: the rows that are looked up become float, the table stays small."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import add_node, add_weight, constant, fresh_name, replace_output
from modelopt_cli.passes.base import Skip
from modelopt_cli.passes.quantize.weights import quantize_weight

SMALLEST_TABLE_BYTES = 1 << 16  # below it the bytes saved do not pay for two more operators at each run


@dataclass
class TableEdits:
    """Names of the Gather nodes whose table became int8, and refusals."""

    changed: list[str] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)


def quantize_embeddings(model: ir.Model, nodes: Iterable[ir.Node] | None = None) -> TableEdits:
    """Store float32 tables read by Gather along their first axis as int8 with one scale per row.

        Gather(table, ids)   before
        Gather(table_int8, ids) -> Cast -> Mul(Gather(scale, ids))   after

    Standard operators only, any opset; the scale is kept as [rows, 1] so that it broadcasts without a reshape. Tables
    with other readers stay float: both copies in the file would be larger than one.

    Args:
        model: Edited in place.
        nodes: The Gather nodes to look at; all of the main graph and its subgraphs by default.
    """
    edits = TableEdits()
    found = [node for node in (model.graph.all_nodes() if nodes is None else nodes) if node.op_type == "Gather"]
    tables: dict[ir.Value, list[ir.Node]] = {}
    for node in found:
        if node.inputs[0] is not None and _is_table(node):
            tables.setdefault(node.inputs[0], []).append(node)
    for table, gathers in tables.items():
        if any(use.node not in gathers for use in table.uses()) or table.is_graph_output():
            edits.skipped += [
                Skip(node.name or "Gather", "its table is read by other operators too") for node in gathers
            ]
            continue
        _quantize_table(model, table, gathers)
        edits.changed += [node.name or "Gather" for node in gathers]
    return edits


def _is_table(node: ir.Node) -> bool:
    array = constant(node.inputs[0])
    axis = node.attributes.get("axis")
    return (
        isinstance(node.graph, ir.Graph)
        and array is not None
        and array.dtype == np.float32
        and array.ndim == 2
        and array.nbytes >= SMALLEST_TABLE_BYTES
        and (axis is None or axis.as_int() in (0, -2))
        and constant(node.inputs[1]) is None
    )


def _quantize_table(model: ir.Model, table: ir.Value, gathers: list[ir.Node]) -> None:
    array = constant(table)
    assert array is not None
    rounded = quantize_weight(array, axis=0)
    values = add_weight(model.graph, f"{table.name}_int8", rounded.values)
    scale = add_weight(model.graph, f"{table.name}_scale", rounded.scale.reshape(-1, 1))
    for node in gathers:
        _rewrite(model, node, values, scale)
    if table.is_initializer() and isinstance(table.graph, ir.Graph):
        table.graph.initializers.pop(table.name or "", None)


def _rewrite(model: ir.Model, node: ir.Node, values: ir.Value, scale: ir.Value) -> None:
    graph, output, ids = node.graph, node.outputs[0], node.inputs[1]
    assert isinstance(graph, ir.Graph) and ids is not None
    stem = fresh_name(model.graph, node.name or "Gather")
    lead = None if ids.shape is None else list(ids.shape.dims)
    shape = output.shape if lead is None else ir.Shape([*lead, *(values.shape or ())[1:]])
    single = None if lead is None else ir.Shape([*lead, 1])
    rows = add_node(graph, node, "Gather", [values, ids], stem=f"{stem}_int8", dtype=ir.DataType.INT8, shape=shape)
    real = add_node(
        graph,
        node,
        "Cast",
        [rows],
        stem=f"{stem}_cast",
        attributes={"to": ir.DataType.FLOAT},
        dtype=ir.DataType.FLOAT,
        shape=shape,
    )
    steps = add_node(graph, node, "Gather", [scale, ids], stem=f"{stem}_scale", dtype=ir.DataType.FLOAT, shape=single)
    result = add_node(graph, node, "Mul", [real, steps], stem=f"{stem}_rows", dtype=ir.DataType.FLOAT, shape=shape)
    replace_output(output, result)
    graph.remove(node, safe=True)
