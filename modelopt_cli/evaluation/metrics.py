"""Metrics with ground truth. Each sample adds a few sums; the metric is a function of the total."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from modelopt_cli.errors import DataError, UsageError
from modelopt_cli.evaluation.average_precision import MeanAveragePrecision, MeanAveragePrecision50
from modelopt_cli.evaluation.classification import F1, AreaUnderCurve, Precision, Recall
from modelopt_cli.evaluation.custom import load_metric
from modelopt_cli.evaluation.detection import match_detections
from modelopt_cli.evaluation.metric import AnyMetric, Metric, WholeMetric, class_scores, ratio, same_size
from modelopt_cli.evaluation.regression import MeanAbsolutePercentageError, NeighbourOverlap, RSquared
from modelopt_cli.evaluation.text import CharacterErrorRate, Perplexity, WordErrorRate

__all__ = [
    "METRICS",
    "AnyMetric",
    "Cosine",
    "F1Detection",
    "MaskIoU",
    "MeanAbsoluteError",
    "MeanIoU",
    "Metric",
    "RootMeanSquareError",
    "Top5",
    "TopK",
    "WholeMetric",
    "choose_metric",
    "find_metric",
]


@dataclass(frozen=True)
class TopK:
    """Share of answers whose true class is among the ``k`` highest scores. Negative labels are ignored.

    Outputs: [classes] with a scalar label, or [..., classes] with labels of shape [...].
    """

    k: int = 1
    name: ClassVar[str] = "top1"
    truth: ClassVar[str] = "labels"
    higher_is_better: ClassVar[bool] = True
    counts_hits: ClassVar[bool] = True

    def sums(self, output: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """[hits, answers]."""
        scores, label, valid = class_scores(self.name, output, truth)
        own = np.take_along_axis(scores, np.where(valid, label, 0).astype(np.int64)[:, None], axis=1)
        # Ties count against the label unless it comes first, as arg-max has it; NaN scores are never a hit.
        earlier = np.arange(scores.shape[1])[None, :] < label.astype(np.int64)[:, None]
        rank = (scores > own).sum(axis=1) + ((scores == own) & earlier).sum(axis=1)
        hits = (rank < self.k) & np.isfinite(own[:, 0]) & valid
        return np.array([hits.sum(), valid.sum()], np.float64)

    def value(self, totals: np.ndarray) -> np.ndarray:
        """Hits over answers."""
        return ratio(totals[..., 0], totals[..., 1])


@dataclass(frozen=True)
class Top5(TopK):
    """Top-5."""

    k: int = 5
    name: ClassVar[str] = "top5"


@dataclass(frozen=True)
class F1Detection:
    """F1 of detections, over all samples: a hit has the right class and enough overlap, and each true box counts once.

    Output: [4 + classes, cells], rows 0-3 being cx, cy, w, h and the others scores in [0, 1] (the layout of YOLOv8).
    Truth: [max, 5] of class, cx, cy, w, h in the same unit, padded with rows of class -1.

    Attributes:
        score: Cells below are no detections.
        suppression: Of two boxes of one class that overlap more (IoU), the one of the lower score goes.
        overlap: Least IoU of a hit.
    """

    score: float = 0.5
    suppression: float = 0.5
    overlap: float = 0.5
    name: ClassVar[str] = "f1-detection"
    truth: ClassVar[str] = "boxes"
    higher_is_better: ClassVar[bool] = True
    counts_hits: ClassVar[bool] = False

    def sums(self, output: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """[hits, detections + true boxes]."""
        if output.ndim != 2 or output.shape[0] < 5 or truth.ndim != 2 or truth.shape[1] != 5:
            raise DataError(
                f"output {list(output.shape)} with boxes {list(truth.shape)}",
                where=self.name,
                hint="expected an output [batch, 4 + classes, cells] and boxes [samples, max, 5]",
            )
        real = truth[truth[:, 0] >= 0]
        hits, found = match_detections(output, real, self.score, self.suppression, self.overlap)
        return np.array([hits, found + len(real)], np.float64)

    def value(self, totals: np.ndarray) -> np.ndarray:
        """2 * hits / (detections + true boxes)."""
        return ratio(2 * totals[..., 0], totals[..., 1])


@dataclass(frozen=True)
class MeanIoU:
    """Mean intersection over union of the classes that occur. Output: [classes, ...] with labels [...]; negative labels
    are ignored, and so are those of 255 in uint8 labels (the usual "void").
    """

    name: ClassVar[str] = "miou"
    truth: ClassVar[str] = "labels"
    higher_is_better: ClassVar[bool] = True
    counts_hits: ClassVar[bool] = False

    def sums(self, output: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Intersections of all classes, then unions of all classes."""
        classes = output.shape[0] if output.ndim else 0
        label = truth.squeeze()
        if output.ndim < 2 or output.shape[1:] != label.shape or label.dtype.kind not in "iu":
            raise DataError(
                f"labels {truth.dtype}{list(truth.shape)} are no class map of an output {list(output.shape)}",
                where=self.name,
                hint="expected an output [batch, classes, height, width] and integer labels [samples, height, width]",
            )
        void = label.astype(np.int64) == 255 if label.dtype == np.uint8 else label.astype(np.int64) < 0
        own, want = output.argmax(axis=0)[~void], label[~void].astype(np.int64)
        predicted, true = np.bincount(own, minlength=classes)[:classes], np.bincount(want, minlength=classes)[:classes]
        shared = np.bincount(own[own == want], minlength=classes)[:classes]
        return np.concatenate([shared, predicted + true - shared]).astype(np.float64)

    def value(self, totals: np.ndarray) -> np.ndarray:
        """Mean over classes with a union."""
        present = np.split(totals, 2, axis=-1)[1] > 0
        return ratio(np.where(present, self.by_class(totals), 0).sum(axis=-1), present.sum(axis=-1))

    def by_class(self, totals: np.ndarray) -> np.ndarray:
        """Intersection over union of each class, NaN for those that do not occur; shape [..., classes]."""
        shared, union = np.split(totals, 2, axis=-1)
        return np.where(union > 0, ratio(shared, union), np.nan)


