"""Bits are chosen by a prediction; whether the outputs keep what was asked for is measured, and bits are added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.data.part import split_off
from modelopt_cli.format import format_db
from modelopt_cli.graph.edit import forget_names
from modelopt_cli.passes.base import PassResult
from modelopt_cli.passes.quantize.output_error import OutputJudge

ENOUGH = 64  # samples, from which on every fourth judges and teaches nothing: rounding fits those that it is taught
EVERY = 4
SAMPLES = 32  # that outputs are compared on
TRIES = 6  # each rounds all weights anew; a bit more for each weight takes 6 dB, so that few are needed
SPARE_DB = 2.0  # more than asked for by this much is worth a try with fewer bits
MARGIN = 0.8  # of the noise that would just do: the next try should be the last

Attempt = Callable[[ir.Model, float], tuple[PassResult, float]]
"""(a clone, noise over signal that the prediction may have) -> the result, and the noise that is predicted for it."""


def split(data: Dataset) -> tuple[Dataset, Dataset]:
    """Samples that weights are rounded by, and samples that outputs are compared on; the same where there are few."""
    return split_off(data, EVERY) if len(data) >= ENOUGH * data.batch_size else (data, data)


def until_faithful(model: ir.Model, attempt: Attempt, judged: Dataset, min_sqnr: float) -> PassResult:
    """The first result whose outputs keep ``min_sqnr`` dB on calibration samples, or that with all bits.

    What search gains over the prediction may be a lot: then fewer bits are tried, once.

    Args:
        model: The float model; not edited.
        attempt: Stores the weights of a clone.
        judged: Calibration samples to compare outputs on; see `split`.
        min_sqnr: Signal to noise that the worst output keeps.

    Returns:
        With ``sqnr_db`` in its details, and a notice where it was not reached.
    """
    judge = OutputJudge(model, judged.take(SAMPLES))
    held: PassResult | None = None
    allowed = 10 ** (-min_sqnr / 10)
    for left in reversed(range(TRIES)):
        clone = model.clone()
        forget_names(clone)
        result, predicted = attempt(clone, allowed if left or held else 0.0)
        reached = judge.judge(result.model).sqnr_db
        result = replace(result, details=result.details | {"sqnr_db": reached})
        if held is not None:  # this was the try with fewer bits
            return result if reached >= min_sqnr else held
        if predicted > allowed or min_sqnr <= reached < min_sqnr + SPARE_DB:
            break  # all weights have all bits, or just enough
        held = result if reached >= min_sqnr else None
        allowed = predicted * MARGIN * 10 ** ((reached - min_sqnr) / 10)
    details = result.details
    if reached < min_sqnr:
        message = f"the outputs keep {format_db(reached)} on calibration samples, not {format_db(min_sqnr)}"
        notice = {
            "code": "sqnr-missed",
            "message": f"{message}: all weights have 8 bits",
            "advice": "compute: float, or exclude weights",
        }
        details |= {"notices": [*details.get("notices", ()), notice]}
    return replace(result, details=details)
