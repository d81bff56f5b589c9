"""Which rule gives the range of each tensor, judged by the error at the outputs.

The error of a tensor by itself misleads: clipping the rare large score is cheap there, and costs a detection.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from modelopt_cli.calibration.ranges import ObserverName, RangeRules
from modelopt_cli.format import format_db
from modelopt_cli.passes.quantize.builder import Builder
from modelopt_cli.passes.quantize.output_error import OutputJudge
from modelopt_cli.passes.quantize.plan import Plan

CLEAR_DB = 2.0  # clipping has to gain this much on calibration samples: 1.7 dB there were -1.2 dB on unseen pictures
TENSOR_DB = 0.25  # likewise of one tensor: 0.03 gained 1.6 dB more there, and lost 0.6 on unseen ones
MOST_TRIES = 24  # tensors
FEW = 8  # samples that a tensor is tried on first: most tries end there
PATIENCE = 8  # tries in a row without a gain, after which there is none to be expected


def choose_ranges(judge: OutputJudge, builder: Builder, plan: Plan, log: list[str]) -> Plan:
    """The plan with a rule for all tensors, and then another one for those of which that clearly lessens the error.

    Weights are rounded as in the result: the error of a draft's would hide that of the activations. Tensors are tried
    in the order of how much the rules differ, one after the other, and as many on every machine.

    Args:
        judge: Of the float model's outputs.
        builder: Of the variants; with one observer there is nothing to choose.
        plan: What runs as integers.
        log: Gets a line for each figure.
    """
    rules = RangeRules(choose_observer(judge, builder, plan, log))
    chosen = replace(plan, ranges=rules)
    contested = builder.contested(chosen)[:MOST_TRIES]
    if not contested:
        return chosen
    start = _static(builder, chosen)
    best, best_of_few = _worst_db(judge, start), _worst_db(judge, start, FEW)
    first, failures = best, 0
    for name, other in contested:
        changed = replace(plan, ranges=rules.but(name, other))
        model = _static(builder, changed)
        of_few = _worst_db(judge, model, FEW)
        found = _worst_db(judge, model) if of_few > best_of_few + TENSOR_DB else best
        if found > best + TENSOR_DB:
            chosen, rules, best, best_of_few, failures = changed, rules.but(name, other), found, of_few, 0
        else:
            failures += 1
        if failures == PATIENCE:
            break
    if rules.others:
        names = ", ".join(f"{name} by {other}" for name, other in sorted(rules.others))
        log.append(f"ranges of single tensors: {names}: {format_db(first)} -> {format_db(best)}")
    return chosen


def choose_observer(judge: OutputJudge, builder: Builder, plan: Plan, log: list[str]) -> ObserverName:
    """The observer, of the builder's, whose ranges leave the least error in the worst part of the outputs."""
    first = builder.observers[0]
    if len(builder.observers) == 1 or not builder.regions(plan).integer:
        return first
    plans = [replace(plan, ranges=RangeRules(observer)) for observer in builder.observers]
    found = [_worst_db(judge, _static(builder, each)) for each in plans]
    log += [f"ranges by {name}: {format_db(value)}" for name, value in zip(builder.observers, found, strict=True)]
    best = int(np.argmax(found))
    return builder.observers[best] if found[best] > found[0] + CLEAR_DB else first


def _static(builder: Builder, plan: Plan) -> ir.Model:
    return builder.build(plan, final=True, static_only=True).model


def _worst_db(judge: OutputJudge, model: ir.Model, most: int | None = None) -> float:
    return judge.judge(model, most).worst.sqnr_db
