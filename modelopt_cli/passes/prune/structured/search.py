"""Plans are tried: errors of groups do not add up once much leaves, so the network that comes out is what counts.

Each trial cuts a clone, fits it, and compares its outputs on samples that judge. The neighbours of the best plan so far
follow, one group a step up or down and the rest of the budget spread again, as long as there are trials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.passes.prune.structured.plan import Plan

BETTER = 0.9  # of the error: a smaller gain may be chance, and sixteen trials would find it


@dataclass(frozen=True)
class Trial:
    """A plan carried out.

    Attributes:
        plan: What left.
        model: The result.
        changed: Weights and branches that are not what they were.
        error: At the model's outputs, on samples that judge, as a share of their variance.
    """

    plan: Plan
    model: ir.Model
    changed: int
    error: float


def best_trial(
    plans: Iterable[Plan],
    attempt: Callable[[Plan], Trial],
    neighbours: Callable[[Plan], Iterable[Plan]],
    trials: int,
) -> Trial:
    """The trial of least error.

    Args:
        plans: To begin with, at least one; all are tried where they differ.
        attempt: Carries a plan out.
        neighbours: Plans for the same budget that differ a little, most promising first.
        trials: More of them, at most.
    """
    tried: set[tuple[object, ...]] = set()
    best: Trial | None = None
    for plan in plans:
        if _key(plan) not in tried:
            tried.add(_key(plan))
            best = _better(best, attempt(plan), 1.0)
    assert best is not None, "there is a plan to begin with"
    while trials > 0:
        before = best
        for plan in neighbours(before.plan):
            if _key(plan) in tried or plan.met < before.plan.met:
                continue
            tried.add(_key(plan))
            trials -= 1
            best = _better(before, attempt(plan), BETTER)
            if best is not before or trials == 0:
                break
        if best is before:
            break
    return best


def _better(best: Trial | None, other: Trial, share: float) -> Trial:
    return other if best is None or other.error < share * best.error else best


def _key(plan: Plan) -> tuple[object, ...]:
    return tuple(sorted((name, *counts) for name, counts in plan.groups.items()))