@dataclass(frozen=True)
class MaskIoU:
    """Intersection over union of one mask, over all samples together. Output and labels: maps of one size.

    Attributes:
        threshold: Above it a value is part of the mask, in output and labels.
    """

    threshold: float = 0.5
    name: ClassVar[str] = "mask-iou"
    truth: ClassVar[str] = "labels"
    higher_is_better: ClassVar[bool] = True
    counts_hits: ClassVar[bool] = False

    def sums(self, output: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """[intersection, union]."""
        own, want = same_size(self.name, output, truth)
        own, want = own > self.threshold, want > self.threshold
        return np.array([(own & want).sum(), (own | want).sum()], np.float64)

    def value(self, totals: np.ndarray) -> np.ndarray:
        """Intersection over union; 1 when both masks are empty everywhere."""
        return np.where(totals[..., 1] == 0, 1.0, ratio(totals[..., 0], totals[..., 1]))


@dataclass(frozen=True)
class MeanAbsoluteError:
    """Mean absolute error over all values."""

    name: ClassVar[str] = "mae"
    truth: ClassVar[str] = "labels"
    higher_is_better: ClassVar[bool] = False
    counts_hits: ClassVar[bool] = False

    def sums(self, output: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """[sum of absolute errors, values]."""
        own, want = same_size(self.name, output, truth)
        return np.array([np.abs(own - want).sum(), own.size], np.float64)

    def value(self, totals: np.ndarray) -> np.ndarray:
        """Error per value."""
        return ratio(totals[..., 0], totals[..., 1])


@dataclass(frozen=True)
class RootMeanSquareError:
    """Root of the mean squared error over all values."""

    name: ClassVar[str] = "rmse"
    truth: ClassVar[str] = "labels"
    higher_is_better: ClassVar[bool] = False
    counts_hits: ClassVar[bool] = False

    def sums(self, output: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """[sum of squared errors, values]."""
        own, want = same_size(self.name, output, truth)
        return np.array([np.square(own - want).sum(), own.size], np.float64)

    def value(self, totals: np.ndarray) -> np.ndarray:
        """Root of the error per value."""
        root: np.ndarray = np.sqrt(ratio(totals[..., 0], totals[..., 1]))
        return root


@dataclass(frozen=True)
class Cosine:
    """Mean cosine similarity of output and label vectors, for embeddings."""

    name: ClassVar[str] = "cosine"
    truth: ClassVar[str] = "labels"
    higher_is_better: ClassVar[bool] = True
    counts_hits: ClassVar[bool] = False

    def sums(self, output: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """[cosine, 1]."""
        own, want = same_size(self.name, output, truth)
        norm = float(np.linalg.norm(own) * np.linalg.norm(want))
        return np.array([float(own @ want) / norm if norm else 0.0, 1.0])

    def value(self, totals: np.ndarray) -> np.ndarray:
        """Cosine per sample."""
        return ratio(totals[..., 0], totals[..., 1])


_METRICS: tuple[Callable[..., AnyMetric], ...] = (
    TopK,
    Top5,
    Precision,
    Recall,
    F1,
    AreaUnderCurve,
    F1Detection,
    MeanAveragePrecision,
    MeanAveragePrecision50,
    MeanIoU,
    MaskIoU,
    WordErrorRate,
    CharacterErrorRate,
    Perplexity,
    MeanAbsoluteError,
    RootMeanSquareError,
    MeanAbsolutePercentageError,
    RSquared,
    Cosine,
    NeighbourOverlap,
)
METRICS: Mapping[str, Callable[..., AnyMetric]] = {str(make().name): make for make in _METRICS}


def find_metric(name: str) -> AnyMetric:
    """The metric of that name, with options where there are some: ``top1``, ``wer:separator=4``.

    Raises:
        UsageError: There is none, or it has no such option; the message suggests one.
    """
    word, _, options = name.partition(":")
    if word in METRICS:
        return METRICS[word](**_metric_options(word, options))
    close = difflib.get_close_matches(word, METRICS, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"one of {', '.join(METRICS)}"
    if ":" in name:
        hint = "a function of yours runs with --allow-code only"
    raise UsageError(f"no metric is called '{word}'", hint=hint)


def choose_metric(name: str, *, allow_code: bool = False) -> AnyMetric:
    """As `find_metric`; with ``allow_code`` also ``module:function`` of the user's own.

    Raises:
        UsageError: There is no such metric, module or function.
    """
    module, _, function = name.partition(":")
    if allow_code and function and module not in METRICS:
        return load_metric(module, function)
    return find_metric(name)


def _metric_options(word: str, text: str) -> dict[str, float | int]:
    known = inspect.signature(METRICS[word]).parameters
    options: dict[str, float | int] = {}
    for part in text.split(",") if text else ():
        key, equals, value = part.partition("=")
        if key not in known or not equals:
            hint = f"it has {', '.join(known)}" if known else "it has none"
            raise UsageError(f"metric {word} has no option '{key}'", hint=hint)
        try:
            options[key] = float(value) if isinstance(known[key].default, float) else int(value)
        except ValueError as error:
            raise UsageError(f"'{value}' is no number", where=f"{word}:{key}") from error
    return options
