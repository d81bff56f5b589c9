"""What a group looks like: groups that look alike are repeated blocks, such as the layers of a transformer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx_ir as ir

from modelopt_cli.graph.edit import constant


def signature(nodes: Iterable[ir.Node], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Text that is equal for groups of equal structure, whatever the values of their weights.

    Args:
        nodes: Of the group, in graph order.
        shapes: Of activations, by name, where known.

    Returns:
        Per node: operator, attributes, and type and shape of each input, constants told from activations.
    """
    return "; ".join(_node(node, shapes) for node in nodes)


def _node(node: ir.Node, shapes: Mapping[str, tuple[int, ...]]) -> str:
    attributes = sorted(f"{name}={attribute.value}" for name, attribute in node.attributes.items())
    inputs = [_input(value, shapes) for value in node.inputs]
    return f"{node.domain}:{node.op_type}({', '.join(inputs)}) {' '.join(attributes)}"


def _input(value: ir.Value | None, shapes: Mapping[str, tuple[int, ...]]) -> str:
    if value is None:
        return "-"
    array = constant(value)
    if array is not None:
        return f"constant {array.dtype}{list(array.shape)}"
    return f"{value.dtype}{list(shapes.get(str(value.name), ('?',)))}"
