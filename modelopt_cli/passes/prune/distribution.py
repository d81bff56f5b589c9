"""How a share of zeros is spread over layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
MOST = 0.98  # of a layer: one without weights is no layer
_HALVINGS = 60


def spread_evenly(sizes: Sequence[int], sparsity: float) -> list[float]:
    """The same share everywhere."""
    return [sparsity] * len(sizes)


def spread_erk(shapes: Sequence[tuple[int, ...]], sparsity: float) -> list[float]:
    """Densities in proportion to (sum of the dimensions) / (their product): small layers keep more.

    Erdos-Renyi-Kernel, Evci et al. 2020 (https://arxiv.org/abs/1911.11134).
    """
    sizes = [math.prod(shape) for shape in shapes]
    raw = [sum(shape) / math.prod(shape) for shape in shapes]
    return _meet(sizes, sparsity, lambda log_scale: [1 - min(1.0, math.exp(log_scale) * value) for value in raw])


def spread_lamp(weights: Sequence[np.ndarray], sparsity: float) -> list[float]:
    """One threshold on w^2 over the sum of the squares of all weights of the layer that are not smaller.

    Layer-adaptive magnitudes, Lee et al. 2021 (https://arxiv.org/abs/2010.07611).
    """
    scores = []
    for array in weights:
        squares = np.sort(np.square(array.reshape(-1).astype(np.float64)))
        rest = np.cumsum(squares[::-1])[::-1]
        scores.append(np.divide(squares, rest, out=np.zeros_like(squares), where=rest > 0))
    every = np.concatenate(scores)
    drop = round(sparsity * every.size)
    limit = np.partition(every, drop)[drop] if drop < every.size else math.inf
    return [min(MOST, float(np.mean(score < limit))) for score in scores]


def spread_by_error(sizes: Sequence[int], curves: Sequence[Sequence[float]], sparsity: float) -> list[float]:
    """Where the next zero adds least to the sum of all layers' errors, until there are enough.

    Args:
        sizes: Number of weights of each layer.
        curves: Error of each layer at each of `LEVELS`; made convex, since a layer passes all levels on its way.
        sparsity: Share of all weights.
    """
    grid = np.array([0.0, *LEVELS])
    slopes = [_convex_slopes(grid, np.array([0.0, *curve])) for curve in curves]

    def shares(price: float) -> list[float]:
        return [
            min(MOST, float(np.interp(math.log(price * size), np.log(slope), grid[1:], left=0.0, right=MOST)))
            for size, slope in zip(sizes, slopes, strict=True)
        ]

    return _meet(sizes, sparsity, lambda log_price: shares(math.exp(-log_price)))


def _convex_slopes(grid: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Error per share of zeros on each piece, rising."""
    rising = np.maximum.accumulate(errors)
    slopes = np.maximum.accumulate(np.diff(rising) / np.diff(grid))
    distinct: np.ndarray = np.maximum(slopes, 1e-12) * (1 + 1e-9 * np.arange(len(slopes)))
    return distinct


def _meet(sizes: Sequence[int], sparsity: float, shares: Callable[[float], list[float]]) -> list[float]:
    """The shares, which fall with their parameter, where they come to ``sparsity`` of all; found by halving."""
    total = sum(sizes)
    low, high = -100.0, 100.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        reached = sum(size * share for size, share in zip(sizes, shares(middle), strict=True)) / total
        low, high = (middle, high) if reached > sparsity else (low, middle)
    return [min(MOST, share) for share in shares(high)]
