"""Metrics of numbers and vectors: relative error, explained variance, neighbours of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from modelopt_cli.evaluation.metric import ratio, same_size

CHUNK = 512  # rows of similarities at once


@dataclass(frozen=True)
class MeanAbsolutePercentageError:
    """Mean absolute error relative to the label, as a share; labels of 0 do not count."""

    name: ClassVar[str] = "mape"
    truth: ClassVar[str] = "labels"
    higher_is_better: ClassVar[bool] = False
    counts_hits: ClassVar[bool] = False

    def sums(self, output: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """[sum of relative errors, values]."""
        own, want = same_size(self.name, output, truth)
        own, want = own[want != 0], want[want != 0]
        return np.array([np.abs((own - want) / want).sum(), own.size], np.float64)

    def value(self, totals: np.ndarray) -> np.ndarray:
        """Error per value."""
        return ratio(totals[..., 0], totals[..., 1])


@dataclass(frozen=True)
class RSquared:
    """Share of the labels' variance that the outputs explain: 1 - squared errors / squared deviations."""

    name: ClassVar[str] = "r2"
    truth: ClassVar[str] = "labels"
    higher_is_better: ClassVar[bool] = True
    counts_hits: ClassVar[bool] = False

    def sums(self, output: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """[values, sum of labels, of their squares, of squared errors]."""
        own, want = same_size(self.name, output, truth)
        return np.array([own.size, want.sum(), np.square(want).sum(), np.square(own - want).sum()], np.float64)

    def value(self, totals: np.ndarray) -> np.ndarray:
        """0 where the labels do not vary."""
        count, total, squares, errors = (totals[..., index] for index in range(4))
        deviations = squares - ratio(total**2, count)
        return np.where(deviations > 0, 1 - ratio(errors, deviations), 0.0)


@dataclass(frozen=True)
class NeighbourOverlap:
    """Share of a sample's nearest neighbours among the outputs that are its nearest among the label vectors too.

    Neighbours are by cosine similarity, among the samples of the data set.

    Attributes:
        k: How many neighbours; fewer where there are fewer samples.
    """

    k: int = 10
    truth: ClassVar[str] = "labels"
    higher_is_better: ClassVar[bool] = True
    resamples: ClassVar[int] = 0  # a sample drawn twice would be its own neighbour

    @property
    def name(self) -> str:
        """``neighbours``."""
        return "neighbours"

    def keep(self, output: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both vectors, of length 1."""
        own, want = same_size(self.name, output, truth)
        return _unit(own), _unit(want)

    def score(self, kept: Sequence[Any]) -> float:
        """Mean over samples; 1 for fewer than two."""
        own, want = (np.stack([pair[side] for pair in kept]) for side in (0, 1))
        k = min(self.k, len(kept) - 1)
        if k < 1:
            return 1.0
        shared = 0
        for start in range(0, len(kept), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(kept)))
            near = [_nearest(vectors, rows, k) for vectors in (own, want)]
            shared += sum(np.intersect1d(a, b).size for a, b in zip(*near, strict=True))
        return shared / (k * len(kept))


def _unit(vector: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector


def _nearest(vectors: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """Indices [rows, k] of the most similar others; ties go to the earlier sample."""
    similarity = vectors[rows] @ vectors.T
    similarity[np.arange(len(rows)), rows] = -np.inf
    return np.argsort(-similarity, axis=1, kind="stable")[:, :k]
