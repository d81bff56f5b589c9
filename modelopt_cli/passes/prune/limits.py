"""As much as a limit on accuracy or agreement allows: tried, judged, and halved in until it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.data.part import split_off
from modelopt_cli.errors import UsageError
from modelopt_cli.evaluation.compare import agreement
from modelopt_cli.passes.base import PassContext

Outcome = TypeVar("Outcome")

TRIALS = 6  # after the first: the share is known to a sixty-fourth of the range
JUDGES_EVERY = 4  # of the calibration samples one judges, where agreement with the original is asked for
FEWEST_SAMPLES = 8  # to split: of fewer, all teach and all judge
EXACT = 1e-9


@dataclass(frozen=True)
class Limits:
    """What the outputs have to keep; None where nobody asked.

    Attributes:
        max_accuracy_drop: Loss on labelled samples, as a fraction.
        min_agreement: Share of answers that stay the same: top-1 of scores, mean cosine of other outputs.
        min_sqnr: Decibels.
    """

    max_accuracy_drop: float | None = None
    min_agreement: float | None = None
    min_sqnr: float | None = None

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return self.max_accuracy_drop is not None or self.on_outputs

    @property
    def on_outputs(self) -> bool:
        """Whether one is judged on calibration samples, without labels."""
        return self.min_agreement is not None or self.min_sqnr is not None


class LimitJudge:
    """Says whether a candidate keeps the limits.

    Args:
        limits: At least one.
        reference: What candidates have to agree with; not edited.
        ctx: With calibration data, or with the measure of accuracy.
        name: Of the pass, for messages.

    Raises:
        UsageError: There is nothing to measure a limit on.
    """

    def __init__(self, limits: Limits, reference: ir.Model, ctx: PassContext, name: str) -> None:
        self._limits, self._reference, self._drop = limits, reference.clone(), ctx.accuracy_drop
        self._held: Dataset | None = None
        if limits.max_accuracy_drop is not None and self._drop is None:
            raise UsageError(
                "max_accuracy_drop needs labelled evaluation data", where=name, hint="--eval FILE, or min_agreement"
            )
        if limits.on_outputs:
            data = ctx.need_calibration(f"{name}, a limit on its outputs")
            self._held = split_off(data, JUDGES_EVERY)[1] if len(data) >= FEWEST_SAMPLES else data

    def holds(self, model: ir.Model) -> bool:
        """Whether a candidate keeps them all."""
        limits = self._limits
        if self._held is not None:
            outputs = agreement(self._reference, model, self._held)
            if min(each.sqnr_db for each in outputs) < (limits.min_sqnr or -float("inf")):
                return False
            same = min(each.top1 if each.top1 is not None else each.cosine for each in outputs)
            if same < (limits.min_agreement or 0.0):
                return False
        if limits.max_accuracy_drop is None or self._drop is None:
            return True
        return self._drop(model) <= limits.max_accuracy_drop + EXACT


def teachers(data: Dataset, limits: Limits) -> Dataset:
    """The samples that a fit may learn from: those that judge do not teach."""
    return split_off(data, JUDGES_EVERY)[0] if limits.on_outputs and len(data) >= FEWEST_SAMPLES else data


def most_that_holds(attempt: Callable[[float], Outcome | None], most: float) -> tuple[float, Outcome] | None:
    """The largest share up to ``most``, near enough, for which an attempt gives an outcome; None when none does.

    Args:
        attempt: Gives None where limits do not hold; they are taken to hold for less where they hold for more.
        most: Tried first.
    """
    found = attempt(most)
    if found is not None:
        return most, found
    best: tuple[float, Outcome] | None = None
    low, high = 0.0, most
    for _ in range(TRIALS):
        middle = (low + high) / 2
        found = attempt(middle)
        if found is None:
            high = middle
        else:
            low, best = middle, (middle, found)
    return best
