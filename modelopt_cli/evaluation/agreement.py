"""Agreement: how one model's outputs follow another's on the same inputs. It is not accuracy; it needs no labels."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from modelopt_cli.format import IDENTICAL_DB

MAX_CLASSES = 100_000
STEADY_DB = 25.0  # noise of a good int8 model: classifiers keep 97 % of their answers at it, embeddings 90 %
UNSTEADY = 0.05


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
        scores: Whether the last axis is a set of classes to take the largest of; None lets the values tell; see
            `are_scores` and `unsteady`.
    """

    def __init__(self, output: str, mask_threshold: float | None = None, *, scores: bool | None = True) -> None:
        self._output, self._threshold, self._scores = output, mask_threshold, scores
        self._signal = self._noise = self._cosine = self._worst = 0.0
        self._samples = self._same = self._rows = self._both = self._either = 0
        self._nonfinite = self._mismatches = 0
        self._unsteady = 0.0

    def update(self, reference: np.ndarray, got: np.ndarray) -> None:
        """Take in the output of one sample from both models."""
        self._samples += 1
        scores = self._scores is not False and has_classes(reference, sure=bool(self._scores))
        if scores:
            self._rows += reference.size // reference.shape[-1]
            self._unsteady += 0.0 if self._scores else unsteady(reference)
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
            self._same / self._rows if self._rows and self._unsteady <= UNSTEADY * self._rows else None,
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
            return -IDENTICAL_DB
        if self._noise == 0:
            return IDENTICAL_DB
        if self._signal == 0:
            return -IDENTICAL_DB
        return float(np.clip(10 * np.log10(self._signal / self._noise), -IDENTICAL_DB, IDENTICAL_DB))


def are_scores(shape: Sequence[int | str | None], dims: Collection[int | str | None] = ()) -> bool | None:
    """Whether an output declared so holds a score per class on its last axis; None where only its values can tell.

    [batch, tokens, classes] does where the tokens are a free dimension of an input. Three fixed sizes are a detector's
    [batch, channels, cells] as likely, whose largest cell per channel means nothing; more axes are a map.

    Args:
        shape: Of the output.
        dims: Dimensions of the inputs.
    """
    if len(shape) != 3 or isinstance(shape[1], int):
        return None if len(shape) == 2 else False
    return True if shape[1] is not None and shape[1] in dims else None


def unsteady(output: np.ndarray) -> float:
    """Expected number of rows whose largest entry would be another one after a little noise (`STEADY_DB`).

    Answers of a classifier stand out. Those of an embedding, or of a map of cells, do not: the largest entry is largest
    by chance, and that another model has another one says nothing.
    """
    rows = output.reshape(-1, output.shape[-1]).astype(np.float64)
    rows = np.where(np.isfinite(rows), rows, 0.0)
    rows -= rows.mean(axis=-1, keepdims=True)  # what all classes have in common decides nothing
    noise = math.sqrt(float(np.mean(rows**2))) * 10 ** (-STEADY_DB / 20)
    top = np.partition(rows, -2, axis=-1)[:, -2:]
    margins = (top[:, 1] - top[:, 0]) / max(2 * noise, 1e-300)
    return float(sum(0.5 * math.erfc(margin) for margin in margins))


def has_classes(output: np.ndarray, *, sure: bool) -> bool:
    """Whether one sample's output can be ranked along its last axis; ``sure`` that it holds scores, or by its looks."""
    if output.ndim not in (2, 3) or output.dtype.kind != "f" or not 2 <= output.shape[-1] <= MAX_CLASSES:
        return False
    return sure or output.ndim == 2 or output.shape[2] < output.shape[1] or _are_probabilities(output)


def _are_probabilities(output: np.ndarray) -> bool:
    return bool(output.size and output.min() >= 0 and np.allclose(output.sum(axis=-1), 1, atol=1e-3))
