"""Which channels leave: a plan, and the one of least error for a budget that arithmetic tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from modelopt_cli.passes.prune.structured.analysis import Dependencies
from modelopt_cli.passes.prune.structured.blocks import Block
from modelopt_cli.passes.prune.structured.budget import Choice, distribute
from modelopt_cli.passes.prune.structured.cost import Costs
from modelopt_cli.passes.prune.structured.survey import Surveyed, SurveyedBlock


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
        times: Measured run time with one group alone at each of its levels, as a share of the source's, by name; empty
            where the budget is not one of latency.
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
    times: dict[str, tuple[float, ...]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def empty(self) -> bool:
        """Whether nothing leaves."""
        return not self.gone and not self.blocks


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
    choices = [
        Choice(choice.keeps[: last + 1], choice.errors[: last + 1])
        for index, choice in enumerate(choices_of(found, costs, surveyed, blocks))
        for last in [(at_most or {}).get(index, len(choice.keeps))]
    ]
    floor = [(at_least or {}).get(index, 0) for index in range(len(choices))]
    count = costs.parameters if budget.kind == "parameters" else costs.macs
    levels, met = distribute(choices, count, budget.share * count(costs.whole), floor)
    return plan_of_levels(found, costs, surveyed, blocks, levels, budget.kind, met=met)


def choices_of(
    found: Dependencies, costs: Costs, surveyed: Sequence[Surveyed], blocks: Sequence[SurveyedBlock]
) -> list[Choice]:
    """What every group may give, in order, and then every block; those that are not in question may give nothing."""
    by_group = {each.candidate.group.labels: each.choice for each in surveyed}
    choices = [by_group.get(group.labels, Choice((group.size,), (0.0,))) for group in found.groups]
    choices += [Choice((1, 0), (0.0, each.error)) for each in blocks]
    return choices + [Choice((1,), (0.0,))] * (len(costs.whole) - len(choices))


def plan_of_levels(
    found: Dependencies,
    costs: Costs,
    surveyed: Sequence[Surveyed],
    blocks: Sequence[SurveyedBlock],
    levels: Sequence[int],
    kind: Literal["macs", "parameters", "latency"],
    *,
    met: bool,
) -> Plan:
    """The plan that takes these levels of `choices_of`."""
    choices = choices_of(found, costs, surveyed, blocks)
    by_group = {each.candidate.group.labels: each for each in surveyed}
    given = {group.name: choice for group, choice in zip(found.groups, choices, strict=False) if len(choice.keeps) > 1}
    left = tuple(each.block for each, level in zip(blocks, levels[len(found.groups) :], strict=False) if level)
    gone, groups = [], {block.name: [1, 0] for block in left}
    for group, choice, level in zip(found.groups, choices, levels, strict=False):
        if level:
            gone += [group.labels[part] for part in by_group[group.labels].levels[level].gone]
            groups[group.name] = [group.size, choice.keeps[level]]
    counts = [choice.keeps[level] for choice, level in zip(choices, levels, strict=True)]
    macs, parameters = (cost(counts) / max(cost(costs.whole), 1) for cost in (costs.macs, costs.parameters))
    reached = parameters if kind == "parameters" else macs
    estimate = sum(choice.errors[level] for choice, level in zip(choices, levels, strict=True))
    shares = round(macs, 4), round(parameters, 4)
    return Plan(tuple(gone), left, groups, *shares, reached, met, given, tuple(levels), estimate, tuple(surveyed))
