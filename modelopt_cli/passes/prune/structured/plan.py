"""Which channels leave: the distribution of a budget over groups, by arithmetic or by the clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import onnx_ir as ir

from modelopt_cli.data.dataset import Sample
from modelopt_cli.passes.prune.structured.analysis import Dependencies, find_dependencies
from modelopt_cli.passes.prune.structured.blocks import Block, remove_blocks
from modelopt_cli.passes.prune.structured.budget import Choice, distribute
from modelopt_cli.passes.prune.structured.cost import Costs
from modelopt_cli.passes.prune.structured.removal import kept_without, remove_channels
from modelopt_cli.passes.prune.structured.survey import Surveyed, SurveyedBlock
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
        blocks: Branches that leave as a whole.
        groups: Parts before and after of each group that shrinks, by name; 1 and 0 for a block.
        macs: Share that stays.
        parameters: Share that stays.
        reached: What the budget counts, as a share.
        met: Whether the budget was met.
        choices: What each group that may shrink could give, by name.
        levels: Of each group, and of each block, that it comes from.
        estimate: The error that these add up to.
        surveyed: What each group was looked at for.
    """

    gone: tuple[int, ...]
    blocks: tuple[Block, ...]
    groups: dict[str, list[int]]
    macs: float
    parameters: float
    reached: float
    met: bool
    choices: dict[str, Choice] = field(default_factory=dict, repr=False, compare=False)
    levels: tuple[int, ...] = ()
    estimate: float = 0.0
    surveyed: tuple[Surveyed, ...] = field(default=(), repr=False, compare=False)

    @property
    def empty(self) -> bool:
        """Whether nothing leaves."""
        return not self.gone and not self.blocks


def plan_for(
    model: ir.Model,
    found: Dependencies,
    costs: Costs,
    surveyed: Sequence[Surveyed],
    blocks: Sequence[SurveyedBlock],
    budget: Budget,
    sample: Sample,
) -> Plan:
    """The least error within the budget.

    A budget of latency is met by the clock: the share of multiply-accumulates is halved in until the measured time of
    the smaller model, whose weights do not matter to it, is what was asked for.
    """
    if budget.kind != "latency":
        return plan_by_arithmetic(found, costs, surveyed, blocks, budget)
    low, high, best = 0.0, 1.0, None
    for _ in range(TRIALS):
        middle = (low + high) / 2 if best is not None or low > 0 else budget.share
        plan = plan_by_arithmetic(found, costs, surveyed, blocks, Budget("macs", middle))
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


def plan_by_arithmetic(
    found: Dependencies,
    costs: Costs,
    surveyed: Sequence[Surveyed],
    blocks: Sequence[SurveyedBlock],
    budget: Budget,
    *,
    at_least: Mapping[int, int] | None = None,
    at_most: Mapping[int, int] | None = None,
) -> Plan:
    """The least sum of errors within a budget of arithmetic or parameters.

    Args:
        found: All groups.
        costs: Of the model.
        surveyed: Groups that may shrink.
        blocks: Branches that may leave, which count as groups behind all others.
        budget: What may stay.
        at_least: Levels that some groups go down to in any case, by position.
        at_most: Levels that some groups do not go below.
    """
    by_group = {each.candidate.group.labels: each for each in surveyed}
    choices = [
        by_group[group.labels].choice if group.labels in by_group else Choice((group.size,), (0.0,))
        for group in found.groups
    ]
    given = {group.name: choice for group, choice in zip(found.groups, choices, strict=False) if len(choice.keeps) > 1}
    choices += [Choice((1, 0), (0.0, each.error)) for each in blocks]
    choices += [Choice((1,), (0.0,))] * (len(costs.whole) - len(choices))  # blocks that are not in question
    floor = [(at_least or {}).get(index, 0) for index in range(len(choices))]
    choices = [
        Choice(choice.keeps[: last + 1], choice.errors[: last + 1])
        for index, choice in enumerate(choices)
        for last in [(at_most or {}).get(index, len(choice.keeps))]
    ]
    count = costs.parameters if budget.kind == "parameters" else costs.macs
    levels, met = distribute(choices, count, budget.share * count(costs.whole), floor)
    left = tuple(each.block for each, level in zip(blocks, levels[len(found.groups) :], strict=False) if level)
    gone, groups = [], {block.name: [1, 0] for block in left}
    for group, choice, level in zip(found.groups, choices, levels, strict=False):
        if level:
            gone += [group.labels[part] for part in by_group[group.labels].levels[level].gone]
            groups[group.name] = [group.size, choice.keeps[level]]
    counts = [choice.keeps[level] for choice, level in zip(choices, levels, strict=True)]
    macs, parameters = (cost(counts) / max(cost(costs.whole), 1) for cost in (costs.macs, costs.parameters))
    reached = parameters if budget.kind == "parameters" else macs
    estimate = sum(choice.errors[level] for choice, level in zip(choices, levels, strict=True))
    shares = round(macs, 4), round(parameters, 4)
    return Plan(tuple(gone), left, groups, *shares, reached, met, given, tuple(levels), estimate, tuple(surveyed))


def _measure(model: ir.Model, plan: Plan, sample: Sample) -> float:
    if plan.empty:
        return 1.0
    smaller = model.clone()
    found = find_dependencies(smaller)  # the same graph: the same numbers
    remove_channels(smaller, found, kept_without(found, plan.gone))
    remove_blocks(smaller, plan.blocks)
    return compare_latency(model, smaller, dict(sample), budget_s=TRIAL_S).ratio


def _with_reached(plan: Plan, reached: float, *, met: bool) -> Plan:
    return replace(plan, reached=reached, met=met)
