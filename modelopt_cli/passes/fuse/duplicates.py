"""Weights that hold the same numbers are stored once."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import all_graphs

PEEK_BYTES = 1 << 12  # compared before the whole: almost all weights of one shape differ here already


def merge_duplicates(model: ir.Model, limit: int) -> bool:
    """Let the readers of equal initializers of a graph read the first of them; whether there were any.

    Nothing is read whole but what agrees with another weight in type, shape and first bytes, and that is not kept:
    memory-mapped weights stay on disk. onnx_ir's pass for the same keeps the bytes of all weights.

    Args:
        model: Edited in place.
        limit: Weights of more elements are left alone.
    """
    merged = False
    for graph in all_graphs(model):
        groups: Iterable[list[ir.Value]] = [[v for v in graph.initializers.values() if _may_merge(v, limit)]]
        for key in (_kind, _beginning, _digest):
            groups = [part for group in groups for part in _parts(group, key)]
        for first, *others in groups:
            for value in others:
                value.replace_all_uses_with(first)
                del graph.initializers[value.name or ""]
                merged = True
    return merged


def _may_merge(value: ir.Value, limit: int) -> bool:
    tensor = value.const_value
    if tensor is None or value.is_graph_input() or value.is_graph_output():
        return False
    return tensor.dtype != ir.DataType.STRING and tensor.size <= limit


def _parts(group: list[ir.Value], key: Callable[[ir.Value], Hashable]) -> list[list[ir.Value]]:
    """The values by key, where several have the same."""
    if len(group) < 2:
        return []
    parts: dict[Hashable, list[ir.Value]] = defaultdict(list)
    for value in group:
        parts[key(value)].append(value)
    return [part for part in parts.values() if len(part) > 1]


def _kind(value: ir.Value) -> Hashable:
    tensor = value.const_value
    assert tensor is not None
    return tensor.dtype, tuple(tensor.shape.numpy())


def _beginning(value: ir.Value) -> Hashable:
    return _bytes(value)[:PEEK_BYTES].tobytes()


def _digest(value: ir.Value) -> Hashable:
    return hashlib.blake2b(_bytes(value).data).digest()


def _bytes(value: ir.Value) -> np.ndarray:
    assert value.const_value is not None
    array = value.const_value.numpy()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
