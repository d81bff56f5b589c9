"""What differs between two states of a model, item by item: the truth behind a pass's ``changed``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import all_graphs

Items = Counter[Hashable]


def items(model: ir.Model) -> Items:
    """Nodes, weights and declared types of the model as comparable items.

    Weights are compared by the identity of their tensor object, which no edit changes in place; keep the model or a
    clone of it alive as long as its items.
    """
    found: Items = Counter()
    found.update(("opset", domain, version) for domain, version in model.opset_imports.items())
    found.update(("function", *key) for key in model.functions)
    for graph in all_graphs(model):
        found.update(("weight", name, id(value.const_value)) for name, value in graph.initializers.items())
        found.update(("input", _typed(value)) for value in graph.inputs)
        found.update(("output", _typed(value)) for value in graph.outputs)
        for node in graph:
            found[_node(node)] += 1
            found.update(("type", _typed(value)) for value in node.outputs if not value.is_graph_output())
    return found


def count_edits(before: Items, after: Items) -> int:
    """How many items vanished, appeared or changed; a changed item counts once."""
    gone, new = before - after, after - before
    return max(gone.total(), new.total())


def _typed(value: ir.Value) -> Hashable:
    return (value.name, str(value.type), str(value.shape))


def _node(node: ir.Node) -> Hashable:
    attributes = tuple((name, _comparable(attribute)) for name, attribute in node.attributes.items())
    inputs = tuple(value.name if value is not None else "" for value in node.inputs)
    return ("node", node.name, node.domain, node.op_type, inputs, tuple(v.name for v in node.outputs), attributes)


def _comparable(attribute: ir.Attr) -> Hashable:
    value = attribute.value
    if isinstance(value, (int, float, str, bytes, np.generic)):
        return value
    if isinstance(value, ir.Graph):
        return value.name
    if isinstance(value, (list, tuple)):
        return tuple(item.name if isinstance(item, ir.Graph) else str(item) for item in value)
    if attribute.type == ir.AttributeType.TENSOR:
        return id(value)
    return str(value)
