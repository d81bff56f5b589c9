"""From a float weight to low-bit codes: nearest without data, second-order with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelopt_cli.passes.quantize.lowbit.encoding import Encoded, read_scale, stored_scale, uniform_levels
from modelopt_cli.passes.quantize.lowbit.fit import (
    TableName,
    fit_codebook,
    fit_steps,
    fixed_levels,
    nearest_code,
    split_steps,
)
from modelopt_cli.passes.quantize.second_order import unit_factors

BLOCK = 128  # rows whose error is spread at once: the rest is one matrix product per block
FINE = 255  # largest multiplier of a block's step when the product runs in float


@dataclass(frozen=True)
class Grid:
    """What a weight is rounded to.

    Attributes:
        bits: 2 to 8 per weight.
        block: Inputs that share a step; 0 for all of a column. Columns that it does not divide have one step.
        table: None for evenly spaced levels; otherwise how levels are chosen.
        largest: Of the multipliers of blocks.
    """

    bits: int
    block: int = 0
    table: TableName | None = None
    largest: int = FINE


def encode(work: np.ndarray, grid: Grid, moment: np.ndarray | None = None) -> Encoded:
    """Round a weight [groups, K, N].

    Args:
        work: float32, finite.
        grid: What to round to.
        moment: Second moment (or covariance, when biases take care of means) of the inputs, [groups, K, K]: then rows
            are rounded one after another, each making up for those before it. None: each to the nearest level.
    """
    groups, length, _ = work.shape
    energy = np.ones((groups, length), np.float32)
    if moment is not None:
        diagonal = np.diagonal(moment, axis1=1, axis2=2)
        energy = np.asarray(diagonal / max(float(diagonal.mean()), 1e-30) + 1e-3, np.float32)
    levels, multipliers, scale = _fit(work, energy, grid)
    encoded = Encoded(np.zeros(work.shape, np.uint8), grid.bits, levels, multipliers, scale)
    steps = np.repeat(encoded.steps(), encoded.block, axis=1)
    if moment is None:
        codes = nearest_code(levels, work / steps)
    else:
        codes = _round_second_order(work, np.broadcast_to(steps, work.shape), levels, moment)
    return Encoded(codes, grid.bits, levels, multipliers, scale)


def _fit(work: np.ndarray, energy: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    length = work.shape[1]
    block = grid.block if 0 < grid.block < length and length % grid.block == 0 else length
    if grid.table is None:
        levels = uniform_levels(grid.bits)
    elif grid.table == "kmeans":
        levels = fit_codebook(work, energy, grid.bits, block)
    else:
        levels = fixed_levels(grid.table)
    steps = fit_steps(work, energy, levels, block)
    if block == length:
        return levels, None, read_scale(stored_scale(steps[:, 0]))
    multipliers, scale = split_steps(steps, grid.largest)
    return levels, multipliers, read_scale(stored_scale(scale))


def _round_second_order(work: np.ndarray, steps: np.ndarray, levels: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """GPTQ (arXiv 2210.17323) as in `dynamic_rounding.round_second_order`, for any table, all groups at once.

    Steps are fixed before (``static groups``), so that the order is free: the row that matters most comes first.
    """
    order = np.argsort(np.diagonal(moment, axis1=1, axis2=2), axis=1, kind="stable")
    rows = order[:, :, None]
    factor = unit_factors(np.take_along_axis(np.take_along_axis(moment, rows, 1), order[:, None, :], 2))
    work, steps = np.take_along_axis(work, rows, 1), np.take_along_axis(steps, rows, 1)
    error, codes = np.zeros(work.shape, np.float32), np.empty(work.shape, np.uint8)
    for stop in range(work.shape[1], 0, -BLOCK):
        start = max(stop - BLOCK, 0)
        owed = factor[:, start:stop, stop:] @ error[:, stop:]
        for row in range(stop - 1, start - 1, -1):
            inside = (factor[:, row, None, row + 1 : stop] @ error[:, row + 1 : stop])[:, 0]
            wanted = work[:, row] + owed[:, row - start] + inside
            codes[:, row] = code = nearest_code(levels, wanted / steps[:, row])
            error[:, row] = work[:, row] - levels[code] * steps[:, row]
    result = np.empty_like(codes)
    np.put_along_axis(result, rows, codes, 1)
    return result
