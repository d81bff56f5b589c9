"""What each group costs in float and in integers: the profiles of both models, under the groups' names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from modelopt_cli.data.dataset import Sample
from modelopt_cli.passes.quantize.groups import Group
from modelopt_cli.passes.quantize.plan import label
from modelopt_cli.profiling.names import node_label
from modelopt_cli.profiling.per_op import profile_nodes

RUNS = 10
# What run-time quantization calls the product it makes of a node, and the runtime the kernel it makes of a pattern.
_MADE_OF = re.compile(r"(_\d+)?_int8$|_token_\d+$|_nchwc$")


def group_times(
    models: Iterable[ir.Model], graph: ir.Graph, groups: Sequence[Group], sample: Sample
) -> list[dict[str, float]]:
    """Milliseconds per run of each model, by group, and by node for what is in none.

    A fused kernel counts for all that it stands for; what quantizes a tensor, for the group that makes it.

    Args:
        models: The float model, and what was made of it.
        graph: Of the float model.
        groups: Of its nodes.
        sample: What the models are fed.
    """
    names = {node: group.name for group in groups for node in group.nodes}
    homes = {**names, **_tensors(graph, names)}
    return [_milliseconds(model, sample, homes) for model in models]


def _tensors(graph: ir.Graph, names: Mapping[str, str]) -> dict[str, str]:
    """Tensor -> group: what the quantizer puts in is called after the tensor that it stands behind; and nodes likewise,
    as a profile calls them.
    """
    found = {}
    for node in graph:
        if (group := names.get(label(node))) is not None:
            found[str(node.outputs[0].name)] = found[node_label(node)] = group
    return found


def _milliseconds(model: ir.Model, sample: Sample, homes: Mapping[str, str]) -> dict[str, float]:
    """Time per run by group, and by node for what is in none; a fused kernel counts for all that it stands for."""
    groups = set(homes.values())
    found: dict[str, float] = {}
    for each in profile_nodes(model, model, sample, RUNS, count=False).times:
        own = _home(each.name, homes)
        nodes = () if own in groups else each.nodes
        owners = list(dict.fromkeys(_home(node, homes) for node in nodes)) or [own]
        for owner in owners:
            found[owner] = found.get(owner, 0.0) + each.ms / len(owners)
    return found


def _home(node: str, homes: Mapping[str, str]) -> str:
    """The group of a node of the file, or of one that stands behind a tensor of it."""
    for name in (node, node.rsplit(".", 1)[0], _MADE_OF.sub("", node)):
        if name in homes:
            return homes[name]
    return node
