"""Which weights of a model can be stored in fewer bits, and how each is laid out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import constant

MIN_BYTES = 4096  # below, nodes and scales take as much of the file as the codes give back
_RECURRENT = ("LSTM", "GRU", "RNN")
PRODUCTS = ("MatMul", "Gemm")


@dataclass(frozen=True, eq=False)
class Slot:
    """A weight: an initializer (or Constant) of the main graph, a branch or a loop's body.

    Attributes:
        value: What its readers read.
        node: The reader that decides how it is laid out.
        array: float32; never to be written into.
        columns_last: Whether it is [K, N] and not [N, K ...].
        groups: Of a grouped Conv.
        lookups: The Gather nodes that read rows of it.
        others: Whether something besides reads it.
    """

    value: ir.Value
    node: ir.Node
    array: np.ndarray
    columns_last: bool
    groups: int
    lookups: tuple[ir.Node, ...]
    others: bool

    @property
    def owner(self) -> ir.Graph:
        """The graph that it is a constant of."""
        producer = self.value.producer()
        owner = self.value.graph if producer is None else producer.graph
        assert isinstance(owner, ir.Graph), "find_slots looks at graphs"
        return owner

    @property
    def name(self) -> str:
        """Of the weight."""
        return self.value.name or ""

    def work(self) -> np.ndarray:
        """The weight as [groups, K, N]."""
        if self.columns_last:
            return self.array[None]
        rows = self.array.reshape(self.groups, -1, self.inputs)
        return np.ascontiguousarray(rows.transpose(0, 2, 1))

    @property
    def inputs(self) -> int:
        """K: how many weights make one output."""
        if self.columns_last:
            return int(self.array.shape[0])
        rows_last = self.node.op_type in _RECURRENT or self.array.ndim == 2
        return int(self.array.shape[-1]) if rows_last else int(self.array[0].size)


def find_slots(model: ir.Model) -> Iterator[Slot]:
    """Every float32 weight of MatMul, Gemm, Conv, LSTM, GRU, RNN, and every table that Gather reads rows of."""
    seen: set[ir.Value] = set()
    for node in model.graph.all_nodes():
        for index, value in enumerate(node.inputs):
            if value is None or value in seen or node.domain not in ("", "ai.onnx"):
                continue
            array = _weight(value)
            if array is None or not _is_weight(node, index, array):
                continue
            seen.add(value)
            yield _slot(value, node, array)


def _weight(value: ir.Value) -> np.ndarray | None:
    producer = value.producer()
    owner = value.graph if producer is None else producer.graph
    if not isinstance(owner, ir.Graph) or value.is_graph_output():
        return None
    if value.const_value is None and (producer is None or producer.op_type != "Constant"):
        return None
    array = constant(value)
    if array is None or array.dtype != np.float32 or array.nbytes < MIN_BYTES or not np.isfinite(array).all():
        return None
    return array


def _is_weight(node: ir.Node, index: int, array: np.ndarray) -> bool:
    kind = node.op_type
    if kind == "Gather":
        return index == 0 and array.ndim == 2 and is_lookup(node)
    if kind in _RECURRENT:
        return index in (1, 2) and array.ndim == 3
    if kind == "Conv":
        return index == 1 and array.ndim >= 3
    return kind in PRODUCTS and index == 1 and array.ndim == 2


def is_lookup(node: ir.Node) -> bool:
    """Whether a node reads rows of a matrix by computed indices."""
    table = node.inputs[0] if node.op_type == "Gather" else None
    if table is None or table.shape is None or len(table.shape) != 2:
        return False
    return node.attributes.get_int("axis", 0) in (0, -2) and constant(node.inputs[1]) is None


def _slot(value: ir.Value, node: ir.Node, array: np.ndarray) -> Slot:
    uses = [(use.node, use.idx) for use in value.uses()]
    lookups = tuple(reader for reader, index in uses if reader.op_type == "Gather" and _is_weight(reader, index, array))
    reader = lookups[0] if lookups else node
    stored_by_column = reader.op_type == "MatMul" or (
        reader.op_type == "Gemm" and reader.attributes.get_int("transB", 0) != 1
    )
    groups = reader.attributes.get_int("group", 1) if reader.op_type == "Conv" else 1
    return Slot(value, reader, array, stored_by_column, groups, lookups, len(uses) > len(lookups))
