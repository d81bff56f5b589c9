"""From a float weight to low-bit codes: nearest without data, second-order with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from modelopt_cli.passes.quantize.lowbit.encoding import Encoded, read_scale, stored_scale, uniform_levels
from modelopt_cli.passes.quantize.lowbit.fit import (
    TableName,
    fit_codebook,
    fit_ranges,
    fit_steps,
    fixed_levels,
    nearest_code,
    split_steps,
)
from modelopt_cli.passes.quantize.lowbit.refine import refine_codes
from modelopt_cli.passes.quantize.second_order import damped, unit_factors

BLOCK = 128  # rows whose error is spread at once: the rest is one matrix product per block
FINE = 255  # largest multiplier of a block's step when the product runs in float
ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)  # how far rows are scaled by the size of their inputs
Rounding = Literal["auto", "nearest", "gptq", "search"]


@dataclass(frozen=True)
class Grid:
    """What a weight is rounded to, and how.

    Attributes:
        bits: 2 to 8 per weight.
        block: Inputs that share a step; 0 for all of a column. Columns that it does not divide have one step.
        table: None for evenly spaced levels; otherwise how levels are chosen.
        largest: Of the multipliers of blocks.
        symmetric: Whether evenly spaced levels lie around zero; otherwise each block says where zero is.
        rounding: ``auto`` is ``search`` with data and ``nearest`` without.
        scaling: Whether rows are scaled by the size of their inputs before rounding, where that helps.
    """

    bits: int
    block: int = 0
    table: TableName | None = None
    largest: int = FINE
    symmetric: bool = True
    rounding: Rounding = "auto"
    scaling: bool = False

    def integer(self, limit: int) -> Grid:
        """The same with levels times multipliers of at most ``limit``."""
        reach = 2 ** (self.bits - 1) if self.symmetric else 2**self.bits - 1
        return replace(self, largest=min(max(limit // reach, 1), FINE), scaling=False)


def encode(work: np.ndarray, grid: Grid, moment: np.ndarray | None = None) -> Encoded:
    """Round a weight [groups, K, N].

    Args:
        work: float32, finite.
        grid: What to round to.
        moment: Second moment (or covariance, when biases take care of means) of the inputs, [groups, K, K]: then rows
            are rounded one after another, each making up for those before it. None: each to the nearest level.
    """
    if grid.scaling and moment is not None and len(work) == 1:
        return _encode_scaled(work, replace(grid, scaling=False), moment)
    encoded = _fit(work, _energy(work, moment), grid)
    steps = np.broadcast_to(np.repeat(encoded.steps(), encoded.block, axis=1), work.shape)
    shifts = np.zeros((1, 1, 1), np.float32)
    if encoded.shifts is not None:
        shifts = np.repeat(encoded.shifts, encoded.block, axis=1).astype(np.float32)
    if moment is None or grid.rounding == "nearest":
        return replace(encoded, codes=nearest_code(encoded.levels, work / steps + shifts))
    shifts = np.broadcast_to(shifts, work.shape)
    codes = _round_second_order(work, steps, shifts, encoded.levels, moment)
    if grid.rounding != "gptq":
        full = np.asarray(damped(moment), np.float32)
        parts = zip(work, codes, steps, full, shifts, strict=True)
        codes = np.stack([refine_codes(w, c, encoded.levels, s, m, z) for w, c, s, m, z in parts])
    return replace(encoded, codes=codes)


def _energy(work: np.ndarray, moment: np.ndarray | None) -> np.ndarray:
    """How much an error of each row matters, [groups, K]."""
    if moment is None:
        return np.ones(work.shape[:2], np.float32)
    diagonal = np.diagonal(moment, axis1=1, axis2=2)
    return np.asarray(diagonal / max(float(diagonal.mean()), 1e-30) + 1e-3, np.float32)


def _encode_scaled(work: np.ndarray, grid: Grid, moment: np.ndarray) -> Encoded:
    """Rows scaled by a power of their inputs' size, the power by the error of nearest rounding.

    Lin et al. 2023, "AWQ: Activation-aware Weight Quantization", arXiv 2306.00978. The scales are undone where the
    weight is decoded, not in the layer in front: that is folded when a session loads.
    """
    size = np.sqrt(_energy(work, moment))
    trials = []
    for alpha in ALPHAS:
        rows = np.asarray(np.clip(size / size.mean(), 0.01, 100) ** alpha, np.float16).astype(np.float32)
        found = _encode_rows(work, replace(grid, rounding="nearest"), moment, rows)
        error = work - found.decode()
        trials.append((float((error * (moment @ error)).sum()), alpha, rows))
    _, _, best = min(trials, key=lambda trial: trial[:2])
    return _encode_rows(work, grid, moment, best)


def _encode_rows(work: np.ndarray, grid: Grid, moment: np.ndarray, rows: np.ndarray) -> Encoded:
    scaled = moment / (rows[:, :, None] * rows[:, None, :])
    return replace(encode(work * rows[:, :, None], grid, scaled), rows=rows)


def _fit(work: np.ndarray, energy: np.ndarray, grid: Grid) -> Encoded:
    """Everything but the codes."""
    length = work.shape[1]
    block = grid.block if 0 < grid.block < length and length % grid.block == 0 else length
    if grid.table is None:
        levels = uniform_levels(grid.bits)
    elif grid.table == "kmeans":
        levels = fit_codebook(work, energy, grid.bits, block)
    else:
        levels = fixed_levels(grid.table)
    lows = None
    if grid.table is None and not grid.symmetric:
        steps, lows = fit_ranges(work, energy, levels, block)
    else:
        steps = fit_steps(work, energy, levels, block)
    if block == length:
        multipliers, scale = None, read_scale(stored_scale(steps[:, 0]))
    else:
        multipliers, coarse = split_steps(steps, grid.largest)
        scale = read_scale(stored_scale(coarse))
    encoded = Encoded(np.zeros(work.shape, np.uint8), grid.bits, levels, multipliers, scale)
    if lows is None:
        return encoded
    shifts = np.clip(np.rint(levels[0] - lows / encoded.steps()), levels[0], levels[-1])
    return replace(encoded, shifts=shifts.astype(np.int8))


def _round_second_order(
    work: np.ndarray, steps: np.ndarray, shifts: np.ndarray, levels: np.ndarray, moment: np.ndarray
) -> np.ndarray:
    """GPTQ (arXiv 2210.17323) as in `dynamic_rounding.round_second_order`, for any table, all groups at once.

    Steps are fixed before (``static groups``), so that the order is free: the row that matters most comes first.
    """
    order = np.argsort(np.diagonal(moment, axis1=1, axis2=2), axis=1, kind="stable")
    rows = order[:, :, None]
    factor = unit_factors(np.take_along_axis(np.take_along_axis(moment, rows, 1), order[:, None, :], 2))
    work, steps, shifts = (np.take_along_axis(array, rows, 1) for array in (work, steps, shifts))
    error, codes = np.zeros(work.shape, np.float32), np.empty(work.shape, np.uint8)
    for stop in range(work.shape[1], 0, -BLOCK):
        start = max(stop - BLOCK, 0)
        owed = factor[:, start:stop, stop:] @ error[:, stop:]
        for row in range(stop - 1, start - 1, -1):
            inside = (factor[:, row, None, row + 1 : stop] @ error[:, row + 1 : stop])[:, 0]
            wanted = work[:, row] + owed[:, row - start] + inside
            codes[:, row] = code = nearest_code(levels, wanted / steps[:, row] + shifts[:, row])
            error[:, row] = work[:, row] - (levels[code] - shifts[:, row]) * steps[:, row]
    result = np.empty_like(codes)
    np.put_along_axis(result, rows, codes, 1)
    return result
