"""How a share of zeros is spread over layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

LEVELS = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
MOST = 0.98  # of a layer: one without weights is no layer
_HALVINGS = 60
_GRID = np.array([0.0, *LEVELS])
_PRICED = np.array([0.0, *(_GRID[1:] + _GRID[:-1]) / 2, MOST])  # where a piece's slope holds: its middle
_FADE = 5.0  # in logarithms: how much cheaper than on the first piece the very first zeros are


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
    return _by_threshold(scores, sparsity)


def spread_globally(weights: Sequence[np.ndarray], sparsity: float) -> list[float]:
    """One threshold on magnitudes for all layers."""
    return _by_threshold([np.abs(array.reshape(-1).astype(np.float32)) for array in weights], sparsity)


def spread_by_error(sizes: Sequence[int], curves: Sequence[Sequence[float]], sparsity: float) -> list[float]:
    """Where the next zero adds least to the sum of all layers' errors, until there are enough.

    Args:
        sizes: Number of weights of each layer.
        curves: Error of each layer at each of `LEVELS`; made convex, since a layer passes all levels on its way.
        sparsity: Share of all weights.
    """
    prices = [_log_prices([0.0, *curve], size) for curve, size in zip(curves, sizes, strict=True)]

    def shares(limit: float) -> list[float]:
        return [float(np.interp(-limit, price, _PRICED)) for price in prices]

    return _meet(sizes, sparsity, shares)


def whole_counts(sizes: Sequence[int], shares: Sequence[float]) -> list[float]:
    """The shares moved to whole numbers of weights whose sum is that of the shares, rounded once."""
    moved, meant, given = [], 0.0, 0
    for size, share in zip(sizes, shares, strict=True):
        meant += size * share
        count = min(max(round(meant) - given, 0), size)
        given += count
        moved.append(count / size)
    return moved


def _by_threshold(scores: Sequence[np.ndarray], sparsity: float) -> list[float]:
    """The share of each that lies below one number, so that together it is that of all."""
    every = np.concatenate(scores)
    drop = round(sparsity * every.size)
    limit = np.partition(every, drop)[drop] if drop < every.size else math.inf
    return [min(MOST, float(np.mean(score < limit))) for score in scores]


def _log_prices(errors: Sequence[float], size: int) -> np.ndarray:
    """The logarithm of the error that one more zero adds, at each share of `_PRICED`, rising."""
    slopes = np.diff(np.maximum.accumulate(errors)) / np.diff(_GRID)
    rising = np.log(np.maximum(np.maximum.accumulate(slopes), 1e-12) / size)
    apart = rising + 1e-6 * np.arange(len(rising))  # flat pieces are passed one after another, not all at once
    return np.concatenate([[apart[0] - _FADE], apart, [apart[-1] + _FADE]])


def _meet(sizes: Sequence[int], sparsity: float, shares: Callable[[float], list[float]]) -> list[float]:
    """The shares, which fall with their parameter, where they come to ``sparsity`` of all; found by halving."""
    total = sum(sizes)
    low, high = -100.0, 100.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        reached = sum(size * share for size, share in zip(sizes, shares(middle), strict=True)) / total
        low, high = (middle, high) if reached > sparsity else (low, middle)
    return [min(MOST, share) for share in shares(high)]
