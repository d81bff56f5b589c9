"""Which channels leave: the distribution of a budget over groups, by arithmetic or by the clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import onnx_ir as ir

from modelopt_cli.data.dataset import Sample
from modelopt_cli.passes.prune.structured.analysis import Dependencies, find_dependencies
from modelopt_cli.passes.prune.structured.budget import Choice, distribute
from modelopt_cli.passes.prune.structured.cost import Costs
from modelopt_cli.passes.prune.structured.removal import kept_without, remove_channels
from modelopt_cli.passes.prune.structured.survey import Surveyed
from modelopt_cli.profiling.timing import compare_latency

TRIALS = 6
TRIAL_S = 1.5
CLOSE = 0.02


@dataclass(frozen=True)
class Budget:
    """What may stay, as a share of the original's."""

    kind: Literal["macs", "parameters", "latency"]
    share: float


@dataclass(frozen=True)
class Plan:
    """What leaves.

    Attributes:
        gone: Components, by label.
        groups: Parts before and after of each group that shrinks, by name.
        macs: Share that stays.
        parameters: Share that stays.
        reached: What the budget counts, as a share.
        met: Whether the budget was met.
        choices: What each group that may shrink could give, by name.
    """

    gone: tuple[int, ...]
    groups: dict[str, list[int]]
    macs: float
    parameters: float
    reached: float
    met: bool
    choices: dict[str, Choice]


def plan_for(
    model: ir.Model, found: Dependencies, costs: Costs, surveyed: Sequence[Surveyed], budget: Budget, sample: Sample
) -> Plan:
    """The least error within the budget.

    A budget of latency is met by the clock: the share of multiply-accumulates is halved in until the measured time of
    the smaller model, whose weights do not matter to it, is what was asked for.
    """
    if budget.kind != "latency":
        return _by_arithmetic(found, costs, surveyed, budget)
    low, high, best = 0.0, 1.0, None
    for _ in range(TRIALS):
        middle = (low + high) / 2 if best is not None or low > 0 else budget.share
        plan = _by_arithmetic(found, costs, surveyed, Budget("macs", middle))
        ratio = _measure(model, plan, sample)
        if ratio <= budget.share:
            best = _with_reached(plan, ratio, met=True)
            low = middle
        else:
            high = middle
            last = _with_reached(plan, ratio, met=False)
            if not plan.met:
                return best or last
        if high - low < CLOSE:
            break
    return best or last


def _by_arithmetic(found: Dependencies, costs: Costs, surveyed: Sequence[Surveyed], budget: Budget) -> Plan:
    by_group = {each.candidate.group.labels: each for each in surveyed}
    choices = [
        by_group[group.labels].choice if group.labels in by_group else Choice((group.size,), (0.0,))
        for group in found.groups
    ]
    count = costs.parameters if budget.kind == "parameters" else costs.macs
    levels, met = distribute(choices, count, budget.share * count(costs.whole))
    gone, groups = [], {}
    for group, choice, level in zip(found.groups, choices, levels, strict=True):
        if level:
            gone += [group.labels[part] for part in by_group[group.labels].levels[level].gone]
            groups[group.name] = [group.size, choice.keeps[level]]
    counts = [choice.keeps[level] for choice, level in zip(choices, levels, strict=True)]
    macs, parameters = (cost(counts) / max(cost(costs.whole), 1) for cost in (costs.macs, costs.parameters))
    reached = parameters if budget.kind == "parameters" else macs
    given = {group.name: choice for group, choice in zip(found.groups, choices, strict=True) if len(choice.keeps) > 1}
    return Plan(tuple(gone), groups, round(macs, 4), round(parameters, 4), reached, met, given)


def _measure(model: ir.Model, plan: Plan, sample: Sample) -> float:
    if not plan.gone:
        return 1.0
    smaller = model.clone()
    found = find_dependencies(smaller)  # the same graph: the same numbers
    remove_channels(smaller, found, kept_without(found, plan.gone))
    return compare_latency(model, smaller, dict(sample), budget_s=TRIAL_S).ratio


def _with_reached(plan: Plan, reached: float, *, met: bool) -> Plan:
    return replace(plan, reached=reached, met=met)
