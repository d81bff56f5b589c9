"""Spellings of ONNX that mean the same, brought to the one that everything behind the reader knows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

_SYNONYM = "ai.onnx"  # of the default domain, by https://onnx.ai/onnx/repo-docs/IR.html#operator-sets


def normalize(proto: onnx.ModelProto) -> bool:
    """Edit ``proto`` in place: sparse constants become dense ones, and the domain ``ai.onnx`` the empty one.

    Returns:
        Whether anything was changed.

    Raises:
        ValueError: A sparse tensor whose indices do not fit its shape.
    """
    renamed = _rename_domain(proto)
    dense = False
    for graph in _graphs(proto.graph):
        dense = _densify_initializers(graph) or dense
        dense = _densify_constants(graph.node) or dense
    for function in proto.functions:
        dense = _densify_constants(function.node) or dense
    return renamed or dense


def _rename_domain(proto: onnx.ModelProto) -> bool:
    if not any(opset.domain == _SYNONYM for opset in proto.opset_import):
        return False
    declared = any(opset.domain == "" for opset in proto.opset_import)
    for opset in [opset for opset in proto.opset_import if opset.domain == _SYNONYM]:
        if declared:  # twice the same: the checker holds them to the same version
            proto.opset_import.remove(opset)
        else:
            opset.domain = ""
    for graph in _graphs(proto.graph):
        for node in graph.node:
            if node.domain == _SYNONYM:
                node.domain = ""
    return True


def _densify_initializers(graph: onnx.GraphProto) -> bool:
    if not graph.sparse_initializer:
        return False
    for sparse in graph.sparse_initializer:
        graph.initializer.append(onnx.numpy_helper.from_array(_dense(sparse), sparse.values.name))
    del graph.sparse_initializer[:]
    return True


def _densify_constants(nodes: list[onnx.NodeProto]) -> bool:
    changed = False
    for node in nodes:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "sparse_value":
                dense = onnx.numpy_helper.from_array(_dense(attribute.sparse_tensor), node.output[0])
                attribute.CopyFrom(onnx.helper.make_attribute("value", dense))
                changed = True
    return changed


def _dense(sparse: onnx.SparseTensorProto) -> np.ndarray:
    """The whole array; indices are flat, or one row of coordinates for each value."""
    values = onnx.numpy_helper.to_array(sparse.values)
    indices = onnx.numpy_helper.to_array(sparse.indices)
    array = np.zeros(tuple(sparse.dims), values.dtype)
    flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), array.shape)
    if flat.size and (flat.min() < 0 or flat.max() >= array.size):
        raise ValueError(f"sparse tensor '{sparse.values.name}' has an index outside of its shape")
    array.reshape(-1)[flat] = values
    return array


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer or inner.sparse_initializer:
                    yield from _graphs(inner)
