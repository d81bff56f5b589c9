"""The audit of a plan: each group, integer, float or dynamic, why, what it costs in time and in error."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

import onnx_ir as ir

from modelopt_cli.data.dataset import Sample
from modelopt_cli.passes.base import Skip
from modelopt_cli.passes.quantize.builder import Builder
from modelopt_cli.passes.quantize.groups import Group, all_groups, static_groups
from modelopt_cli.passes.quantize.output_error import OutputJudge
from modelopt_cli.passes.quantize.plan import label
from modelopt_cli.passes.quantize.search import Search
from modelopt_cli.passes.quantize.sensitivity import DynamicAlone, measure_groups
from modelopt_cli.profiling.names import node_label
from modelopt_cli.profiling.per_op import profile_nodes
from modelopt_cli.progress import Progress

SECONDS = 60.0  # for errors; groups that it leaves no time for are listed without
RUNS = 10
# What run-time quantization calls the product it makes of a node, and the runtime the kernel it makes of a pattern.
_MADE_OF = re.compile(r"(_\d+)?_int8$|_token_\d+$|_nchwc$")
_WHY = {
    "static": "the target has integer kernels for it, and the whole is faster with them",
    "dynamic": "no integer kernel feeds it: its range is found at run time",
}


def explain_plan(
    model: ir.Model,
    builder: Builder,
    search: Search,
    judge: OutputJudge,
    alone: DynamicAlone | None,
    skipped: Iterable[Skip],
    progress: Progress,
) -> list[dict[str, Any]]:
    """One row per group in JSON types, integer ones first: way, why, milliseconds in float and in the result, error.

    Args:
        model: The float model.
        builder: Made the result.
        search: The chosen plan and its model.
        judge: Compares outputs with the float model's.
        alone: Builds variants of groups whose ranges are found at run time; None where there are none.
        skipped: What stayed float, and why.
        progress: Where to say how far it is.
    """
    regions = builder.regions(search.plan)
    groups = static_groups(regions) if alone is None else all_groups(model.graph, regions, search.plan)
    groups = [] if search.plan.float_only else groups
    deadline = time.monotonic() + SECONDS
    errors = {
        each.group.name: each.alone.worst.sqnr_db
        for each in measure_groups(groups, builder, search.plan, judge, alone, deadline=deadline, progress=progress)
    }
    names = {node: group.name for group in groups for node in group.nodes}
    homes = {**names, **_tensors(model.graph, names)}
    before, after = (_milliseconds(each, builder.sample, homes) for each in (model, search.built.model))
    rows = [_row(group, before, after, errors.get(group.name)) for group in groups]
    float_nodes = [skip for skip in skipped if skip.node not in names]
    return rows + [_float_row(skip, before.get(skip.node), after.get(skip.node)) for skip in float_nodes]


def _row(group: Group, before: Mapping[str, float], after: Mapping[str, float], error: float | None) -> dict[str, Any]:
    return {
        "group": group.name,
        "ops": list(group.op_types),
        "way": group.way,
        "why": _WHY[group.way],
        "float_ms": before.get(group.name),
        "result_ms": after.get(group.name),
        "alone_db": error,
    }


def _float_row(skip: Skip, before: float | None, after: float | None) -> dict[str, Any]:
    op_type, _, reason = skip.reason.partition(": ")
    known = bool(reason) and op_type.isidentifier()
    return {
        "group": skip.node,
        "ops": [op_type] if known else [],
        "way": "float",
        "why": reason if known else skip.reason,
        "float_ms": before,
        "result_ms": after,
        "alone_db": None,
    }


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
    for each in profile_nodes(model, model, sample, RUNS).times:
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
