"""The two 16-bit formats: what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

LOST_SHARE = 0.01  # of a weight's values that may fall below the normal numbers of a format
KEPT_ERROR = 2.0**-10  # of a row's length, twice what normal numbers lose at most
NOTHING = 1e-30  # no activation makes anything of it
FormatName = Literal["float16", "bfloat16"]


@dataclass(frozen=True)
class HalfFormat:
    """A format of 16 bits.

    Attributes:
        dtype: What ONNX calls it.
        largest: Its largest number.
        smallest: The smallest at full precision.
    """

    dtype: ir.DataType
    largest: float
    smallest: float

    @property
    def name(self) -> str:
        """float16 or bfloat16."""
        return self.dtype.name.lower()

    @property
    def tensor(self) -> str:
        """As operators' schemas write it."""
        return f"tensor({self.name})"

    def holds(self, array: np.ndarray) -> bool:
        """Whether nothing of an array overflows, and next to nothing that is not zero falls out below."""
        magnitude = np.abs(array)
        if not np.isfinite(magnitude).all() or magnitude.max(initial=0.0) > self.largest:
            return False
        lost = np.count_nonzero((magnitude > 0) & (magnitude < self.smallest))
        # A small number among large ones is as good as zero; one that stands alone is an epsilon.
        return bool(lost <= LOST_SHARE * array.size)

    def keeps(self, array: np.ndarray) -> bool:
        """Whether rounding takes next to nothing from any row of a weight, along its first axis or its last.

        Small numbers of a row vanish beside its large ones, however many they are; rows as a whole may not: what
        follows may scale a small output up, or a small input's partner may be large. Rows below `NOTHING` are zero.
        """
        magnitude = np.abs(array)
        if array.ndim < 2 or not np.isfinite(magnitude).all() or magnitude.max(initial=0.0) > self.largest:
            return False
        lost = np.square(array - self.of(array).astype(np.float64))
        for axis in (0, array.ndim - 1):
            others = tuple(each for each in range(array.ndim) if each != axis)
            power = np.square(array, dtype=np.float64).sum(axis=others)
            counts = magnitude.max(axis=others, initial=0.0) > NOTHING
            if (lost.sum(axis=others) > KEPT_ERROR**2 * power)[counts].any():
                return False
        return True

    def of(self, array: np.ndarray) -> np.ndarray:
        """An array in this format."""
        return np.asarray(array.astype(self.dtype.numpy()))


FORMATS: dict[FormatName, HalfFormat] = {
    "float16": HalfFormat(ir.DataType.FLOAT16, float(np.finfo(np.float16).max), float(np.finfo(np.float16).tiny)),
    "bfloat16": HalfFormat(ir.DataType.BFLOAT16, (2 - 2.0**-7) * 2.0**127, float(np.finfo(np.float32).tiny)),
}
