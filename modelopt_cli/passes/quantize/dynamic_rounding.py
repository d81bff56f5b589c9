"""Rounding the weight of a product: nearest without data, second-order with it."""

from __future__ import annotations

import numpy as np

from modelopt_cli.passes.quantize.dynamic_stats import InputStatistics
from modelopt_cli.passes.quantize.lowbit.refine import refine_codes
from modelopt_cli.passes.quantize.weights import QuantizedWeight, integer_range, quantize_weight

DAMPING = 0.01  # share of the mean diagonal added to it: keeps the inverse finite for channels that never vary
BLOCK = 128  # rows whose error is spread at once: the rest is one matrix product per block


def round_product_weight(
    matrix: np.ndarray,
    known: InputStatistics | None,
    scales: np.ndarray | None,
    *,
    per_channel: bool,
    reduce_range: bool,
    search: bool = False,
) -> QuantizedWeight:
    """Round a weight [K, N] of which row k is first multiplied by ``scales[k]``.

    Args:
        matrix: float32 [K, N].
        known: What its input looks like, or None: then each value goes to the nearest step.
        scales: What channels of the input are divided by, [K], or None.
        per_channel: One scale per column.
        reduce_range: 7-bit weights.
        search: Whether to search on from the rounded values: 0.02 to 0.25 dB less error, in twice the time.
    """
    matrix = matrix if scales is None else matrix * scales[:, None]
    nearest = quantize_weight(matrix, axis=1 if per_channel else None, reduce_range=reduce_range)
    if known is None or known.moment is None:
        return nearest
    moment = known.moment if scales is None else known.moment / np.outer(scales, scales)
    low, high = integer_range(8, symmetric=True, reduce_range=reduce_range)
    scale = nearest.scale
    values = round_second_order(matrix, np.broadcast_to(scale, matrix.shape[1:]), moment, low, high)
    values = _searched(matrix, values, scale, moment, low, high) if search else values
    return QuantizedWeight(values, scale, nearest.zero_point, nearest.axis)


def round_second_order(matrix: np.ndarray, scale: np.ndarray, moment: np.ndarray, low: int, high: int) -> np.ndarray:
    """Integers whose product with inputs of a given second moment is closest to the float product.

    Rows are rounded one after another, each to make up for the error of those before it: GPTQ (Frantar et al. 2022,
    arXiv 2210.17323), written as Babai's nearest-plane algorithm, which is the same (Chen et al. 2025,
    arXiv 2507.18553) and needs no inverse.

    Args:
        matrix: float32 [K, N].
        scale: Step of each column, [N].
        moment: Mean of the outer products of input rows, [K, K].
        low: Smallest integer.
        high: Largest integer.

    Returns:
        int8 [K, N].
    """
    # From the last row to the first: the channel that matters most is rounded first, and the others make up for it.
    order = np.argsort(np.diag(moment), kind="stable")
    factor = _unit_factor(moment[np.ix_(order, order)])
    work = matrix[order]
    error = np.zeros(work.shape, np.float32)
    values = np.empty(work.shape, np.int8)
    for stop in range(len(work), 0, -BLOCK):
        start = max(stop - BLOCK, 0)
        owed = factor[start:stop, stop:] @ error[stop:]
        for row in range(stop - 1, start - 1, -1):
            wanted = work[row] + owed[row - start] + factor[row, row + 1 : stop] @ error[row + 1 : stop]
            steps = np.where(work[row] == 0, 0, np.clip(np.rint(wanted / scale), low, high))  # pruned stays pruned
            values[order[row]] = steps
            error[row] = work[row] - steps * scale
    return values


def _searched(
    matrix: np.ndarray, values: np.ndarray, scale: np.ndarray, moment: np.ndarray, low: int, high: int
) -> np.ndarray:
    """int8 [K, N] of less error at the output (see `refine_codes`); what was pruned stays pruned."""
    levels = np.arange(low, high + 1, dtype=np.float32)
    steps = np.broadcast_to(np.asarray(scale, np.float32), matrix.shape)
    codes = (values.astype(np.int16) - low).astype(np.uint8)
    found = refine_codes(matrix, codes, levels, steps, _damped(moment).astype(np.float32), np.zeros(1, np.float32))
    return np.where(matrix == 0, 0, found.astype(np.int16) + low).astype(np.int8)


def _damped(moment: np.ndarray) -> np.ndarray:
    """In float64, with a share of its mean added to the diagonal."""
    damped = moment.astype(np.float64)
    damped[np.diag_indices_from(damped)] += DAMPING * max(float(np.mean(np.diag(damped))), 1e-12)
    return damped


def _unit_factor(moment: np.ndarray) -> np.ndarray:
    """Upper Cholesky factor of the damped moment, each row divided by its diagonal entry."""
    lower = np.linalg.cholesky(_damped(moment))
    return np.asarray((lower / np.diag(lower)).T, np.float32)
