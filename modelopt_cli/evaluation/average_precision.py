"""Mean average precision of detections, as the COCO evaluation defines it (Lin et al. 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from modelopt_cli.errors import DataError
from modelopt_cli.evaluation.detection import detections, iou

RECALLS = np.linspace(0, 1, 101)
MOST = 100  # detections of an image that count in each class, the best ones


@dataclass(frozen=True)
class _Kept:
    """One image: scores [n], classes [n], hits [thresholds, n] of its detections, and the classes of its true boxes."""

    scores: np.ndarray
    classes: np.ndarray
    hits: np.ndarray
    true: np.ndarray


@dataclass(frozen=True)
class MeanAveragePrecision:
    """Mean over classes, and over overlaps from 0.5 to 0.95, of the precision at 101 recalls.

    Output and truth as of ``f1-detection``.

    Attributes:
        score_above: Cells below are no detections.
        suppression: Of two boxes of one class that overlap more (IoU), the one of the lower score goes.
    """

    score_above: float = 0.001
    suppression: float = 0.65
    truth: ClassVar[str] = "boxes"
    higher_is_better: ClassVar[bool] = True
    resamples: ClassVar[int] = 100
    overlaps: ClassVar[tuple[float, ...]] = tuple(float(each) for each in np.arange(0.5, 0.96, 0.05))

    @property
    def name(self) -> str:
        """``map``."""
        return "map"

    def keep(self, output: np.ndarray, truth: np.ndarray) -> _Kept:
        """The image's detections, each with the overlaps at which it is a hit."""
        if output.ndim != 2 or output.shape[0] < 5 or truth.ndim != 2 or truth.shape[1] != 5:
            raise DataError(
                f"output {list(output.shape)} with boxes {list(truth.shape)}",
                where=self.name,
                hint="expected an output [batch, 4 + classes, cells] and boxes [samples, max, 5]",
            )
        real = truth[truth[:, 0] >= 0]
        found = detections(output, self.score_above, self.suppression)
        counted = _rank_in_class(found[1]) < MOST
        boxes, classes, scores = (each[counted] for each in found)
        hits = np.stack([_match(boxes, classes, real, overlap) for overlap in self.overlaps])
        return _Kept(scores, classes, hits, real[:, 0].astype(np.int64))

    def score(self, kept: Sequence[Any]) -> float:
        """0 where there are no true boxes."""
        scores = np.concatenate([each.scores for each in kept])
        classes = np.concatenate([each.classes for each in kept])
        hits = np.concatenate([each.hits for each in kept], axis=1)
        true = np.concatenate([each.true for each in kept])
        order = np.argsort(-scores, kind="stable")
        classes, hits = classes[order], hits[:, order]
        values = [
            _average_precision(row[classes == kind], int((true == kind).sum()))
            for kind in np.unique(true)
            for row in hits
        ]
        return float(np.mean(values)) if values else 0.0


@dataclass(frozen=True)
class MeanAveragePrecision50(MeanAveragePrecision):
    """``map`` at an overlap of 0.5 alone."""

    overlaps: ClassVar[tuple[float, ...]] = (0.5,)

    @property
    def name(self) -> str:
        """``map50``."""
        return "map50"


def _rank_in_class(classes: np.ndarray) -> np.ndarray:
    """How many of the same class stand before each."""
    ranks = np.empty(len(classes), np.int64)
    for kind in np.unique(classes):
        ranks[classes == kind] = np.arange(int((classes == kind).sum()))
    return ranks


def _match(boxes: np.ndarray, classes: np.ndarray, truth: np.ndarray, overlap: float) -> np.ndarray:
    free = np.ones(len(truth), bool)
    hits = np.zeros(len(boxes), bool)
    for index, (box, kind) in enumerate(zip(boxes, classes, strict=True)):
        candidates = np.where(free & (truth[:, 0] == kind), iou(box, truth[:, 1:]), 0.0)
        if candidates.size and candidates.max() >= overlap:
            free[candidates.argmax()] = False
            hits[index] = True
    return hits


def _average_precision(hits: np.ndarray, true: int) -> float:
    """Mean over the recalls of the best precision at that recall or a higher one."""
    if not hits.size:
        return 0.0
    found = np.cumsum(hits)
    recall, precision = found / true, found / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, RECALLS, side="left")
    return float(np.where(at < len(best), best[np.minimum(at, len(best) - 1)], 0.0).mean())
