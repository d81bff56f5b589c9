"""What the passes with calibrated ranges have in common: options, and the way from a fast plan to a faithful model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import onnx_ir as ir
from pydantic import Field

from modelopt_cli.calibration.ranges import ObserverName, RangeRules
from modelopt_cli.data.dataset import Dataset
from modelopt_cli.format import format_db, format_percent
from modelopt_cli.passes.base import Pass, PassContext, PassResult
from modelopt_cli.passes.quantize.builder import Builder, Built
from modelopt_cli.passes.quantize.equalize import equalize
from modelopt_cli.passes.quantize.explain import SECONDS, explain_plan
from modelopt_cli.passes.quantize.groups import PRODUCTS, Group
from modelopt_cli.passes.quantize.guard import COLLAPSED_DB, Kept, Limits, keep_within
from modelopt_cli.passes.quantize.output_error import OutputError, OutputJudge
from modelopt_cli.passes.quantize.plan import Plan, label
from modelopt_cli.passes.quantize.range_choice import choose_observer, choose_ranges
from modelopt_cli.passes.quantize.search import AUTO_OBSERVERS, GATE_S, Search, gate
from modelopt_cli.passes.quantize.sensitivity import DynamicAlone, GroupError, measure_groups
from modelopt_cli.progress import Silent
from modelopt_cli.targets.detect import detect_isa
from modelopt_cli.targets.target import Target

GUARD_S = 45.0  # for groups that go back to float; a model that keeps its outputs spends a second of it
MEASURING_SHARE = 0.4  # of that, for which groups those should be, if fewer samples make that possible
LEFT_FOR_ATTEMPTS = 0.3  # of that, whatever measuring takes
LEAST_JUDGED = 2  # samples that each group alone is judged on, those of most noise
POOR_DB = 20.0  # what had to leave int8 for its outputs, and keeps less than this all the same,
WORTH = 0.85  # has to stay below this share of the float model's time
NAMED = 3  # groups that a line of the report names


class CalibratedPass(Pass):
    """Options of passes whose ranges come from calibration data, and `_finish`."""

    calibrator: Annotated[
        Literal["auto", "minmax", "percentile", "mse", "entropy", "moving-average"],
        Field(description="How the range of an activation follows from its values; auto: by the error at the output."),
    ] = "auto"
    samples: Annotated[int, Field(ge=1, description="Calibration samples to use, spread over all.")] = 128
    include: Annotated[tuple[str, ...], Field(description="Only nodes whose name matches one of these globs.")] = ()
    exclude: Annotated[tuple[str, ...], Field(description="Not the nodes whose name matches one of these globs.")] = ()
    budget: Annotated[float, Field(ge=0, description="Seconds to spend on measuring plans; 0 for the table's.")] = 30.0
    min_sqnr: Annotated[
        float, Field(ge=0, description="Decibels the outputs keep on calibration samples; groups go back to float.")
    ] = COLLAPSED_DB
    min_agreement: Annotated[
        float, Field(ge=0, le=1, description="Share of equal answers to keep there, at the cost of groups likewise.")
    ] = 0.0
    max_accuracy_drop: Annotated[
        float | None, Field(ge=0, description="Loss of accuracy on labelled samples to stay below, likewise.")
    ] = None
    equalize: Annotated[
        bool, Field(description="Make the ranges of channels alike first, by weights on both sides of a tensor.")
    ] = False
    explain: Annotated[bool, Field(description="Measure time and error of each group for the report.")] = False
    plan: Annotated[dict[str, Any] | None, Field(description="A plan from a report, replayed instead of a search.")] = (
        None
    )

    @property
    def _observers(self) -> tuple[ObserverName, ...]:
        return AUTO_OBSERVERS if self.calibrator == "auto" else (self.calibrator,)

    def _equalized(self, model: ir.Model, data: Dataset, ctx: PassContext, log: list[str]) -> ir.Model:
        """The model, or its clone with channels of like ranges where that was asked for."""
        if not self.equalize:
            return model
        found, lines = equalize(model, data, ctx.progress)
        log += lines
        return found

    def _limits(self) -> Limits:
        drop = math.inf if self.max_accuracy_drop is None else self.max_accuracy_drop
        return Limits(sqnr_db=self.min_sqnr, asked_agreement=self.min_agreement, max_drop=drop)

    def _measuring_s(self, target: Target) -> float:
        """The search's seconds; none for a plan that is replayed or measured elsewhere."""
        return self.budget if self.plan is None and is_this_machine(target) else 0.0

    def _unmixed(self, plan: Plan, builder: Builder, log: list[str]) -> Plan:
        """The plan without Concat of very different ranges: boxes and scores, say."""
        mixed = [] if self.plan is not None or plan.float_only else builder.mixed(plan)
        if mixed:
            log.append(f"float, because they join very different ranges: {_names(mixed)}")
        return plan.in_float(mixed)

    def _finish(
        self, model: ir.Model, builder: Builder, search: Search, ctx: PassContext, alone: DynamicAlone | None = None
    ) -> None:
        """Ranges by the error at the output, second-order rounding, and the guard; edits ``search``."""
        if search.plan.float_only:
            return
        judge = OutputJudge(model, builder.judged)
        if search.plan.ranges is None:
            search.plan = choose_ranges(judge, builder, search.plan, search.log)
        search.built = builder.build(search.plan, final=True)
        if builder.calibration_samples:
            search.log.append(f"ranges from {builder.calibration_samples} samples")
        if builder.scheme.reduce_range:
            search.log.append(f"{builder.reduced} products have 7-bit weights: their 16-bit sums would saturate")
        if self.plan is not None:
            return  # what it left in float, it left for good
        judged = self._judged(judge, ctx)
        deadline = time.monotonic() + GUARD_S
        kept = keep_within(
            self._limits(),
            search.built,
            search.plan,
            judged,
            lambda plan: builder.build(plan, final=True),
            lambda: _measured(model, builder, search, judge, alone, deadline, ctx),
            deadline=deadline,
        )
        if Limits().missed(kept.error):
            kept = _last_resort(kept, builder, judged)
        elif kept.reverted:
            kept = _with_ranges_anew(self._limits(), kept, judge, builder, judged, search.log)
        _adopt(search, kept)
        if kept.built is not search.built or kept.reverted:
            search.built, search.plan = kept.built, kept.plan
            if self._measuring_s(ctx.target) and not kept.plan.float_only:
                worth = WORTH if kept.error.worst.sqnr_db < POOR_DB else None
                gate(search, builder.float_model(), builder.sample, builder.weights_only, GATE_S, worth=worth)

    def _explained(
        self,
        result: PassResult,
        model: ir.Model,
        builder: Builder,
        search: Search,
        ctx: PassContext,
        alone: DynamicAlone | None = None,
    ) -> PassResult:
        """The result with the audit of every group in its details, where that was asked for or a page will show it."""
        seconds = SECONDS if self.explain else ctx.explain_s
        if seconds <= 0:
            return result
        judge = OutputJudge(model, builder.judged)
        rows = explain_plan(model, builder, search, judge, alone, result.skipped, ctx.progress, seconds)
        return replace(result, details=result.details | {"groups": rows})

    def _judged(self, judge: OutputJudge, ctx: PassContext) -> Callable[[Built], OutputError]:
        def judged(built: Built) -> OutputError:
            error = judge.judge(built.model)
            drop = ctx.accuracy_drop
            return error if drop is None or self.max_accuracy_drop is None else replace(error, drop=drop(built.model))

        return judged


