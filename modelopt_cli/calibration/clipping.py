"""Where to clip: ranges read off a histogram."""

from __future__ import annotations

import numpy as np

from modelopt_cli.calibration.histogram import BINS_PER_SIDE, Histogram

LEVELS = {"u8": 256, "s8": 255}
MSE_CANDIDATES = 256  # per side, at bin edges
ENTROPY_LEVELS = 128  # magnitudes of an 8-bit grid
ENTROPY_FLOOR = 1e-4  # of a count: keeps the divergence finite, as in onnxruntime
ENTROPY_STRIDE = 8  # bins between two candidates


def percentile_range(histogram: Histogram, percentile: float) -> tuple[float, float]:
    """The values that leave ``100 - percentile`` percent of the non-zero values beyond each end.

    Linear within a bin. A side on which the data does not cross zero is not clipped, nor is one with fewer values
    beyond than one.
    """
    counts, edges = histogram.counts, histogram.edges
    total = int(counts.sum())
    tail = total * (1 - percentile / 100)
    low, high = histogram.low, histogram.high
    if tail >= 1:
        reached = np.concatenate([[0], np.cumsum(counts)])
        if low < 0:
            low = max(low, min(float(np.interp(tail, reached, edges)), 0.0))
        if high > 0:
            high = min(high, max(float(np.interp(total - tail, reached, edges)), 0.0))
    return low, high


def mse_range(histogram: Histogram, *, symmetric: bool) -> tuple[float, float]:
    """The range with the least expected squared error on an 8-bit grid that contains zero.

    Error = step^2 / 12 for every non-zero value inside, plus the squared distance for those outside (Banner et al.
    2018, "Post training 4-bit quantization of convolutional networks", with the histogram in place of a density).
    """
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    above = _candidates(histogram, high)
    below = _candidates(histogram, -low)
    beyond_high = np.array([_clip_error(histogram, edge, +1) for edge in above])
    beyond_low = np.array([_clip_error(histogram, edge, -1) for edge in below])
    total = int(histogram.counts.sum())
    if symmetric:
        ends = above if high >= -low else below
        clipped = np.array([_clip_error(histogram, e, +1) + _clip_error(histogram, e, -1) for e in ends])
        best = float(ends[np.argmin(total * (2 * ends / (LEVELS["s8"] - 1)) ** 2 / 12 + clipped)])
        return max(histogram.low, -best), min(histogram.high, best)
    step = (above[None, :] + below[:, None]) / (LEVELS["u8"] - 1)
    error = total * step**2 / 12 + beyond_high[None, :] + beyond_low[:, None]
    row, column = np.unravel_index(int(np.argmin(error)), error.shape)
    return (
        histogram.low if histogram.low >= 0 else -float(below[row]),
        histogram.high if histogram.high <= 0 else float(above[column]),
    )


def entropy_range(histogram: Histogram) -> tuple[float, float]:
    """The symmetric clipping of least Kullback-Leibler divergence between the magnitudes and their 8-bit version.

    The method of TensorRT (Migacz 2017, "8-bit inference with TensorRT"): values beyond the threshold are added to its
    last bin in the reference and left out of the quantized distribution.
    """
    magnitudes = (histogram.counts[BINS_PER_SIDE:] + histogram.counts[:BINS_PER_SIDE][::-1]).astype(np.float64)
    used = int(np.flatnonzero(magnitudes)[-1]) + 1
    best, best_divergence = used, np.inf
    for bins in [*range(ENTROPY_LEVELS, used, ENTROPY_STRIDE), used]:
        divergence = _divergence(magnitudes, bins)
        if divergence < best_divergence:
            best, best_divergence = bins, divergence
    threshold = best * histogram.width
    return max(histogram.low, -threshold), min(histogram.high, threshold)


def _candidates(histogram: Histogram, end: float) -> np.ndarray:
    """Distances from zero to consider for one end: evenly spaced up to the largest magnitude on that side."""
    if end <= 0:
        return np.zeros(1)
    candidates: np.ndarray = end * np.arange(1, MSE_CANDIDATES + 1) / MSE_CANDIDATES
    return candidates


def _clip_error(histogram: Histogram, end: float, sign: int) -> float:
    """Sum of squared distances to ``end`` of the values beyond it, on the positive (+1) or negative (-1) side."""
    counts = histogram.counts[BINS_PER_SIDE:] if sign > 0 else histogram.counts[:BINS_PER_SIDE][::-1]
    first = int(end / histogram.width)
    centres = (np.arange(first, BINS_PER_SIDE) + 0.5) * histogram.width
    return float(counts[first:] @ np.maximum(centres - end, 0) ** 2)


def _divergence(magnitudes: np.ndarray, bins: int) -> float:
    """KL(P || Q) for a threshold after ``bins`` bins, in nats; where Q misses what P has, it gets `ENTROPY_FLOOR`."""
    reference = magnitudes[:bins].copy()
    kept = reference.copy()
    reference[-1] += magnitudes[bins:].sum()
    occupied = reference > 0
    level = np.arange(bins) * ENTROPY_LEVELS // bins
    mass = np.bincount(level, kept, ENTROPY_LEVELS)
    share = np.bincount(level, occupied, ENTROPY_LEVELS)
    quantized = np.where(occupied, (mass / np.maximum(share, 1))[level], 0.0)
    if not quantized.any():
        return np.inf  # everything is beyond the threshold
    quantized = np.where(occupied & (quantized == 0), ENTROPY_FLOOR, quantized)
    p, q = reference[occupied] / reference.sum(), quantized[occupied] / quantized.sum()
    return float(np.sum(p * np.log(p / q)))
