"""Proof of placement: which provider runs which nodes, what that costs, and what fell back."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from modelopt_cli.profiling.session import AssignedNode, Model, assigned_nodes, loadable
from modelopt_cli.profiling.timing import Setting
from modelopt_cli.profiling.trace import NodeRun, trace

SHAPE_ELEMENTS = 64  # integer tensors up to this size are shapes, whose arithmetic runtimes keep on the CPU on purpose
_EXAMPLES = 3


@dataclass(frozen=True)
class Share:
    """What one provider has of a model.

    Attributes:
        provider: The runtime's name of it.
        nodes: Nodes it took.
        node_share: Of all nodes.
        time_share: Of the time of a run, under the profiler.
    """

    provider: str
    nodes: int
    node_share: float
    time_share: float


@dataclass(frozen=True)
class Fallback:
    """Nodes of one type that the wanted provider left to another one.

    Attributes:
        op_type: Operator.
        provider: Who runs them.
        count: How many.
        reason: What can be told of why.
        examples: Names of a few.
    """

    op_type: str
    provider: str
    count: int
    reason: str
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Placement:
    """Who runs what; ``fallbacks`` is empty when the wanted provider has all but shape arithmetic."""

    wanted: str
    shares: tuple[Share, ...]
    fallbacks: tuple[Fallback, ...]


def place(model: Model, feeds: Mapping[str, np.ndarray], setting: Setting) -> Placement:
    """Open and run a model once under the profiler.

    Raises:
        ModelError: It cannot be loaded or run.
        ProviderError: The provider is missing or took none of the nodes.
    """
    with loadable(model) as source:
        session = setting.open(source)
        wanted, nodes = session.get_providers()[0], assigned_nodes(session)
        ran = trace(source, feeds, provider=setting.provider, threads=setting.threads, config=setting.config)
    return Placement(wanted, _shares(nodes, ran), tuple(_fallbacks(wanted, nodes, ran)))


def _shares(nodes: list[AssignedNode], ran: list[NodeRun]) -> tuple[Share, ...]:
    counts = Counter(node.provider for node in nodes) or Counter(run.provider for run in ran)
    spent: defaultdict[str, float] = defaultdict(float)
    for run in ran:
        spent[run.provider] += run.ms
    total, time = counts.total(), sum(spent.values()) or 1.0
    return tuple(Share(name, count, count / total, spent[name] / time) for name, count in counts.most_common())


def _fallbacks(wanted: str, nodes: list[AssignedNode], ran: list[NodeRun]) -> list[Fallback]:
    shapes = {run.name for run in ran if _is_shape_arithmetic(run)}
    took = {node.op_type for node in nodes if node.provider == wanted}
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for node in nodes:
        if node.provider != wanted and node.name not in shapes:
            groups[node.op_type, node.provider].append(node.name)
    return [
        Fallback(op_type, provider, len(names), _reason(wanted, op_type, op_type in took), tuple(names[:_EXAMPLES]))
        for (op_type, provider), names in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]


def _reason(wanted: str, op_type: str, takes_others: bool) -> str:
    if takes_others:
        return f"{wanted} took other {op_type} nodes: the types, shapes or attributes of these are not for it"
    return f"{wanted} took no {op_type} at all"


def _is_shape_arithmetic(run: NodeRun) -> bool:
    small = all(math.prod(shape) <= SHAPE_ELEMENTS for shape in run.outputs)
    return bool(run.types) and small and all(kind in ("int64", "int32", "bool") for kind in run.types)