def is_this_machine(target: Target) -> bool:
    """Whether what is measured here holds for the target."""
    return target.provider == "cpu" and target.isa == detect_isa()


def _measured(
    model: ir.Model,
    builder: Builder,
    search: Search,
    judge: OutputJudge,
    alone: DynamicAlone | None,
    deadline: float,
    ctx: PassContext,
) -> list[GroupError]:
    """The error of each group alone, on as many samples as leave time for what is made of it.

    Those are the ones that the result errs most on: what falls short on all falls short there.
    """
    groups = builder.groups(search.plan)
    left = deadline - time.monotonic()

    def seconds(only: Sequence[int]) -> float:
        started = time.monotonic()
        measure_groups(groups[-1:], builder, search.plan, judge, alone, deadline=deadline, progress=Silent(), only=only)
        return time.monotonic() - started

    few = min(LEAST_JUDGED, len(judge))
    times = seconds(range(few)), seconds(range(len(judge)))
    count = samples_each(times, (few, len(judge)), MEASURING_SHARE * left / max(len(groups), 1))
    only = None if count == len(judge) else judge.noisiest(search.built.model, count)
    end = deadline - LEFT_FOR_ATTEMPTS * left  # a group that is not measured cannot go back: better late than never
    return measure_groups(groups, builder, search.plan, judge, alone, deadline=end, progress=ctx.progress, only=only)


