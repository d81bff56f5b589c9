"""Whole branches that may leave: what is added to a tensor of its own shape can be left out of the sum.

    x -> Conv -> Relu -> Conv -> Add(., x)   =>   x

A residual block of a convolutional network, the attention or the feed-forward half of a transformer layer, the main
path beside a projection. Only nodes that feed nothing else leave with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.graph.edit import constant, remove_dead, replace_output
from modelopt_cli.graph.shapes import Elements

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "Einsum"})


@dataclass(frozen=True)
class Block:
    """A branch, by names: it means the same in a clone of the graph.

    Attributes:
        name: Of the Add.
        sum: Its output.
        branch: The operand that leaves.
        nodes: First outputs of the nodes that leave with it.
        producers: Names of the weighted sums among them.
    """

    name: str
    sum: str
    branch: str
    nodes: frozenset[str]
    producers: tuple[str, ...]


def find_blocks(graph: ir.Graph, shapes: Mapping[str, Elements]) -> list[Block]:
    """Branches that can be left out, in graph order; of the two operands of an Add the one with more behind it.

    Args:
        graph: The main graph.
        shapes: What is known of shapes, by name: only an operand as large as the sum can take its place.
    """
    found = []
    order = {node: index for index, node in enumerate(graph)}
    for add in graph:
        if not is_sum_of_two(add) or any(constant(v) is not None for v in add.inputs):
            continue
        cones = [(_cone(add, index, order), index) for index in (0, 1) if _can_take_over(add, 1 - index, shapes)]
        cones = [(cone, index) for cone, index in cones if _is_worth(cone) and not _starves(graph, cone)]
        if cones:
            cone, index = max(cones, key=lambda pair: _weighted(pair[0]))
            names = frozenset(node.outputs[0].name or "" for node in cone)
            total, branch = add.outputs[0].name or "", add.inputs[index]
            assert branch is not None
            producers = tuple(node.name or node.outputs[0].name or "" for node in cone if node.op_type in WEIGHTED)
            found.append(Block(add.name or total, total, branch.name or "", names, producers))
    return found


def remove_blocks(model: ir.Model, blocks: Iterable[Block]) -> int:
    """Leave branches out of their sums; those within a branch that has left are gone already.

    Returns:
        How many left.
    """
    count = 0
    for block in blocks:
        add = next((node for node in model.graph if node.outputs and node.outputs[0].name == block.sum), None)
        if add is None or not is_sum_of_two(add) or block.branch not in {v.name for v in add.inputs if v is not None}:
            continue
        stays = next(value for value in add.inputs if value is not None and value.name != block.branch)
        replace_output(add.outputs[0], stays)
        weights = [v for node in model.graph if block.nodes & {o.name for o in node.outputs} for v in node.inputs]
        remove_dead(model.graph, [add])
        for value in weights:
            if value is not None and value.is_initializer() and not value.uses() and not value.is_graph_output():
                model.graph.initializers.pop(value.name or "", None)
        count += 1
    return count


def inside(blocks: Sequence[Block], name: str) -> list[int]:
    """Indices of the blocks that the node with this first output leaves with."""
    return [index for index, block in enumerate(blocks) if name in block.nodes or name == block.sum]


def is_sum_of_two(node: ir.Node) -> bool:
    """Whether a node is an Add, or a Sum of two operands: `fuse` writes some residual sums so."""
    return node.op_type in ("Add", "Sum") and node.domain in ("", "ai.onnx") and len(node.inputs) == 2


def _can_take_over(add: ir.Node, index: int, shapes: Mapping[str, Elements]) -> bool:
    """Whether an operand is of the shape of the sum, and may become the sum's readers' input."""
    operand, total = add.inputs[index], add.outputs[0]
    if operand is None or add.inputs[0] is add.inputs[1]:
        return False
    known = shapes.get(operand.name or ""), shapes.get(total.name or "")
    return known[0] is not None and known[0] == known[1] and not total.is_graph_output()


def _cone(add: ir.Node, index: int, order: Mapping[ir.Node, int]) -> list[ir.Node]:
    """Nodes whose every output is read, if at all, on the way to one operand only."""
    operand = add.inputs[index]
    first = operand.producer() if operand is not None else None
    if first is None or _readers(first) != [add]:
        return []
    cone, pending = {first}, _producers(first)
    while pending:  # the latest first: all of a node's readers are decided before it
        node = max(pending, key=lambda each: order.get(each, -1))
        pending.discard(node)
        outputs = node.outputs
        if node in order and not any(v.is_graph_output() for v in outputs) and set(_readers(node)) <= cone:
            cone.add(node)
            pending |= _producers(node) - cone
    return sorted(cone, key=lambda each: order[each])


def _producers(node: ir.Node) -> set[ir.Node]:
    return {producer for value in node.inputs if value is not None and (producer := value.producer()) is not None}


def _readers(node: ir.Node) -> list[ir.Node]:
    return [use.node for value in node.outputs for use in value.uses()]


def _weighted(cone: Sequence[ir.Node]) -> int:
    return sum(node.op_type in WEIGHTED for node in cone)


def _is_worth(cone: Sequence[ir.Node]) -> bool:
    return _weighted(cone) > 0


def _starves(graph: ir.Graph, cone: Collection[ir.Node]) -> bool:
    """Whether some input of the model would be read by nobody."""
    leaving = set(cone)
    return any(value.uses() and {use.node for use in value.uses()} <= leaving for value in graph.inputs)
