"""Plans for one network and several budgets: what each group costs is looked at once."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.passes.prune.structured.analysis import Dependencies
from modelopt_cli.passes.prune.structured.candidates import finer
from modelopt_cli.passes.prune.structured.cost import Costs
from modelopt_cli.passes.prune.structured.plan import Budget, Plan, plan_for
from modelopt_cli.passes.prune.structured.survey import Candidate, Saliency, Surveyed, survey
from modelopt_cli.progress import Progress

FINER = 4  # where the kernels' multiples do not reach the budget, a quarter of them does not run faster but counts


class Planner:
    """Finds what leaves for a budget.

    Args:
        model: The network; not edited, and not to be edited before the last plan.
        found: Its channels.
        candidates: Groups that may shrink.
        data: Samples to look at.
        saliency: What leaves first.
        progress: Where to say how far it is.
        multiple: Of channels that kernels like, where finer counts may be used when those do not do; else None.
    """

    def __init__(
        self,
        model: ir.Model,
        found: Dependencies,
        candidates: Sequence[Candidate],
        data: Dataset,
        saliency: Saliency,
        progress: Progress,
        multiple: int | None,
    ) -> None:
        self._model, self._found, self._candidates, self._data = model, found, candidates, data
        self._saliency, self._progress, self._multiple = saliency, progress, multiple
        self._sample = dict(next(iter(data)))
        self._costs = Costs(model, found, self._sample)
        self._surveyed = self._survey(candidates)

    def plan(self, budget: Budget) -> Plan:
        """The least error within a budget, in counts that kernels like where that is possible."""
        plan = self._plan(self._surveyed, budget)
        if plan.met or self._multiple is None or budget.kind == "latency":
            return plan
        more = finer(self._candidates, plan.groups, self._multiple // FINER)
        return self._plan(self._survey(more), budget)

    def _plan(self, surveyed: Sequence[Surveyed], budget: Budget) -> Plan:
        return plan_for(self._model, self._found, self._costs, surveyed, budget, self._sample)

    def _survey(self, candidates: Sequence[Candidate]) -> list[Surveyed]:
        return survey(self._model, self._found.label, candidates, self._data, self._saliency, self._progress)
