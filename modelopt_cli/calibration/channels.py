"""Moments and extremes per channel, of a stream of arrays."""

from __future__ import annotations

import numpy as np

from modelopt_cli.calibration.ranges import ChannelStats


class ChannelAccumulator:
    """Sums in double precision, so that the number of samples does not wear them out.

    Args:
        axis: The channel axis; its size must be the same in all arrays, the others may vary.
    """

    def __init__(self, axis: int) -> None:
        self._axis = axis
        self._low = self._high = self._sum = self._square = np.zeros(0)
        self._count = 0

    def update(self, values: np.ndarray) -> None:
        """Take in one array."""
        if not values.size:
            return
        axis = self._axis % values.ndim
        rows = values.reshape(int(np.prod(values.shape[:axis])), values.shape[axis], -1)
        low, high = rows.min(axis=(0, 2)).astype(np.float64), rows.max(axis=(0, 2)).astype(np.float64)
        # One outer slice at a time: the double-precision copy stays small.
        total = sum(row.sum(axis=-1, dtype=np.float64) for row in rows)
        square = sum(np.einsum("ci,ci->c", wide, wide) for row in rows if (wide := row.astype(np.float64)) is not None)
        if self._count == 0:
            self._low, self._high, self._sum, self._square = low, high, total, square
        else:
            self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
            self._sum, self._square = self._sum + total, self._square + square
        self._count += rows.shape[0] * rows.shape[2]

    def stats(self) -> ChannelStats:
        """The statistics so far; arrays of length 0 before any value."""
        count = max(self._count, 1)
        return ChannelStats(self._low, self._high, self._sum / count, self._square / count, self._count)
