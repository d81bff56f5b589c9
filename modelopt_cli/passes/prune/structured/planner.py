"""Plans for one network and several budgets: what each group costs is looked at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.passes.base import Skip
from modelopt_cli.passes.prune.structured.analysis import Dependencies
from modelopt_cli.passes.prune.structured.blocks import Block
from modelopt_cli.passes.prune.structured.candidates import finer, without_choice
from modelopt_cli.passes.prune.structured.clocked import plan_by_clock
from modelopt_cli.passes.prune.structured.cost import Costs
from modelopt_cli.passes.prune.structured.plan import Budget, Plan, plan_by_arithmetic
from modelopt_cli.passes.prune.structured.survey import (
    Candidate,
    Saliency,
    Surveyed,
    SurveyedBlock,
    survey,
    survey_blocks,
)
from modelopt_cli.passes.prune.structured.timetable import ROW_S, TABLE_S, Timer, Times, clock, measure_table
from modelopt_cli.progress import Progress

MOST_TRIALS = 16
WORK_OF_TRIALS = 4e10  # multiply-accumulates of the calibration samples, in all of them: half a minute, about
CLOCKED_S = 1.5  # for each plan of a budget of latency
# Parts of the kernels' multiples, and whether only below one of them: in between they count, but run no faster.
FINER = ((2, True), (2, False), (4, False))


class Planner:
    """Finds what leaves for a budget.

    Args:
        model: The network; not edited, and not to be edited before the last plan.
        found: Its channels.
        candidates: Groups that may shrink.
        data: Samples to look at.
        saliency: What leaves first.
        progress: Where to say how far it is.
        blocks: Branches that may leave as a whole.
        multiple: Of channels that kernels like, where finer counts may be used when those do not do; else None.
        timer: What a budget of latency is measured with; by default the clock of this machine.
    """

    def __init__(
        self,
        model: ir.Model,
        found: Dependencies,
        candidates: Sequence[Candidate],
        data: Dataset,
        saliency: Saliency,
        progress: Progress,
        blocks: Sequence[Block],
        multiple: int | None,
        timer: Timer | None = None,
    ) -> None:
        self._model, self._found, self._candidates, self._data = model, found, candidates, data
        self._saliency, self._progress, self._multiple = saliency, progress, multiple
        self._sample = dict(next(iter(data)))
        self._costs = Costs(model, found, self._sample, blocks)
        self._blocks = survey_blocks(model, blocks, data, progress)
        self._known: dict[tuple[int, bool], list[Surveyed]] = {}
        self._timer = timer
        self._times: Times | None = None

    def alternatives(self, budget: Budget) -> list[Plan]:
        """Plans of least error within a budget, with branches that leave and without; those that meet it, if any do."""
        plans = [self._plan(budget, self._blocks)]
        if plans[0].blocks:
            plans.append(self._plan(budget, ()))
        met = [plan for plan in plans if plan.met and not plan.empty]
        return met or plans[:1]

    def _plan(self, budget: Budget, blocks: Sequence[SurveyedBlock]) -> Plan:
        """In counts that kernels like where that is possible; by the clock also below the first of them."""
        if budget.kind == "latency":
            return self._plan_by_clock(budget, blocks)
        plan = plan_by_arithmetic(self._found, self._costs, self._surveyed(), blocks, budget)
        for parts, below in FINER:
            if plan.met or self._multiple is None:
                break
            plan = plan_by_arithmetic(self._found, self._costs, self._surveyed(parts, below), blocks, budget)
        return plan

    def _plan_by_clock(self, budget: Budget, blocks: Sequence[SurveyedBlock]) -> Plan:
        found, surveyed = self._found, self._surveyed(*FINER[0])
        if self._times is None:
            rows = max(len(surveyed) + len(self._blocks), 1)
            timer = self._timer or clock(self._sample, min(TABLE_S / rows, ROW_S))
            self._times = measure_table(self._model, found, surveyed, self._blocks, timer, self._progress)
        timer = self._timer or clock(self._sample, CLOCKED_S)
        plan = plan_by_clock(self._model, found, self._costs, surveyed, blocks, budget.share, self._times, timer)
        names = [*(group.name for group in found.groups), *(each.block.name for each in self._blocks)]
        named = {name: row for name, row in zip(names, self._times, strict=True) if len(row) > 1}
        return replace(plan, times=named)

    def neighbours(self, plan: Plan, budget: Budget) -> list[Plan]:
        """Plans for the same budget with one group a level lower, or a level higher, the least sum of errors first."""
        if budget.kind == "latency":
            return []
        moves: list[tuple[dict[int, int], dict[int, int]]] = []
        for index, level in enumerate(plan.levels):
            fixed = index >= len(self._found.groups) and not plan.blocks
            moves += [({index: level + 1}, {})] if not fixed and level + 1 < self._levels(plan, index) else []
            moves += [({}, {index: level - 1})] if level else []
        blocks = self._blocks if plan.blocks else ()
        found = [
            plan_by_arithmetic(self._found, self._costs, plan.surveyed, blocks, budget, at_least=lower, at_most=higher)
            for lower, higher in moves
        ]
        return sorted((each for each in found if each.met and not each.empty), key=lambda each: each.estimate)

    def too_small(self, plan: Plan) -> list[Skip]:
        """Refusals for groups that no smaller multiple fits, and that no finer count has made smaller either."""
        return without_choice(self._candidates, plan.groups)

    def trials(self) -> int:
        """How many plans may be tried besides: few where each takes long, by the arithmetic of one."""
        work = self._costs.macs(self._costs.whole) * len(self._data)
        return min(MOST_TRIALS, int(WORK_OF_TRIALS / max(work, 1)))

    def _levels(self, plan: Plan, index: int) -> int:
        groups = self._found.groups
        if index >= len(groups):
            return 2 if self._blocks else 1
        known = {each.candidate.group.labels: len(each.choice.keeps) for each in plan.surveyed}
        return known.get(groups[index].labels, 1)

    def _surveyed(self, parts: int = 1, below: bool = False) -> list[Surveyed]:
        """What groups cost at the kernels' multiples, or at so many parts of them; looked at once."""
        if (parts, below) not in self._known:
            chosen = list(self._candidates)
            if parts > 1 and self._multiple is not None:
                chosen = finer(chosen, max(self._multiple // parts, 1), self._multiple if below else None)
            chosen = [each for each in chosen if len(each.keeps) > 1]
            found = survey(self._model, self._found.label, chosen, self._data, self._saliency, self._progress)
            self._known[parts, below] = found
        return self._known[parts, below]
