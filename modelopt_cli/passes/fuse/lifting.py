"""Constant nodes become initializers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import all_graphs
from modelopt_cli.passes.fuse.pattern import STANDARD

_TYPED = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}


def lift_constants(model: ir.Model) -> None:
    """Make an initializer of every Constant node that is no output of its graph, in branches and loop bodies too.

    The initializers have tensor objects of their own: serializing one renames its tensor, and as a clone shares tensors
    with the source, the source's Constant nodes would change. onnx_ir's pass for the same checks each tensor against a
    protocol, which takes half of the time of the whole.
    """
    for graph in all_graphs(model):
        for node in graph:
            if node.op_type == "Constant" and node.domain in STANDARD and not node.outputs[0].is_graph_output():
                _lift(graph, node)


def _lift(graph: ir.Graph, node: ir.Node) -> None:
    out = node.outputs[0]
    tensor = _tensor(node, out.name)
    if tensor is None:
        return
    value = ir.Value(
        name=out.name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    out.replace_all_uses_with(value)
    graph.remove(node, safe=True)


def _tensor(node: ir.Node, name: str | None) -> ir.TensorProtocol | None:
    """What the node computes; None for what is no plain tensor, or a reference to a function's attribute."""
    for word, attribute in node.attributes.items():
        if attribute.is_ref():
            return None
        if word in _TYPED:
            return ir.Tensor(np.array(attribute.value, dtype=_TYPED[word]), name=name)
        if word == "value" and attribute.value.dtype != ir.DataType.STRING:
            return ir.Tensor(attribute.value.numpy(), attribute.value.dtype, name=name)
        if word == "value":
            return ir.StringTensor(attribute.value.string_data(), shape=attribute.value.shape, name=name)
    return None
