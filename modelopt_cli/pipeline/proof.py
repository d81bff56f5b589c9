"""An exact pass is held to its word; the part of it that breaks the word is found, switched off and named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from modelopt_cli.data.dataset import Sample
from modelopt_cli.errors import PassError
from modelopt_cli.evaluation.equivalence import check_equivalence
from modelopt_cli.passes.base import Pass, PassResult, Skip
from modelopt_cli.pipeline.check import check_structure
from modelopt_cli.report.model import Notice

EXACT_RTOL = 1e-4  # float32 rounding through some hundred layers, relative to the output's largest magnitude
MAX_GUILTY = 3  # parts switched off before the whole pass is undone
ADVICE = "please report this model's pattern as a bug"

Apply = Callable[[Pass], PassResult]


@dataclass(frozen=True)
class Proved:
    """The result that holds, and what had to be given up for it."""

    result: PassResult
    notices: tuple[Notice, ...] = ()


def prove(step: Pass, before: ir.Model, result: PassResult, apply: Apply, sample: Sample) -> Proved:
    """Compare ``result`` with ``before`` on ``sample``; where it drifts, or the runtime refuses it, look for the fault.

    The rules that were applied are searched by bisection for the first that breaks the outputs, which is switched off;
    then the rest is tried again. A pass without parts, or with too many bad ones, is undone.

    Args:
        step: The pass.
        before: The model that the pass was given; not edited.
        result: What it made of a clone.
        apply: Runs a pass on a new clone of ``before``.
        sample: Inputs to compare on.

    Raises:
        PassError: The pass wrote an invalid graph and has no parts to switch off.
    """
    fault = _fault(step, before, result, sample)
    if fault is None:
        return Proved(result)

    def attempt(skipped: Sequence[str]) -> tuple[PassResult | None, str | None]:
        smaller = step.without(skipped)
        made = None if smaller is None else apply(smaller)
        return made, "it has no parts" if made is None else _fault(step, before, made, sample)

    guilty: list[str] = []
    last, reasons = result, {}
    while len(guilty) < MAX_GUILTY and (name := _first_bad(last, guilty, attempt)) is not None:
        guilty.append(name)
        reasons[name] = fault
        made, fault = attempt(guilty)
        if made is None:
            break
        last = made
        if fault is None:
            return Proved(_without(last, reasons), tuple(_told(step.name, reasons)))
    message = f"{step.name} was undone: {fault}"
    undone = PassResult(before, 0, (Skip(step.name, "undone: the outputs drifted"),))
    return Proved(undone, (Notice("pass-undone", message, ADVICE),))


def _fault(step: Pass, before: ir.Model, result: PassResult, sample: Sample) -> str | None:
    """What is wrong with a result, or None. An invalid graph of a pass without parts is raised, not undone."""
    if not result.changed:
        return None
    try:
        check_structure(result.model, step.name)
    except PassError as error:
        if step.without(()) is None:
            raise
        return error.message
    moved = [drift for drift in check_equivalence(before, result.model, [sample], rtol=EXACT_RTOL) if not drift.within]
    return f"output '{moved[0].output}' drifted by {moved[0].relative:.1e} of its range" if moved else None


def _first_bad(
    result: PassResult, guilty: Sequence[str], attempt: Callable[[Sequence[str]], tuple[PassResult | None, str | None]]
) -> str | None:
    """The rule with which the outputs break, of those that were applied; None when they break without any of them."""
    names = _applied(result, guilty)
    while True:
        made, fault = attempt([*guilty, *names])
        if fault is None:
            break
        more = [] if made is None else _applied(made, [*guilty, *names])
        if not more:
            return None
        names += more  # rules that found something only where others no longer did
    good, bad = 0, len(names)
    while bad - good > 1:  # the first `good` rules hold, the first `bad` ones do not
        middle = (good + bad) // 2
        if attempt([*guilty, *names[middle:]])[1] is None:
            good = middle
        else:
            bad = middle
    return names[bad - 1]


def _applied(result: PassResult, known: Sequence[str]) -> list[str]:
    return [name for name in result.details.get("rules", ()) if name not in known]


def _without(result: PassResult, reasons: dict[str, str]) -> PassResult:
    skips = [Skip(name, f"{name}: switched off, the outputs drifted") for name in reasons]
    return replace(result, skipped=(*result.skipped, *skips), details={**result.details, "switched_off": [*reasons]})


def _told(step: str, reasons: dict[str, str]) -> list[Notice]:
    return [
        Notice("rule-switched-off", f"{step}: rule {name} was switched off: {reason}", ADVICE)
        for name, reason in reasons.items()
    ]
