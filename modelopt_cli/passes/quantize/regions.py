"""Which nodes run as integers: those that pay, together with their neighbours.

A node by itself rarely pays: its tensors must be quantized before it and dequantized after it. So all that could be
integer start as integer, and nodes go back to float one after another while that makes the whole cheaper by the cost
table: a local search for the minimum cut between the float and the integer part of the graph.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.graph.edit import constant
from modelopt_cli.passes.base import Skip
from modelopt_cli.passes.quantize.kinds import Candidate, candidate
from modelopt_cli.passes.quantize.plan import Plan, label
from modelopt_cli.passes.quantize.shapes import Shapes
from modelopt_cli.passes.quantize.silu import SILU, in_silu
from modelopt_cli.targets import costs
from modelopt_cli.targets.schemes import Scheme


@dataclass(frozen=True)
class Regions:
    """The integer part of a graph.

    Attributes:
        integer: Candidates by node, in graph order.
        skipped: Nodes one might expect among them, with reasons.
    """

    integer: dict[ir.Node, Candidate]
    skipped: tuple[Skip, ...]


def choose_regions(
    graph: ir.Graph, scheme: Scheme, plan: Plan, shapes: Shapes, places: Mapping[str, str] | None = None
) -> Regions:
    """The integer part of a graph under a plan.

    Args:
        graph: Of the float model.
        scheme: What the target runs as integers.
        plan: What may.
        shapes: Of the tensors.
        places: `signature.positions`: nodes of one place have one decision, by their costs together; none given, each
            decides for itself.
    """
    places = places or {}
    found: dict[ir.Node, Candidate] = {}
    skipped: list[Skip] = []
    of_pictures: set[ir.Node] = set()
    for node in graph:
        what = candidate(node, scheme, shapes)
        reason = what if isinstance(what, str) else _refusal(what, plan) if what is not None else _known(node, scheme)
        if isinstance(what, Candidate) and _has_few_channels(what, plan.min_channels):
            of_pictures.add(node)
        elif isinstance(what, Candidate) and reason is None and _is_depthwise_behind(what, of_pictures):
            reason = "its input is float, and so is the faster kernel of a depthwise Conv"
        if reason is not None:
            skipped.append(Skip(node.name or node.outputs[0].name or "", f"{node.op_type}: {reason}"))
        elif isinstance(what, Candidate):
            found[node] = what
    kept = _cheapest(found, shapes, places)
    while plan.fed_by_integers and (starved := _starved(found, kept, places)):
        kept = _cheapest({node: what for node, what in found.items() if node in kept - starved}, shapes, places)
    gone = [node for node in found if node not in kept]
    skipped.extend(_isolated(node) for node in gone)
    return Regions({node: what for node, what in found.items() if node in kept}, tuple(skipped))


def _refusal(what: Candidate, plan: Plan) -> str | None:
    if not plan.allows(what.node):
        return "the plan keeps it in float"
    if SILU not in plan.ops and in_silu(what.node):
        return "x * Sigmoid(x) is one operator in float, and two in integers"
    if what.kind == "multiply" and what.macs < plan.min_macs:
        return "it multiplies too little to pay for quantizing around it"
    if _has_few_channels(what, plan.min_channels):
        return "the float kernel is faster for so few input channels"
    return None


def _has_few_channels(what: Candidate, fewest: int) -> bool:
    """A convolution of pictures that mixes few channels, unless a MaxPool follows.

    onnxruntime moves the Quantize behind a MaxPool in front of it, and its MaxPool of bytes is ten times as slow as
    that of floats unless an integer convolution has put the channels last.
    """
    node = what.node
    weight = constant(node.inputs[1]) if node.op_type == "Conv" else None
    if weight is None or weight.ndim != 4 or weight.shape[1] >= fewest or node.attributes.get_int("group", 1) != 1:
        return False
    return all(use.node.op_type != "MaxPool" for use in what.head.uses())


def _is_depthwise_behind(what: Candidate, of_pictures: set[ir.Node]) -> bool:
    """A depthwise convolution of what a float convolution of pictures computes, as MobileNets begin.

    Its integer kernel takes twice the time of the float one, which elsewhere saves less than turning tensors to floats
    and back costs; here nothing has to be turned back, and the result is quantized instead of the input.
    """
    if what.node.op_type != "Conv":
        return False
    weight, groups = constant(what.node.inputs[1]), what.node.attributes.get_int("group", 1)
    if weight is None or weight.ndim != 4 or groups == 1 or weight.shape[:2] != (groups, 1):
        return False
    maker = what.activations[0].producer()
    if maker is not None and maker.op_type in ("Relu", "Clip", "LeakyRelu", "HardSwish"):
        value = maker.inputs[0]
        maker = None if value is None else value.producer()
    return maker in of_pictures


def _known(node: ir.Node, scheme: Scheme) -> str | None:
    return scheme.stays_float.get(node.op_type)


def _isolated(node: ir.Node) -> Skip:
    return Skip(node.name or node.outputs[0].name or "", f"{node.op_type}: its neighbours are float")


def _starved(found: dict[ir.Node, Candidate], kept: set[ir.Node], places: Mapping[str, str]) -> set[ir.Node]:
    """MatMul and Gemm whose input no integer kernel makes; of one place all, where it is so for half of them."""
    makers = {found[node].head: node for node in kept}
    alike: dict[str, dict[ir.Node, bool]] = {}
    for node in kept:
        if node.op_type in ("MatMul", "Gemm"):
            maker = makers.get(found[node].activations[0])
            while maker is not None and found[maker].kind == "move":
                maker = makers.get(found[maker].activations[0])
            alike.setdefault(places.get(label(node), label(node)), {})[node] = maker is None
    return {node for each in alike.values() if 2 * sum(each.values()) >= len(each) for node in each}


def _cheapest(found: dict[ir.Node, Candidate], shapes: Shapes, places: Mapping[str, str]) -> set[ir.Node]:
    """Only ever from integer to float, so that the search ends."""
    integer = set(found)
    producers = {what.head: node for node, what in found.items()}
    alike: dict[str, list[ir.Node]] = {}
    for node, what in reversed(found.items()):
        if what.kind != "multiply":
            alike.setdefault(places.get(label(node), label(node)), []).append(node)
    undecided = list(alike.values())
    losing = undecided
    while losing:
        losing = []
        for nodes in undecided:
            if sum(_gain(found[node], integer, producers, shapes) for node in nodes) <= 0:
                integer.difference_update(nodes)
                losing.append(nodes)
        undecided = [nodes for nodes in undecided if nodes not in losing]
    return _with_work(integer, found)


def _with_work(integer: set[ir.Node], found: dict[ir.Node, Candidate]) -> set[ir.Node]:
    """The connected parts that multiply: moving or adding integers alone is not what makes a model fast."""
    neighbours: dict[ir.Node, set[ir.Node]] = {node: set() for node in integer}
    for node in integer:
        for reader in {use.node for use in found[node].head.uses()} & integer:
            neighbours[node].add(reader)
            neighbours[reader].add(node)
    kept = {node for node in integer if found[node].kind == "multiply"}
    pending = list(kept)
    while pending:
        fresh = neighbours[pending.pop()] - kept
        kept |= fresh
        pending.extend(fresh)
    return kept


def _gain(what: Candidate, integer: set[ir.Node], producers: dict[ir.Value, ir.Node], shapes: Shapes) -> float:
    """Nanoseconds saved by this node being integer, its neighbours being what they are."""
    cost = costs.cost_of(what.node.op_type)
    work = max(_size(value, shapes) for value in (*what.activations, what.head))
    gain = work * (cost.float_ns if what.kind == "affine" else cost.float_ns - cost.integer_ns)
    for value in dict.fromkeys(what.activations):
        others = [use.node in integer for use in value.uses() if use.node is not what.node]
        if producers.get(value) in integer:
            needed_anyway = value.is_graph_output() or not all(others)
            gain += 0 if needed_anyway else costs.DEQUANTIZE_NS * _size(value, shapes)
        elif not any(others):
            gain -= costs.QUANTIZE_NS * _size(value, shapes)
    readers, size = [use.node in integer for use in what.head.uses()], _size(what.head, shapes)
    if any(readers):
        gain += costs.QUANTIZE_NS * size
    if what.head.is_graph_output() or not all(readers):
        gain -= costs.DEQUANTIZE_NS * size
    return gain


def _size(value: ir.Value, shapes: Shapes) -> float:
    return float(math.prod(shapes[str(value.name)]))
