"""Agreement: how one model's outputs follow another's on the same inputs. It is not accuracy; it needs no labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SQNR_LIMIT_DB = 200.0  # of equal outputs; a finite number, so that it can be compared, averaged and stored
MAX_CLASSES = 100_000


@dataclass(frozen=True)
class OutputAgreement:
    """How one output of the result follows the original's on the same inputs.

    Attributes:
        output: Its name.
        sqnr_db: Signal to quantization noise, 10 log10(sum ref^2 / sum (ref-got)^2), all samples together, within
            +-200: equal outputs have 200, outputs that stopped being finite -200.
        cosine: Mean cosine similarity over samples.
        max_abs_error: Largest absolute difference of finite values.
        top1: Share of rows with the same arg-max over the last axis; None where the output is no score vector.
        mask_iou: Overlap (intersection over union) of the two maps above the asked threshold; None when not asked.
        nonfinite: Values that are finite in one model only.
        shape_mismatches: Samples on which the two shapes differ; they count as no agreement at all.
    """

    output: str
    sqnr_db: float
    cosine: float
    max_abs_error: float
    top1: float | None = None
    mask_iou: float | None = None
    nonfinite: int = 0
    shape_mismatches: int = 0


class AgreementMeter:
    """Adds up the agreement of one output, sample by sample.

    Args:
        output: Its name.
        mask_threshold: Also measure the overlap of what lies above it.
        scores: Whether the last axis is a set of classes to take the largest of; see `are_scores`.
    """

    def __init__(self, output: str, mask_threshold: float | None = None, *, scores: bool = True) -> None:
        self._output, self._threshold, self._scores = output, mask_threshold, scores
        self._signal = self._noise = self._cosine = self._worst = 0.0
        self._samples = self._same = self._rows = self._both = self._either = 0
        self._nonfinite = self._mismatches = 0

    def update(self, reference: np.ndarray, got: np.ndarray) -> None:
        """Take in the output of one sample from both models."""
        self._samples += 1
        scores = self._scores and _has_classes(reference)
        if scores:
            self._rows += reference.size // reference.shape[-1]
        ref = reference.astype(np.float64)
        if reference.shape != got.shape:
            self._mismatches += 1
            self._signal += float(np.square(ref[np.isfinite(ref)]).sum())
            self._noise += float(np.square(ref[np.isfinite(ref)]).sum())
            return
        if scores:
            self._same += int((reference.argmax(axis=-1) == got.argmax(axis=-1)).sum())
        if self._threshold is not None:
            above, above_got = reference > self._threshold, got > self._threshold
            self._both += int((above & above_got).sum())
            self._either += int((above | above_got).sum())
        self._compare(ref, got.astype(np.float64))

    def result(self) -> OutputAgreement:
        """The agreement so far."""
        samples = max(self._samples, 1)
        iou = None
        if self._threshold is not None:
            iou = self._both / self._either if self._either else 1.0
        return OutputAgreement(
            self._output,
            self._sqnr(),
            self._cosine / samples,
            self._worst,
            self._same / self._rows if self._rows else None,
            iou,
            self._nonfinite,
            self._mismatches,
        )

    def _compare(self, ref: np.ndarray, got: np.ndarray) -> None:
        finite_ref, finite_got = np.isfinite(ref), np.isfinite(got)
        finite = finite_ref & finite_got
        if not finite.all():
            self._nonfinite += int((finite_ref != finite_got).sum())
            ref, got = ref[finite], got[finite]
        difference = ref - got
        signal, noise, power = float((ref * ref).sum()), float((difference**2).sum()), float((got * got).sum())
        self._signal += signal
        self._noise += noise
        self._worst = max(self._worst, float(np.abs(difference).max(initial=0.0)))
        if noise == 0:
            self._cosine += 1.0
        elif signal and power:
            self._cosine += float((ref * got).sum()) / float(np.sqrt(signal) * np.sqrt(power))

    def _sqnr(self) -> float:
        if self._nonfinite:
            return -SQNR_LIMIT_DB
        if self._noise == 0:
            return SQNR_LIMIT_DB
        if self._signal == 0:
            return -SQNR_LIMIT_DB
        return float(np.clip(10 * np.log10(self._signal / self._noise), -SQNR_LIMIT_DB, SQNR_LIMIT_DB))


def are_scores(shape: Sequence[int | str | None]) -> bool:
    """Whether an output declared so holds a score per class on its last axis, as far as a shape can say.

    [batch, classes] does, and [batch, tokens, classes] where the number of tokens is free. Three fixed sizes are a
    detector's [batch, channels, cells] as likely, whose largest cell per channel means nothing; more axes are a map.
    """
    return len(shape) == 2 or (len(shape) == 3 and not isinstance(shape[1], int))


def _has_classes(output: np.ndarray) -> bool:
    return output.ndim in (2, 3) and output.dtype.kind == "f" and 2 <= output.shape[-1] <= MAX_CLASSES