def samples_each(times: tuple[float, float], counts: tuple[int, int], most_s: float) -> int:
    """On how many samples a group can be judged in a time, of which building its model takes a part that is fixed.

    Args:
        times: Seconds that it took on few samples, and on all.
        counts: How many those were: no fewer and no more are the answer.
        most_s: Seconds for one group.
    """
    (few, all_of_them), (some, whole) = counts, times
    each = max((whole - some) / max(all_of_them - few, 1), 1e-9)
    return few + int(min(max((most_s - some) / each, 0.0), all_of_them - few))


def _last_resort(kept: Kept, builder: Builder, judged: Callable[[Built], OutputError]) -> Kept:
    """Nothing static, and then nothing in integers at all: the first of them that does not collapse, or the best."""
    limits = Limits()
    nothing = Plan(frozenset(), float_only=True)
    for plan in (replace(kept.plan, ops=frozenset()), nothing):
        built = builder.weights_only() if plan.float_only else builder.build(plan, final=True)
        other = Kept(built, plan, judged(built), kept.reverted, holds=False)
        if limits.shortfall(other.error) < limits.shortfall(kept.error):
            kept = other
        if not limits.missed(kept.error):
            break
    return kept


def _with_ranges_anew(
    limits: Limits,
    kept: Kept,
    judge: OutputJudge,
    builder: Builder,
    judged: Callable[[Built], OutputError],
    log: list[str],
) -> Kept:
    """The rule for ranges chosen again without the groups that went back: what clipped for their sake need not clip.

    What clips least is what unseen samples lose least by.
    """
    before = kept.plan.ranges
    again: list[str] = []
    rules = RangeRules(choose_observer(judge, builder, kept.plan, again))
    if before is None or rules.observer == before.observer:
        return kept
    plan = replace(kept.plan, ranges=rules)
    built = builder.build(plan, final=True)
    error = judged(built)
    if limits.missed(error):
        return kept
    log += [f"{line}, without the groups that went back" for line in again]
    return Kept(built, plan, error, kept.reverted, holds=True)


def _adopt(search: Search, kept: Kept) -> None:
    error = kept.error
    line = f"outputs on calibration samples: {format_db(error.sqnr_db)}"
    if error.worst.band:
        line += f", worst part {error.worst.output} {error.worst.band}: {format_db(error.worst.sqnr_db)}"
    if error.agreement is not None:
        line += f", agreement {format_percent(error.agreement)} of {error.rows}"
    search.log.append(line)
    if kept.reverted:
        late = [group.name for group in kept.reverted if _is_dynamic(group, kept.built.model)]
        names = [group.name for group in kept.reverted if group.name not in late]
        for where, found in (("with ranges at run time", late), ("in float", names)):
            if found:
                search.log.append(f"{len(found)} groups {where}, because the outputs would not keep: {_names(found)}")
    search.moved = frozenset(node for group in kept.reverted for node in group.nodes)
    search.holds = kept.holds


def _is_dynamic(group: Group, model: ir.Model) -> bool:
    """Whether a static group that went back has become a product with ranges at run time instead of a float one."""
    left = {label(node) for node in model.graph}
    return group.way == "static" and any(
        kind in PRODUCTS and node not in left for node, kind in zip(group.nodes, group.op_types, strict=True)
    )


def _names(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
