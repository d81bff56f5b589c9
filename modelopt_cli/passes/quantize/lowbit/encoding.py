"""A weight as low-bit codes: ``(levels[code] - shift[block]) * multiplier[block] * scale[column] / rows[row]``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SMALLEST_ROOT = 2.0**-20  # of float16: four bits of mantissa are left


@dataclass(frozen=True)
class Encoded:
    """Codes of a weight in the shape [groups, K, N]: N outputs of K inputs each, per group of a grouped Conv.

    Attributes:
        codes: uint8 [groups, K, N], below ``2 ** bits``.
        bits: Bits per code.
        levels: What codes stand for: float32 [2 ** bits], ascending; integers when `is_uniform`.
        multipliers: uint8 [groups, K / block, N], at least 1; None for one block.
        scale: float32 [groups, N].
        shifts: Integers within the levels, int8 [groups, K / block, N]: where zero is; None for evenly spaced levels
            around zero, and for tables.
        rows: What rows were multiplied with before rounding, float32 [groups, K]; None for ones.
    """

    codes: np.ndarray
    bits: int
    levels: np.ndarray
    multipliers: np.ndarray | None
    scale: np.ndarray
    shifts: np.ndarray | None = None
    rows: np.ndarray | None = None

    @property
    def is_uniform(self) -> bool:
        """Whether levels are consecutive integers, so that a subtraction decodes."""
        return bool((np.diff(self.levels) == 1).all() and self.levels[0] == np.rint(self.levels[0]))

    @property
    def block(self) -> int:
        """Rows that share a multiplier."""
        length = int(self.codes.shape[1])
        by_block = self.multipliers if self.multipliers is not None else self.shifts
        return length if by_block is None else length // int(by_block.shape[1])

    def steps(self) -> np.ndarray:
        """What levels are multiplied with: float32 [groups, blocks, N]."""
        scale = self.scale[:, None, :]
        return scale if self.multipliers is None else np.asarray(self.multipliers * scale, np.float32)

    def decode(self) -> np.ndarray:
        """The float32 weight [groups, K, N] that the codes stand for."""
        levels = self.levels[self.codes]
        if self.shifts is not None:
            levels = levels - np.repeat(self.shifts, self.block, axis=1)
        found = np.asarray(levels * np.repeat(self.steps(), self.block, axis=1), np.float32)
        return found if self.rows is None else found / self.rows[:, :, None]


def uniform_levels(bits: int) -> np.ndarray:
    """Integers around zero; the lowest has no counterpart, and is used all the same: 4 bits are 16 levels."""
    return np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1), dtype=np.float32)


def stored_scale(scale: np.ndarray) -> np.ndarray:
    """Scales as they are written: float16 square roots, whose range is that of float32 for all that weights need.

    BatchNormalization folded into a Conv leaves channels of 1e-10 beside those of 1; below 1e-12 a scale is rounded up.
    """
    return np.asarray(np.maximum(np.sqrt(scale), SMALLEST_ROOT), np.float16)


def read_scale(stored: np.ndarray) -> np.ndarray:
    """The float32 scales that `stored_scale` wrote; codes must be chosen for these."""
    root = stored.astype(np.float32)
    return np.asarray(root * root, np.float32)
