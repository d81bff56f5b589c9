"""Plans for a budget of latency: the table tells what to take, the clock whether that was right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from modelopt_cli.passes.prune.structured.analysis import Dependencies
from modelopt_cli.passes.prune.structured.budget import Choice, distribute_separable
from modelopt_cli.passes.prune.structured.cost import Costs
from modelopt_cli.passes.prune.structured.plan import Plan, choices_of, plan_of_levels
from modelopt_cli.passes.prune.structured.survey import Surveyed, SurveyedBlock
from modelopt_cli.passes.prune.structured.timetable import Timer, Times, cut

ROUNDS = 6  # of a plan and its measurement; most need two
CLOSE = 0.02  # a plan that is faster than was asked for by more than this took too much
LARGEST = 2.0  # change of the saving that is asked for in one round
NEXT = 1e-3  # of the run time: a plan that was too slow is not asked for again


def plan_by_clock(
    model: ir.Model,
    found: Dependencies,
    costs: Costs,
    surveyed: Sequence[Surveyed],
    blocks: Sequence[SurveyedBlock],
    share: float,
    times: Times,
    timer: Timer,
) -> Plan:
    """The least error whose measured run time is within a share of the source's.

    Savings of groups do not quite add up (a layer between two of them shrinks on both sides), so what the table
    promises is measured in the whole model, and the saving that is asked of the table is corrected by what came out.

    Args:
        model: The network; its cut weights do not matter to its speed.
        found: Its channels.
        costs: Of its arithmetic.
        surveyed: Groups that may shrink.
        blocks: Branches that may leave.
        share: Of the run time, that may stay.
        times: See `measure_table`; may have rows for more branches than these.
        timer: What measures the whole model.

    Returns:
        Of the plans that were measured the one of least error that is fast enough, or else the fastest.
    """
    asked, best = 1 - share, None
    tried: set[tuple[int, ...]] = set()
    for _ in range(ROUNDS):
        plan, promised, possible = _plan_by_table(found, costs, surveyed, blocks, times, 1 - asked)
        if plan.levels in tried:
            break  # only a smaller saving leads back: between the two there is none
        ratio = 1.0 if plan.empty else timer(model, [cut(model, plan.gone, plan.blocks, found)])[0]
        tried.add(plan.levels)
        plan = replace(plan, reached=round(ratio, 4), met=ratio <= share)
        best = plan if best is None or _is_better(plan, best) else best
        if share - CLOSE <= ratio <= share or (ratio > share and not possible):
            break
        asked *= min(max((1 - share) / max(1 - ratio, 1e-3), 1 / LARGEST), LARGEST)
        asked = asked if plan.met else max(asked, promised + NEXT)
    assert best is not None, "something was measured"
    return best


def _is_better(plan: Plan, other: Plan) -> bool:
    if plan.met != other.met:
        return plan.met
    return plan.estimate < other.estimate if plan.met else plan.reached < other.reached


def _plan_by_table(
    found: Dependencies,
    costs: Costs,
    surveyed: Sequence[Surveyed],
    blocks: Sequence[SurveyedBlock],
    times: Times,
    share: float,
) -> tuple[Plan, float, bool]:
    """The plan of least error by the table, what that promises to save, and whether that is as much as was asked for.

    A group within a branch that leaves gives nothing more: once branches are chosen, the rest is chosen again.
    """
    choices = choices_of(found, costs, surveyed, blocks)
    rows = [times[index] if len(choice.keeps) > 1 else (1.0,) for index, choice in enumerate(choices)]
    levels, possible = distribute_separable(choices, rows, share)
    if fixed := _fixed_by_branches(costs, choices, levels, len(found.groups)):
        only = [_at(choice, fixed[index]) if index in fixed else choice for index, choice in enumerate(choices)]
        kept = [(row[fixed[index]],) if index in fixed else row for index, row in enumerate(rows)]
        again, possible = distribute_separable(only, kept, share)
        levels = [fixed.get(index, level) for index, level in enumerate(again)]
    promised = sum(1 - row[level] for row, level in zip(rows, levels, strict=True))
    return plan_of_levels(found, costs, surveyed, blocks, levels, "latency", met=possible), promised, possible


def _fixed_by_branches(costs: Costs, choices: Sequence[Choice], levels: Sequence[int], groups: int) -> dict[int, int]:
    """Branches that leave, at their level, and groups whose arithmetic leaves with them, at none."""
    left = {index: levels[index] for index in range(groups, len(levels)) if levels[index]}
    if not left:
        return {}
    counts = [choice.keeps[left.get(index, 0)] for index, choice in enumerate(choices)]
    whole = costs.macs(counts)
    for index in range(groups):
        smaller = [*counts[:index], choices[index].keeps[-1], *counts[index + 1 :]]
        if costs.macs(smaller) == whole:
            left[index] = 0
    return left


def _at(choice: Choice, level: int) -> Choice:
    return Choice(choice.keeps[level : level + 1], choice.errors[level : level + 1])
