"""Groups: what shares one decision between integer and float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from modelopt_cli.passes.quantize.dynamic_products import Product, find_product
from modelopt_cli.passes.quantize.kinds import Candidate
from modelopt_cli.passes.quantize.plan import Plan, label
from modelopt_cli.passes.quantize.regions import Regions

Way = Literal["static", "dynamic"]
PRODUCTS = ("MatMul", "Gemm")  # what may find the range of its input at run time


@dataclass(frozen=True)
class Group:
    """Nodes that are quantized together or not at all.

    Attributes:
        name: Of its first node.
        op_types: Of its nodes, in graph order.
        nodes: As a plan calls them.
        way: Ranges from calibration data, or found at run time.
    """

    name: str
    op_types: tuple[str, ...]
    nodes: tuple[str, ...]
    way: Way

    def without(self, plan: Plan) -> Plan:
        """The plan with this group in float; a static product may then still find its range at run time."""
        return plan.in_float(self.nodes) if self.way == "static" else plan.in_float((), self.nodes)

    def wholly_without(self, plan: Plan) -> Plan:
        """The plan with this group in float, and its products at run time too."""
        kinds = zip(self.nodes, self.op_types, strict=True)
        return self.without(plan).in_float((), (node for node, kind in kinds if kind in PRODUCTS))


def all_groups(graph: ir.Graph, regions: Regions, plan: Plan) -> list[Group]:
    """Both kinds of groups that a plan has on the main graph."""
    return dynamic_groups(graph, regions.integer, plan) + static_groups(regions)


def static_groups(regions: Regions) -> list[Group]:
    """An operator that multiplies or joins tensors, with what follows it alone, in graph order."""
    home: dict[ir.Value, list[ir.Node]] = {}
    groups: list[list[ir.Node]] = []
    for node, what in regions.integer.items():
        source = _only_input(what)
        members = home.get(source) if source is not None and what.kind != "multiply" else None
        if members is None:
            members = []
            groups.append(members)
        members.append(node)
        home[what.head] = members
    return [_group(members, "static") for members in groups]


def dynamic_groups(graph: ir.Graph, static: Mapping[ir.Node, Candidate], plan: Plan) -> list[Group]:
    """Products and LSTMs of the main graph whose ranges are found at run time under a plan."""
    found = [
        node
        for node in graph
        if node not in static
        and label(node) not in plan.float_products
        and (node.op_type == "LSTM" or (node.op_type in PRODUCTS and isinstance(find_product(node), Product)))
    ]
    return [_group([node], "dynamic") for node in found]


def _only_input(what: Candidate) -> ir.Value | None:
    distinct = list(dict.fromkeys(what.activations))
    return distinct[0] if len(distinct) == 1 else None


def _group(nodes: list[ir.Node], way: Way) -> Group:
    return Group(label(nodes[0]), tuple(node.op_type for node in nodes), tuple(label(node) for node in nodes), way)
