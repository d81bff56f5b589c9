"""A histogram of a stream in one pass, in fixed memory, whose result does not depend on order or chunks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

BINS_PER_SIDE = 2048
CHUNK = 1 << 16  # values binned at once: temporaries stay in the processor's cache
MIN_EXPONENT = -100  # ranges below 2^-100 are counted as if they were that wide: the scale must stay finite


class Histogram:
    """Counts of non-zero values over [-2^e, 2^e), for the smallest e that holds them all.

    The range is a power of two and each doubling folds pairs of bins, so bin edges are nested and exact in floating
    point: the counts depend on the multiset of values and on nothing else (as long as the smallest magnitude is not
    2^-90 of the largest, where the scaling underflows). Zeros are counted apart: they are exact on
    any quantized grid, and after a Relu they would drown everything else.

    Attributes:
        counts: Values per bin, shape [2 * BINS_PER_SIDE]; bin ``BINS_PER_SIDE`` begins at 0.
        low: Smallest finite value seen, 0 included; inf when none was.
        high: Largest.
        nonfinite: Whether NaN or Inf occurred; they are not counted.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(2 * BINS_PER_SIDE, np.int64)
        self.low, self.high = np.inf, -np.inf
        self.nonfinite = False
        self._exponent = MIN_EXPONENT

    @property
    def width(self) -> float:
        """Width of a bin."""
        return float(2.0**self._exponent) / BINS_PER_SIDE

    @property
    def edges(self) -> np.ndarray:
        """Edges of the bins, shape [2 * BINS_PER_SIDE + 1]."""
        edges: np.ndarray = np.arange(-BINS_PER_SIDE, BINS_PER_SIDE + 1) * self.width
        return edges

    def state(self) -> dict[str, np.ndarray]:
        """All that it holds, for `restore`."""
        return {"counts": self.counts, "ends": np.array([self.low, self.high, self.nonfinite, self._exponent])}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on where `state` was taken."""
        self.counts = state["counts"]
        self.low, self.high, nonfinite, exponent = state["ends"].tolist()
        self.nonfinite, self._exponent = bool(nonfinite), int(exponent)

    def update(self, values: np.ndarray) -> None:
        """Count all values of an array."""
        flat, finite = finite_values(values)
        self.nonfinite |= not finite
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._widen(max(-low, high))
        scale = flat.dtype.type(1 / self.width)
        for start in range(0, flat.size, CHUNK):
            self._count(flat[start : start + CHUNK], scale)

    def _widen(self, magnitude: float) -> None:
        # frexp gives magnitude < 2^exponent strictly, so no value ever falls on the open upper edge.
        needed = int(np.frexp(magnitude)[1]) if magnitude else MIN_EXPONENT
        while self._exponent < needed:
            self._exponent += 1
            folded = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[:] = 0
            self.counts[BINS_PER_SIDE // 2 : BINS_PER_SIDE // 2 + BINS_PER_SIDE] = folded
            if not folded.any():
                self._exponent = needed

    def _count(self, chunk: np.ndarray, scale: np.floating) -> None:
        scaled = chunk * scale
        np.floor(scaled, out=scaled)
        bins = scaled.astype(np.int32)
        bins += BINS_PER_SIDE
        counts = np.bincount(bins, minlength=2 * BINS_PER_SIDE)
        counts[BINS_PER_SIDE] -= chunk.size - np.count_nonzero(chunk)
        self.counts += counts


def finite_values(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """The finite values of an array, flat, as float32 (float64 stays), and whether that was all of them."""
    flat = values.reshape(-1)
    if flat.dtype not in (np.float32, np.float64):
        flat = flat.astype(np.float32)
    if flat.size == 0 or (np.isfinite(flat.min()) and np.isfinite(flat.max())):
        return flat, True
    mask = np.isfinite(flat)
    return flat[mask], bool(mask.all())
