"""Where the levels of a low-bit weight lie: steps by weighted squared error, codebooks by k-means."""

from __future__ import annotations

from typing import Literal

import numpy as np

TableName = Literal["kmeans", "nf4", "fp4"]
SHRINKS = np.linspace(1.0, 0.5, 11, dtype=np.float32)  # share of the largest value that a grid may end at
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
SMALLEST_REACH = 1e-3  # of a table to one side of zero: where weights are all positive there is nothing to reach
BINS = 4096  # of the histogram that k-means runs on
COARSE_BINS = 64  # of the one that it starts from
ROUNDS = 40  # of k-means: the centres of a histogram have settled long before
# Dettmers et al. 2023, arXiv 2305.14314, appendix E: quantiles of the normal distribution, scaled to [-1, 1].
NF4: tuple[float, ...] = (-1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0.0)
NF4 += (0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0)
# E2M1 (OCP Microscaling Formats 1.0, 5.3.3) over its largest value; -0 is 0 again.
FP4 = (-6.0, -4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def fixed_levels(table: TableName) -> np.ndarray:
    """The 16 levels of NF4 or FP4, in [-1, 1]."""
    levels = np.array(NF4 if table == "nf4" else FP4, np.float32)
    return np.asarray(levels / np.float32(abs(levels[0])), np.float32)


def nearest_code(levels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Index of the nearest level of an ascending table, uint8."""
    if len(levels) > 1 and levels[0] == np.rint(levels[0]) and (np.diff(levels) == 1).all():
        codes = np.clip(np.rint(values) - levels[0], 0, len(levels) - 1)
    else:
        codes = np.searchsorted((levels[1:] + levels[:-1]) / 2, values)
    return np.asarray(codes, np.uint8)


def fit_steps(work: np.ndarray, energy: np.ndarray, levels: np.ndarray, block: int) -> np.ndarray:
    """The step of each block of least squared error, [groups, K / block, N].

    Args:
        work: The weight, float32 [groups, K, N].
        energy: How much an error of each row matters, [groups, K].
        levels: What codes stand for.
        block: Rows that share a step; divides K.
    """
    groups, length, columns = work.shape
    blocks = work.reshape(groups, length // block, block, columns)
    weight = energy.reshape(groups, length // block, block, 1)
    above, below = max(float(levels[-1]), SMALLEST_REACH), max(-float(levels[0]), SMALLEST_REACH)
    widest = np.maximum(blocks.max(axis=2) / np.float32(above), -blocks.min(axis=2) / np.float32(below))
    widest = np.where(widest < SMALLEST_SCALE, np.float32(1), widest)
    best, chosen = np.full(widest.shape, np.inf), widest
    for shrink in SHRINKS:
        step = widest * shrink
        wide = step[:, :, None, :]
        error = blocks - levels[nearest_code(levels, blocks / wide)] * wide
        loss = (error * error * weight).sum(axis=2)
        chosen = np.where(loss < best, step, chosen)
        best = np.minimum(loss, best)
    return np.asarray(chosen, np.float32)


def fit_ranges(work: np.ndarray, energy: np.ndarray, levels: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """The step of each block and the value of its lowest level, of least squared error, both [groups, K / block, N].

    Ranges hold zero, which stays exact. Arguments as in `fit_steps`; levels are consecutive integers.
    """
    groups, length, columns = work.shape
    blocks = work.reshape(groups, length // block, block, columns)
    weight = energy.reshape(groups, length // block, block, 1)
    low, high = np.minimum(blocks.min(axis=2), 0), np.maximum(blocks.max(axis=2), 0)
    width = np.where(high - low < SMALLEST_SCALE, np.float32(1), high - low) / np.float32(len(levels) - 1)
    best, chosen = np.full(width.shape, np.inf), (width, low)
    for shrink in SHRINKS:
        step = width * shrink
        wide = step[:, :, None, :]
        zero = np.rint(-low * shrink / step)[:, :, None, :]
        error = blocks - (np.clip(np.rint(blocks / wide) + zero, 0, len(levels) - 1) - zero) * wide
        loss = (error * error * weight).sum(axis=2)
        better = loss < best
        chosen = np.where(better, step, chosen[0]), np.where(better, low * shrink, chosen[1])
        best = np.minimum(loss, best)
    return np.asarray(chosen[0], np.float32), np.asarray(chosen[1], np.float32)


def split_steps(steps: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps [groups, blocks, N] as uint8 multipliers (1 to ``largest``) of one scale per column [groups, N].

    The double quantization of QLoRA (arXiv 2305.14314) with integers, as in QServe (arXiv 2405.04532): levels times
    multipliers are integers again, so that a product of 4-bit weights can run in an int8 kernel.
    """
    scale = steps.max(axis=1) / np.float32(largest)
    multipliers = np.clip(np.rint(steps / scale[:, None, :]), 1, largest).astype(np.uint8)
    return multipliers, np.asarray(scale, np.float32)


def fit_codebook(work: np.ndarray, energy: np.ndarray, bits: int, block: int) -> np.ndarray:
    """A table for the whole weight, float32 [2 ** bits], ascending, for weights divided by the largest of their block.

    Weighted k-means: SqueezeLLM (arXiv 2306.07629) weighs by sensitivity, here that is the energy of the input.
    """
    groups, length, columns = work.shape
    blocks = work.reshape(groups, length // block, block, columns)
    widest = np.abs(blocks).max(axis=2, keepdims=True)
    widest = np.where(widest < SMALLEST_SCALE, np.float32(1), widest)
    weight = energy.reshape(groups, length // block, block, 1) * widest * widest
    return kmeans(blocks / widest, np.broadcast_to(weight, blocks.shape), 2**bits)


def kmeans(values: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
    """``count`` centres of least squared distance in one dimension, ascending: Lloyd's method on a histogram."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.linspace(low, low + 1, count, dtype=np.float32)
    mass, edges = np.histogram(values, BINS, (low, high), weights=weight)
    places = (edges[1:] + edges[:-1]) / 2
    # Start at quantiles of mass ** (1/3), the density that is optimal for many centres (Panter and Dite 1951); in fine
    # bins with a value or two each, that would be the mass itself.
    density = np.concatenate([[0.0], np.cumsum(np.cbrt(mass.reshape(COARSE_BINS, -1).sum(axis=1)))])
    coarse = np.linspace(low, high, COARSE_BINS + 1)
    centres = np.interp((np.arange(count) + 0.5) / count * density[-1], density, coarse)
    moment, total = np.cumsum(mass * places), np.cumsum(mass)
    for _ in range(ROUNDS):
        cuts = np.searchsorted(places, (centres[1:] + centres[:-1]) / 2)
        ends = np.concatenate([cuts, [BINS]]) - 1
        sums = np.diff(np.where(ends < 0, 0, moment[ends]), prepend=0)
        masses = np.diff(np.where(ends < 0, 0, total[ends]), prepend=0)
        centres = np.sort(np.where(masses > 0, sums / np.where(masses > 0, masses, 1), centres))
    return np.asarray(centres, np.float32)
