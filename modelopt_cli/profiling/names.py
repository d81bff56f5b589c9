"""Nodes of the graph that the runtime really ran, under the names of the file that the user gave.

Fusion keeps the name of the last tensor of what it fuses, so a node of the optimized graph stands for the nodes of the
file between the tensors it reads and the tensor it writes::

    file        x -> Conv "c" -> t -> Relu "r" -> y
    optimized   x -> FusedConv "fused Conv and Relu" -> y         stands for: c, r
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import onnx_ir as ir

_BLOCKED = "_nchwc"  # what the runtime appends to a tensor's name to name the Conv that writes it in blocked layout
_CONVERTS = frozenset({"Cast", "Constant", "DequantizeLinear", "Identity", "QuantizeLinear"})
_COPY = re.compile(r"_token_\d+$")  # and to a node's name to name the one that takes its place


def covered_nodes(model: ir.Model, optimized: ir.Model) -> dict[str, tuple[str, ...]]:
    """Name of an optimized node -> names of the file's nodes it stands for, in the file's order, conversions last.

    Each node of the file belongs to one optimized node at most. Nodes that the runtime put in (layout changes) stand
    for none; nodes of subgraphs are not followed.

    Args:
        model: As the user gave it.
        optimized: What the runtime made of it.
    """
    nodes = list(model.graph)
    producer = {output.name: index for index, node in enumerate(nodes) for output in node.outputs if output.name}
    by_name = {node.name: index for index, node in enumerate(nodes) if node.name}
    ends = {node.name: _ends(node, nodes, producer, by_name) for node in optimized.graph if node.name}
    kept = {tensor for tensors in ends.values() for tensor in tensors}
    kept |= {value.name for node in optimized.graph for value in node.inputs if value is not None and value.name}
    taken: set[int] = set()
    found: dict[str, set[int]] = {}
    for name, tensors in ends.items():
        mine: set[int] = set()
        for tensor in tensors:
            _walk_back(tensor, nodes, producer, kept, taken, mine)
        taken |= mine
        found[name] = mine
    for node in optimized.graph:
        _give_back(node, found, nodes, producer)
    order = {index: (node.op_type in _CONVERTS, index) for index, node in enumerate(nodes)}
    return {
        name: tuple(node_label(nodes[index]) for index in sorted(mine, key=order.__getitem__))
        for name, mine in found.items()
    }


def node_label(node: ir.Node) -> str:
    """The node's name, or its type and first output where it has none."""
    return node.name or f"{node.op_type}({node.outputs[0].name})"


def _ends(
    node: ir.Node, nodes: list[ir.Node], producer: Mapping[str, int], by_name: Mapping[str, int]
) -> tuple[str, ...]:
    """Tensors of the file that an optimized node writes, whatever they are called there."""
    own = tuple(output.name for output in node.outputs if output.name and output.name in producer)
    name = node.name or ""
    if own:
        return () if _only_moves(node, nodes[producer[own[0]]]) else own
    if name.removesuffix(_BLOCKED) in producer:
        return (name.removesuffix(_BLOCKED),)
    index = by_name.get(name, by_name.get(_COPY.sub("", name)))
    if index is None:
        return ()
    quantized = _quantized_by(nodes[index]) if node.op_type.startswith("QLinear") else None
    return tuple(output.name for output in (quantized or nodes[index]).outputs if output.name)


def _only_moves(node: ir.Node, computed: ir.Node) -> bool:
    """Whether the runtime put a node in to bring what another one ``computed`` into its place."""
    return node.op_type == "ReorderOutput" or (node.op_type == "Transpose" != computed.op_type)


def _quantized_by(node: ir.Node) -> ir.Node | None:
    """The QuantizeLinear that an integer kernel swallows: right behind its operator, or behind an activation."""
    for _ in range(2):
        consumers = node.outputs[0].consumers()
        if len(consumers) != 1:
            return None
        node = consumers[0]
        if node.op_type == "QuantizeLinear":
            return node
    return None


def _walk_back(
    tensor: str, nodes: list[ir.Node], producer: Mapping[str, int], kept: set[str], taken: set[int], mine: set[int]
) -> None:
    pending = [tensor]
    while pending:
        index = producer.get(pending.pop())
        if index is None or index in taken or index in mine:
            continue
        mine.add(index)
        pending += [
            value.name for value in nodes[index].inputs if value is not None and value.name and value.name not in kept
        ]


def _give_back(node: ir.Node, found: Mapping[str, set[int]], nodes: list[ir.Node], producer: Mapping[str, int]) -> None:
    """Where a node reads a tensor without a name in the file, what stands before its own operator is the writer's.

    The runtime fuses what follows an operator, not what precedes it: Conv, Add, Relu become one Conv whose output is in
    blocked layout and has lost its name.
    """
    data = node.inputs[0] if node.inputs else None
    writer = None if data is None else data.producer()
    if data is None or writer is None or data.name in producer or not found.get(writer.name or ""):
        return
    mine = found.get(node.name or "", set())
    own = [index for index in sorted(mine) if nodes[index].op_type == node.op_type]
    if own:
        before: set[int] = set()
        inputs = [value.name for value in nodes[own[0]].inputs if value is not None and value.name]
        for tensor in inputs:
            _walk_back(tensor, nodes, producer, set(), set(range(len(nodes))) - mine, before)
        mine -= before
        found[writer.name or ""].update(before)
