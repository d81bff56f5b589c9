"""A plan: which operators may run as integers. It is what a search varies, a report records and ``--plan`` replays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import onnx_ir as ir

from modelopt_cli.calibration.ranges import RangeRules
from modelopt_cli.targets.schemes import Scheme

# Below this a multiplying operator saves less than the Quantize and Dequantize around it cost.
MIN_MACS = 200_000
# Integer kernels that exist but are slower than float outside of channels-last layout; a search tries them.
_NOT_BY_DEFAULT = frozenset({"AveragePool", "MaxPool", "Gather", "Expand", "SiLU"})


@dataclass(frozen=True)
class Plan:
    """Which nodes may run as integers.

    Attributes:
        ops: Operator types; ``SiLU`` stands for Sigmoid and Mul of one tensor.
        min_macs: Conv, Gemm and MatMul of fewer multiply-accumulates stay float.
        min_channels: Convolutions of pictures with fewer input channels stay float, as the scheme says.
        float_nodes: Names of nodes that stay float whatever their type; shell patterns.
        only_nodes: Shell patterns; when there are any, nodes that match none stay float.
        fed_by_integers: MatMul and Gemm are static only where an integer kernel feeds them; elsewhere their input
            has to be quantized anyway, and a range found at run time is the better one.
        float_products: Names of MatMul, Gemm and LSTM nodes whose ranges are not found at run time either.
        float_only: Nothing runs as integers, at run time neither: weights are int8 in the file only. What a search
            falls back to where integers are slower than float.
        ranges: How the range of each tensor follows from its values; None as long as nothing was chosen.
        attention_parts: Attention is written as its float parts instead of the operator.
    """

    ops: frozenset[str]
    min_macs: int = MIN_MACS
    min_channels: int = 0
    float_nodes: frozenset[str] = frozenset()
    only_nodes: frozenset[str] = frozenset()
    fed_by_integers: bool = False
    float_products: frozenset[str] = frozenset()
    float_only: bool = False
    ranges: RangeRules | None = None
    attention_parts: bool = False

    def allows(self, node: ir.Node) -> bool:
        """Whether the names and types allow this node."""
        name = label(node)
        if node.op_type not in self.ops or _matches(name, self.float_nodes):
            return False
        return not self.only_nodes or _matches(name, self.only_nodes)

    def without(self, *ops: str) -> Plan:
        """The same plan with these operators in float."""
        return replace(self, ops=self.ops - set(ops))

    def with_ops(self, *ops: str) -> Plan:
        """The same plan with these operators as integers."""
        return replace(self, ops=self.ops | set(ops))

    def in_float(self, nodes: Iterable[str], products: Iterable[str] = ()) -> Plan:
        """The same plan with these nodes, by `label`, in float."""
        return replace(
            self, float_nodes=self.float_nodes | set(nodes), float_products=self.float_products | set(products)
        )

    def to_json(self) -> dict[str, Any]:
        """JSON types, sorted: equal plans have equal text."""
        return {
            "ops": sorted(self.ops),
            "min_macs": self.min_macs,
            "min_channels": self.min_channels,
            "float_nodes": sorted(self.float_nodes),
            "only_nodes": sorted(self.only_nodes),
            "fed_by_integers": self.fed_by_integers,
            "float_products": sorted(self.float_products),
            "float_only": self.float_only,
            "ranges": None if self.ranges is None else self.ranges.to_json(),
            "attention_parts": self.attention_parts,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Plan:
        """What `to_json` wrote."""
        return cls(
            ops=frozenset(fields["ops"]),
            min_macs=int(fields["min_macs"]),
            min_channels=int(fields.get("min_channels", 0)),
            float_nodes=frozenset(fields["float_nodes"]),
            only_nodes=frozenset(fields["only_nodes"]),
            fed_by_integers=bool(fields["fed_by_integers"]),
            float_products=frozenset(fields.get("float_products", ())),
            float_only=bool(fields.get("float_only", False)),
            ranges=None if fields.get("ranges") is None else RangeRules.from_json(fields["ranges"]),
            attention_parts=bool(fields.get("attention_parts", False)),
        )


def label(node: ir.Node) -> str:
    """What a plan calls a node: its name, or its output's where it has none."""
    return node.name or str(node.outputs[0].name)


def default_plan(scheme: Scheme) -> Plan:
    """The table's plan for a target."""
    return Plan(scheme.integer_ops - _NOT_BY_DEFAULT, min_channels=scheme.min_channels)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)
