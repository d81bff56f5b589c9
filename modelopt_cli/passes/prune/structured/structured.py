"""What `prune-channels` and `prune-heads` have in common: options, and the way from a model to a smaller one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Annotated, Any

import onnx_ir as ir
from pydantic import Field, model_validator

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.errors import UsageError
from modelopt_cli.passes.base import Pass, PassContext, PassResult, Skip
from modelopt_cli.passes.prune.limit_fields import MinAgreement, MinSqnr
from modelopt_cli.passes.prune.limits import LimitJudge, Limits, most_that_holds, teachers
from modelopt_cli.passes.prune.states import all_states, drop_states
from modelopt_cli.passes.prune.structured.analysis import Dependencies, find_dependencies
from modelopt_cli.passes.prune.structured.blocks import Block, remove_blocks
from modelopt_cli.passes.prune.structured.candidates import find_candidates, without_choice
from modelopt_cli.passes.prune.structured.groups import Kind
from modelopt_cli.passes.prune.structured.plan import Budget, Plan
from modelopt_cli.passes.prune.structured.planner import Planner
from modelopt_cli.passes.prune.structured.recovery import fits_of, recover
from modelopt_cli.passes.prune.structured.removal import kept_without, left_of, remove_channels
from modelopt_cli.passes.prune.structured.search import Trial, best_trial
from modelopt_cli.passes.prune.structured.survey import Candidate, Outputs, Saliency, judging
from modelopt_cli.profiling.statistics import LatencyComparison
from modelopt_cli.profiling.timing import compare_latency

Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
DEFAULT_SHARE = 0.7
LEAST_SHARE = 0.3  # of the arithmetic, where only a limit on accuracy says how much goes
GATE_S = 1.0
MOST_JUDGES = 128  # samples that plans are compared on


class StructuredPruning(Pass):
    """Options and steps of structured pruning; a subclass says which kinds of groups it prunes."""

    family = "prune"
    effect = "lossy"
    needs = frozenset({"calibration"})

    macs: Annotated[
        Share | None,
        Field(description="Multiply-accumulates that stay, as a share of the model's; 0.7 when no budget is given."),
    ] = None
    parameters: Annotated[Share | None, Field(description="Parameters that stay, as a share.")] = None
    latency: Annotated[
        Share | None, Field(description="Run time that stays, as a share: measured on this machine, one thread.")
    ] = None
    max_accuracy_drop: Annotated[
        float | None,
        Field(
            ge=0,
            lt=1,
            description="Remove as much as loses no more accuracy than this on labelled samples (0.01: one point); "
            "at most to the budget, where one is given.",
        ),
    ] = None
    min_agreement: MinAgreement = None
    min_sqnr: MinSqnr = None
    saliency: Annotated[
        Saliency,
        Field(
            description="What leaves first. refit: least error after readers are solved again; activation: least "
            "energy that they get; l2: smallest weights; quiet: least active channels."
        ),
    ] = "refit"
    recover: Annotated[bool, Field(description="Fit the layers behind a cut again to the original's outputs.")] = True
    align: Annotated[
        int | None, Field(ge=1, le=64, description="Channels stay in multiples of this. Default: the target's block.")
    ] = None
    samples: Annotated[int, Field(ge=8, description="Calibration samples to use, at most.")] = 256
    include: Annotated[
        tuple[str, ...], Field(description="Globs on names of nodes that make channels: only these.")
    ] = ()
    exclude: Annotated[tuple[str, ...], Field(description="Globs on names of nodes whose channels all stay.")] = ()
    seconds: Annotated[
        float, Field(ge=0, description="Seconds for the check that the result is no slower; 0 leaves it out.")
    ] = GATE_S

    @abstractmethod
    def kinds(self) -> frozenset[Kind]:
        """Kinds of groups that may shrink."""

    def blocks_of(self, model: ir.Model, found: Dependencies) -> list[Block]:
        """Branches that may leave as a whole."""
        return []

    @model_validator(mode="after")
    def _one_budget(self) -> StructuredPruning:
        if sum(value is not None for value in (self.macs, self.parameters, self.latency)) > 1:
            raise ValueError("macs, parameters and latency are three budgets: give one")
        return self

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        """Remove channels; ``changed`` counts the weights that became smaller.

        Raises:
            UsageError: No calibration data, or a glob of ``include`` or ``exclude`` matches nothing.
        """
        with all_states(model) as names:
            done = self._pruned(model, ctx)
            drop_states(done.model, names)
        return done

    def _pruned(self, model: ir.Model, ctx: PassContext) -> PassResult:
        limits = self._limits()
        data = teachers(ctx.need_calibration(self.name), limits).take(self.samples)
        found = find_dependencies(model)
        multiple = self.align or ctx.target.channel_block
        candidates, skipped = find_candidates(found, self.kinds(), multiple)
        candidates, left_out = self._selected(candidates, found)
        skipped = [*skipped, *left_out]
        blocks = self.blocks_of(model, found)
        if self.align:  # there is nothing finer
            skipped += without_choice(candidates, ())
            candidates = [each for each in candidates if len(each.keeps) > 1]
        if not candidates and not blocks:
            return PassResult(model, 0, tuple(skipped), {"groups": {}})
        finest = None if self.align else multiple
        planner = Planner(model, found, candidates, data, self.saliency, ctx.progress, blocks, finest)
        if not limits.any:
            budget = self._budget()
            return self._smallest(model, planner, budget, data, ctx, skipped)
        return self._within_limits(model, planner, data, ctx, skipped)

    def _within_limits(
        self, model: ir.Model, planner: Planner, data: Dataset, ctx: PassContext, skipped: list[Skip]
    ) -> PassResult:
        """As small as the limits allow, and no smaller than the budget."""
        judge, asked = LimitJudge(self._limits(), model, ctx, self.name), self._budget()

        def attempt(cut: float) -> PassResult | None:
            budget = Budget(asked.kind, 1 - cut)
            done = self._smallest(model, planner, budget, data, ctx, skipped)
            return done if done.changed and judge.holds(done.model) else None

        best = most_that_holds(attempt, 1 - asked.share)
        if best is None:
            return PassResult(model, 0, (*skipped, Skip(self.name, "no cut keeps the limits")), {"groups": {}})
        cut, done = best
        return replace(done, details={**done.details, "share_tried": asked.share, "share_that_holds": 1 - cut})

    def _smallest(
        self, model: ir.Model, planner: Planner, budget: Budget, data: Dataset, ctx: PassContext, skipped: list[Skip]
    ) -> PassResult:
        """The best network within a budget; ``model`` itself where nothing can leave, or where that is no gain."""
        plans = planner.alternatives(budget)
        trials = planner.trials() if self.recover else 0
        if plans[0].empty:
            skipped = [*skipped, *planner.too_small(plans[0])]
            return PassResult(model, 0, tuple(skipped), _details(self.name, plans[0], budget))
        judges = judging(model, data, trials + len(plans), most=MOST_JUDGES)
        outputs = Outputs(model, judges) if trials or len(plans) > 1 else None

        def attempt(plan: Plan) -> Trial:
            trial = model.clone()
            changed = self._carry_out(trial, model, plan, data, ctx)
            return Trial(plan, trial, changed, 0.0 if outputs is None else outputs.error(trial))

        best = best_trial(plans, attempt, lambda plan: planner.neighbours(plan, budget), trials)
        details, skipped = _details(self.name, best.plan, budget), [*skipped, *planner.too_small(best.plan)]
        timed = self._timed(model, best.model, data)
        if timed is None:
            return PassResult(best.model, best.changed, tuple(skipped), details)
        details["latency_ratio"] = round(timed.ratio, 3)
        if timed.ratio_low <= 1:
            return PassResult(best.model, best.changed, tuple(skipped), details)
        message = f"{self.name} was undone: the result took {timed.ratio:.2f} of the time"
        details["notices"] = [{"code": "pass-undone", "message": message, "advice": "a larger cut may pay"}]
        return PassResult(model, 0, (*skipped, Skip(self.name, "undone: the result was slower")), details)

    def _carry_out(self, model: ir.Model, original: ir.Model, plan: Plan, data: Dataset, ctx: PassContext) -> int:
        """Cut ``model``, and fit what is left to ``original``; the number of changes."""
        found = find_dependencies(model)  # the same graph: the same numbers
        kept = kept_without(found, plan.gone)
        left = left_of(found, kept)
        changed = remove_channels(model, found, kept) + remove_blocks(model, plan.blocks)
        if self.recover:
            recover(original, model, fits_of(original, model, left), data, ctx.progress)
        return changed

    def _timed(self, original: ir.Model, model: ir.Model, data: Dataset) -> LatencyComparison | None:
        if self.seconds == 0:
            return None
        return compare_latency(original, model, dict(next(iter(data))), budget_s=self.seconds)

    def _budget(self) -> Budget:
        """What was asked for; with limits alone, as much as they allow."""
        if self.parameters is not None:
            return Budget("parameters", self.parameters)
        if self.latency is not None:
            return Budget("latency", self.latency)
        return Budget("macs", self.macs or (LEAST_SHARE if self._limits().any else DEFAULT_SHARE))

    def _limits(self) -> Limits:
        return Limits(self.max_accuracy_drop, self.min_agreement, self.min_sqnr)

    def _may_leave(self, names: Sequence[str]) -> bool:
        """Whether all of these nodes may go."""
        out = any(fnmatchcase(name, glob) for name in names for glob in self.exclude)
        return not out and all(any(fnmatchcase(name, glob) for glob in self.include or ("*",)) for name in names)

    def _selected(self, candidates: Sequence[Candidate], found: Dependencies) -> tuple[list[Candidate], list[Skip]]:
        names = [product.node.name or product.node.outputs[0].name or "" for product in found.products]
        for option, globs in (("include", self.include), ("exclude", self.exclude)):
            for glob in globs:
                if not any(fnmatchcase(name, glob) for name in names):
                    hint = f"there are {', '.join(names[:5])}" if names else "nothing in this model can be pruned"
                    raise UsageError(
                        f"{option}: '{glob}' matches no node that makes channels", where=self.name, hint=hint
                    )
        kept, skipped = [], []
        for candidate in candidates:
            producers = candidate.group.producers
            if any(fnmatchcase(name, glob) for name in producers for glob in self.exclude):
                skipped.append(Skip(candidate.group.name, "in exclude"))
            elif self.include and not any(fnmatchcase(name, glob) for name in producers for glob in self.include):
                skipped.append(Skip(candidate.group.name, "not in include"))
            else:
                kept.append(candidate)
        return kept, skipped


def _details(name: str, plan: Plan, budget: Budget) -> dict[str, Any]:
    details: dict[str, Any] = {"groups": plan.groups, "macs": plan.macs, "parameters": plan.parameters}
    rows = [
        {"name": group, "levels": list(choice.keeps[1:]), "errors": list(choice.errors[1:])}
        for group, choice in plan.choices.items()
    ]
    if rows:
        details["sensitivity"] = {"level": "parts that stay", "rows": rows}
    if plan.times:
        details["latency_table"] = {
            "unit": "run time with this group alone so small, as a share of the source's",
            "rows": [
                {
                    "name": group,
                    "levels": list(plan.choices[group].keeps) if group in plan.choices else [1, 0],
                    "shares": list(shares),
                }
                for group, shares in plan.times.items()
            ],
        }
    if not plan.met:
        reached = f"{plan.reached:.2f} of the {budget.kind}, not {budget.share:g}"
        why = "no plan that was timed is faster" if budget.kind == "latency" else "nothing more can leave"
        message = f"{name} reached {reached}: {why}"
        details["notices"] = [{"code": "budget-missed", "message": message, "advice": "set a looser budget"}]
    return details
