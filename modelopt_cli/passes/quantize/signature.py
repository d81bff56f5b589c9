"""What a group looks like: groups that look alike are repeated blocks, such as the layers of a transformer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from modelopt_cli.graph.edit import constant
from modelopt_cli.passes.quantize.groups import Group
from modelopt_cli.passes.quantize.plan import label

REACH = 2  # nodes to either side: further away nothing shares a Quantize or Dequantize with a node, or is fused with it


def signature(nodes: Iterable[ir.Node], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Text that is equal for groups of equal structure, whatever the values of their weights.

    Args:
        nodes: Of the group, in graph order.
        shapes: Of activations, by name, where known.

    Returns:
        Per node: operator, attributes, and type and shape of each input, constants told from activations.
    """
    return "; ".join(_node(node, shapes) for node in nodes)


def positions(graph: ir.Graph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """What each node and its surroundings look like: equal text for nodes at one place of repeated blocks.

    Colour refinement (Weisfeiler and Leman 1968, "A reduction of a graph to a canonical form"): a node's colour, which
    is its `signature` at first, becomes that of itself with those of its neighbours by operand, `REACH` times.

    Args:
        graph: Of the float model; subgraphs count for nothing.
        shapes: Of activations, by name, where known.

    Returns:
        Digests by `label`.
    """
    colours = {node: _digest(signature([node], shapes)) for node in graph}
    for _ in range(REACH):
        colours = {node: _digest(f"{own} {_around(node, colours)}") for node, own in colours.items()}
    return {label(node): colour for node, colour in colours.items()}


def classes(groups: Sequence[Group], places: Mapping[str, str]) -> list[list[Group]]:
    """Groups that stand at one place of repeated blocks, together: what one costs the others cost. Order is kept.

    Args:
        groups: Of one graph.
        places: Its `positions`.
    """
    found: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        found.setdefault((group.way, place_of(group, places)), []).append(group)
    return list(found.values())


def place_of(group: Group, places: Mapping[str, str]) -> str:
    """Text that is equal for the groups of one of the `classes`, whichever way they go."""
    return " ".join(places.get(node, node) for node in group.nodes)


def _around(node: ir.Node, colours: Mapping[ir.Node, str]) -> str:
    """The colours of what makes each input, and of what reads each output; readers have no order."""
    makers = [None if value is None else value.producer() for value in node.inputs]
    before = ["" if maker is None else colours.get(maker, "") for maker in makers]
    after = []
    for at, value in enumerate(node.outputs):
        after += [f"{at} {use.idx} {colours.get(use.node, '')}" for use in value.uses()]
        after += [f"{at} output"] * value.is_graph_output()
    return f"{before} {sorted(after)}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


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
