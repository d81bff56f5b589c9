"""The audit of a plan: each group, integer, float or dynamic, why, what it costs in time and in error."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import onnx_ir as ir

from modelopt_cli.passes.base import Skip
from modelopt_cli.passes.quantize.builder import Builder
from modelopt_cli.passes.quantize.group_times import group_times
from modelopt_cli.passes.quantize.groups import Group
from modelopt_cli.passes.quantize.output_error import OutputJudge
from modelopt_cli.passes.quantize.search import Search
from modelopt_cli.passes.quantize.sensitivity import DynamicAlone, measure_groups
from modelopt_cli.passes.quantize.signature import place_of
from modelopt_cli.progress import Progress

SECONDS = 60.0  # for errors, where somebody asks for them
_WHY = {
    "static": "the target has integer kernels for it, and the whole is faster with them",
    "dynamic": "no integer kernel feeds it: its range is found at run time",
}
_KEPT = {
    "dynamic": "the outputs would not keep with a range from calibration data",
    "float": "the outputs would not keep with it in int8",
}


def explain_plan(
    model: ir.Model,
    builder: Builder,
    search: Search,
    judge: OutputJudge,
    alone: DynamicAlone | None,
    skipped: Iterable[Skip],
    progress: Progress,
    seconds: float,
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
        seconds: For errors; groups that they leave no time for are listed without.
    """
    groups = [] if search.plan.float_only else builder.groups(search.plan)
    deadline = time.monotonic() + seconds
    errors = {
        each.group.name: each.alone.worst.sqnr_db
        for each in measure_groups(groups, builder, search.plan, judge, alone, deadline=deadline, progress=progress)
    }
    names = {node for group in groups for node in group.nodes}
    before, after = group_times((model, search.built.model), model.graph, groups, builder.sample)
    rows = [
        _row(group, before, after, errors.get(group.name)) | {"block": place_of(group, builder.places)}
        for group in groups
    ]
    float_nodes = [skip for skip in skipped if skip.node not in names]
    rows += [_float_row(skip, before.get(skip.node), after.get(skip.node)) for skip in float_nodes]
    _say_what_was_moved(rows, groups, search.moved, builder.places)
    return rows


def _say_what_was_moved(
    rows: Iterable[dict[str, Any]], groups: Iterable[Group], moved: Collection[str], places: Mapping[str, str]
) -> None:
    """Why a group left its class for the sake of the outputs, and how many of that class stayed."""
    stayed: dict[str, Counter[str]] = {}
    for group in groups:
        for node in set(group.nodes) - set(moved):
            stayed.setdefault(places.get(node, node), Counter())[group.way] += 1
    for row in rows:
        if row["group"] in moved and row["way"] in _KEPT:
            twins = stayed.get(places.get(row["group"], row["group"]), Counter())
            split = "".join(f"; {count} at its place in other blocks stay {way}" for way, count in twins.items())
            row["why"] = _KEPT[row["way"]] + split


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
