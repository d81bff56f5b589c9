"""Choose a plan by measurement: start from the table's, change it only where the clock says so clearly."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import onnx_ir as ir

from modelopt_cli.calibration.ranges import ObserverName
from modelopt_cli.data.dataset import Sample
from modelopt_cli.format import format_percent
from modelopt_cli.passes.quantize.builder import Builder, Built
from modelopt_cli.passes.quantize.group_times import group_times
from modelopt_cli.passes.quantize.groups import Group
from modelopt_cli.passes.quantize.plan import Plan, label
from modelopt_cli.passes.quantize.signature import classes
from modelopt_cli.passes.quantize.silu import SILU
from modelopt_cli.profiling.statistics import LatencyComparison
from modelopt_cli.profiling.timing import compare_latency

SLOWER = 1.02  # against float the doubt goes the other way: what was not seen to be as fast is not kept
CLEARLY = 0.99  # the whole interval of the ratio has to be below this
CLEARLY_FASTER = 0.9  # than float: nothing hangs on by how much
FEWEST_MACS = 10_000  # the other threshold that is tried: overheads differ between runtimes and machines
GATE_S = 3.0
VARIANT_S = 1.5
LOSS = 0.1  # share of its float time that a group has to lose, for profiles are short
AUTO_OBSERVERS: tuple[ObserverName, ...] = ("minmax", "mse")
_FREE = ("affine", "move")


@dataclass
class Search:
    """What was tried and found.

    Attributes:
        built: The model of the chosen plan.
        plan: The chosen plan; with no operators when float is faster.
        log: One line per decision, for the report.
        ratio: Latency as a share of the float model's, when measured.
        holds: Whether the outputs keep what was asked for, on calibration samples.
        moved: Nodes, by `label`, that a faster way was taken from for the sake of the outputs, one group at a time.
    """

    built: Built
    plan: Plan
    log: list[str] = field(default_factory=list)
    ratio: float | None = None
    holds: bool = True
    moved: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """For ``PassResult.details``."""
        return {
            "plan": self.plan.to_json(),
            "decisions": self.log,
            "latency_to_float": self.ratio,
            "limits_hold": self.holds,
        }


def search_plan(builder: Builder, start: Plan, budget_s: float) -> Search:
    """The fastest plan near ``start``, never one that is clearly slower than float.

    Args:
        builder: Builds variants of a float model.
        start: The table's plan.
        budget_s: Seconds for measuring; building comes on top. 0 takes ``start`` as it is.
    """
    deadline = time.monotonic() + budget_s
    if start.float_only:
        return Search(builder.weights_only(), start)
    found = Search(builder.build(start), start)
    if budget_s <= 0:
        return found
    _try_variants(found, builder, deadline)
    gate(found, builder.float_model(), builder.sample, builder.weights_only, min(GATE_S, budget_s))
    return found


def _try_variants(found: Search, builder: Builder, deadline: float) -> None:
    _without_losers(found, builder, deadline)
    better = []
    for name, plan in _variants(found, builder):
        if deadline - time.monotonic() < GATE_S + VARIANT_S:
            break
        timed = _against(found.built, builder.build(plan, timed=True), builder)
        found.log.append(_line(name, timed))
        if timed.ratio_high < CLEARLY:
            better.append((timed.ratio, name, plan))
    if better:
        _adopt(found, builder, sorted(better, key=lambda each: each[0]))


def _adopt(found: Search, builder: Builder, better: list[tuple[float, str, Plan]]) -> None:
    """All clear improvements together, when together they are one too; otherwise the best of them alone."""
    chosen = better[0][2]
    if len(better) > 1:
        together = found.plan
        for _, _, plan in better:
            together = _joined(together, found.plan, plan)
        timed = _against(found.built, builder.build(together, timed=True), builder)
        found.log.append(_line("together: " + ", ".join(name for _, name, _ in better), timed))
        chosen = together if timed.ratio_high < CLEARLY and timed.ratio < better[0][0] else chosen
    found.built, found.plan = builder.build(chosen, timed=True), chosen


def _joined(together: Plan, start: Plan, plan: Plan) -> Plan:
    """A plan with what another one changed besides."""
    return replace(
        together.in_float(plan.float_nodes),
        ops=(together.ops - (start.ops - plan.ops)) | (plan.ops - start.ops),
        min_macs=min(together.min_macs, plan.min_macs),
        min_channels=min(together.min_channels, plan.min_channels),
        attention_parts=together.attention_parts or plan.attention_parts,
    )


def _against(current: Built, other: Built, builder: Builder) -> LatencyComparison:
    """Two at a time: more sessions at once would hold the activations of each in memory.

    Most variants lose, and are left as soon as that is clear; one that may win has its whole time.
    """
    return compare_latency(current.model, other.model, builder.sample, budget_s=VARIANT_S, outside=(0.0, CLEARLY))


def gate(
    found: Search,
    model: ir.Model,
    sample: Sample,
    fallback: Callable[[], Built],
    budget_s: float,
    *,
    worth: float | None = None,
) -> None:
    """Go back to float (``fallback``: weights int8 in the file only) where integers are slower.

    Args:
        found: What is judged, and changed when it loses.
        model: The float model.
        sample: What both are fed.
        fallback: Builds what replaces a loser.
        budget_s: Seconds for timing.
        worth: Share of the float model's time that a result of poor fidelity must stay below; None where it is good.
    """
    enough = CLEARLY_FASTER if worth is None else min(CLEARLY_FASTER, worth)
    timed = compare_latency(model, found.built.model, sample, budget_s=budget_s, outside=(enough, SLOWER))
    found.ratio = timed.ratio
    found.log.append(_line("integer against float", timed))
    if timed.ratio > SLOWER or timed.ratio_low > 1:
        found.built, found.plan, found.ratio = fallback(), Plan(frozenset(), float_only=True), 1.0
        found.log.append("integers are slower than float on this target: weights are int8 in the file only")
    elif worth is not None and timed.ratio > worth:
        found.built, found.plan, found.ratio = fallback(), Plan(frozenset(), float_only=True), 1.0
        gain = f"{format_percent(1 - timed.ratio, digits=0)} less time"
        found.log.append(f"integers lose too much of the outputs for {gain}: weights are int8 in the file only")


def _without_losers(found: Search, builder: Builder, deadline: float) -> None:
    """Let products whose integers take longer than their floats go back, the worst first, as long as the clock agrees.

    Products at one place of repeated blocks go back together. A profile does not know what quantizing around a hole
    costs, so one such class is tried, then two, then four.
    """
    losers = _losers(found, builder)
    products = {label(what.node) for what in builder.regions(found.plan).integer.values() if what.kind == "multiply"}
    count = 1
    while count <= len(losers) and deadline - time.monotonic() > GATE_S + VARIANT_S:
        groups = list(itertools.chain.from_iterable(losers[:count]))
        plan = found.plan
        for group in groups:
            plan = plan.in_float(products.intersection(group.nodes)) if group.way == "static" else group.without(plan)
        candidate = builder.build(plan, timed=True)
        timed = _against(found.built, candidate, builder)
        what = "1 product" if len(groups) == 1 else f"{len(groups)} products"
        found.log.append(_line(f"{what} in float, by the profile slower as integers", timed))
        if timed.ratio_high >= CLEARLY:
            break
        found.built, found.plan = candidate, plan
        count *= 2


def _losers(found: Search, builder: Builder) -> list[list[Group]]:
    """Classes whose products take longer as integers, in sum over the class, the most time first.

    What one product costs is known less well than what its class does, and what is not one product's fault (a fused
    kernel, a conversion that the neighbours share) hits all of a class alike.
    """
    products = {label(what.node) for what in builder.regions(found.plan).integer.values() if what.kind == "multiply"}
    groups = [g for g in builder.groups(found.plan) if g.way == "dynamic" or products.intersection(g.nodes)]
    if not groups:
        return []
    exact = builder.float_model()
    before, after = group_times((exact, found.built.model), exact.graph, groups, builder.sample)
    lost = {each.name: after.get(each.name, 0.0) - (1 + LOSS) * before.get(each.name, 0.0) for each in groups}
    pooled = [(sum(lost[each.name] for each in members), members) for members in classes(groups, builder.places)]
    return [members for loss, members in sorted(pooled, key=lambda each: -each[0]) if loss > 0]


def _variants(found: Search, builder: Builder) -> list[tuple[str, Plan]]:
    """Plans that differ from the current one in one operator type or its form, the most data first."""
    work: dict[str, int] = {}
    for what in found.built.regions.integer.values():
        if what.kind not in ("multiply", *_FREE):
            size = math.prod(builder.shapes.get(str(what.head.name), (1,)))
            work[what.node.op_type] = work.get(what.node.op_type, 0) + size
    present = {node.op_type for node in found.built.model.graph} | ({SILU} if builder.has_silu else set())
    extra = sorted((builder.scheme.integer_ops - found.plan.ops) & present)
    variants = [(f"{op} as integer", found.plan.with_ops(op)) for op in extra]
    variants += [(f"{op} in float", found.plan.without(op)) for op in sorted(work, key=lambda op: (-work[op], op))]
    if any(what.kind == "multiply" for what in found.built.regions.integer.values()):
        pointwise = {w.node.op_type for w in found.built.regions.integer.values() if w.kind != "multiply"}
        variants.insert(0, ("only Conv, Gemm and MatMul as integers", found.plan.without(*pointwise)))
    if found.plan.min_macs > FEWEST_MACS:
        smaller = replace(found.plan, min_macs=FEWEST_MACS)
        variants.append(("small Conv, Gemm and MatMul as integers too", smaller))
    variants.append(("Conv of few channels as integers", replace(found.plan, min_channels=0)))
    here = _nodes(found.plan, builder)
    variants = [(label, plan) for label, plan in variants if _nodes(plan, builder) != here]
    if builder.has_attention and not found.plan.attention_parts:
        variants.append(("Attention as its parts", replace(found.plan, attention_parts=True)))
    return variants


def _nodes(plan: Plan, builder: Builder) -> set[ir.Node]:
    return set(builder.regions(plan).integer)


def _line(label: str, timed: LatencyComparison) -> str:
    return f"{label}: {timed.ratio:.3f} of the time ({timed.ratio_low:.3f} to {timed.ratio_high:.3f})"
