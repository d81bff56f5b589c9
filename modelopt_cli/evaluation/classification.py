"""Metrics of classifiers beyond top-k: precision, recall, F1 and the area under the ROC curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from modelopt_cli.errors import DataError
from modelopt_cli.evaluation.metric import class_scores, ratio


@dataclass(frozen=True)
class Precision:
    """Mean over classes of the share of right answers among those of that class.

    Classes count that occur among labels or answers, each alike ("macro"). Outputs and labels as of ``top1``.
    """

    name: ClassVar[str] = "precision"
    truth: ClassVar[str] = "labels"
    higher_is_better: ClassVar[bool] = True
    counts_hits: ClassVar[bool] = False

    def sums(self, output: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Hits by class, answers by class, labels by class."""
        scores, label, valid = class_scores(self.name, output, truth)
        classes = scores.shape[1]
        own, want = scores.argmax(axis=1)[valid], label[valid].astype(np.int64)
        counts = [np.bincount(each, minlength=classes) for each in (own[own == want], own, want)]
        return np.concatenate(counts).astype(np.float64)

    def value(self, totals: np.ndarray) -> np.ndarray:
        """Mean over classes that occur."""
        classes = self.by_class(totals)
        present = ~np.isnan(classes)
        return ratio(np.where(present, classes, 0).sum(axis=-1), present.sum(axis=-1))

    def by_class(self, totals: np.ndarray) -> np.ndarray:
        """Of each class, NaN for those that do not occur; shape [..., classes]."""
        hits, answers, labels = np.split(totals, 3, axis=-1)
        return np.where(answers + labels > 0, self._of_class(hits, answers, labels), np.nan)

    def _of_class(self, hits: np.ndarray, answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return ratio(hits, answers)


@dataclass(frozen=True)
class Recall(Precision):
    """Mean over classes of the share of samples of that class that were recognised; see `Precision`."""

    name: ClassVar[str] = "recall"

    def _of_class(self, hits: np.ndarray, answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return ratio(hits, labels)


@dataclass(frozen=True)
class F1(Precision):
    """Mean over classes of the harmonic mean of precision and recall; see `Precision`."""

    name: ClassVar[str] = "f1"

    def _of_class(self, hits: np.ndarray, answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return ratio(2 * hits, answers + labels)


@dataclass(frozen=True)
class AreaUnderCurve:
    """Area under the ROC curve: how often a sample of a class has a higher score for it than a sample of another.

    Output: one score with labels 0 and 1, or a score per class with class indices; then it is the mean over classes,
    each against the rest. Ties count half (Hanley and McNeil 1982). Negative labels are left out.
    """

    name: ClassVar[str] = "auc"
    truth: ClassVar[str] = "labels"
    higher_is_better: ClassVar[bool] = True
    resamples: ClassVar[int] = 200

    def keep(self, output: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores [n, classes] and labels [n]."""
        label = truth.reshape(-1)
        if output.size == label.size:  # one score each: as good as two classes of which the first has none
            if label.dtype.kind not in "iub" or int(label.max(initial=0)) > 1:
                raise DataError(f"labels {truth.dtype} up to {label.max()} for one score", where=self.name)
            flat = output.reshape(-1, 1).astype(np.float64)
            return np.concatenate([-flat, flat], axis=1), label
        scores, label, valid = class_scores(self.name, output, truth)
        return scores[valid].astype(np.float64), label[valid]

    def score(self, kept: Sequence[Any]) -> float:
        """Mean over classes that occur, and are not all there is; 0.5 when there is none."""
        scores = np.concatenate([each[0] for each in kept])
        labels = np.concatenate([each[1] for each in kept])
        keep = labels >= 0
        scores, labels = scores[keep], labels[keep]
        areas = [_area(scores[:, kind], labels == kind) for kind in range(scores.shape[1])]
        found = [area for area in areas if area is not None]
        return float(np.mean(found)) if found else 0.5


def _area(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """The statistic of Mann and Whitney over the number of pairs, from mid-ranks."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if positives == 0 or negatives == 0:
        return None
    _, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mid_rank = (np.cumsum(counts) - (counts - 1) / 2)[group]
    return float((mid_rank[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))
