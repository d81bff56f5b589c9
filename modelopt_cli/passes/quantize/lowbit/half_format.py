"""The two 16-bit formats: what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

LOST_SHARE = 0.01  # of a weight's values that may fall below the normal numbers of a format
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

    def of(self, array: np.ndarray) -> np.ndarray:
        """An array in this format."""
        return np.asarray(array.astype(self.dtype.numpy()))


FORMATS: dict[FormatName, HalfFormat] = {
    "float16": HalfFormat(ir.DataType.FLOAT16, float(np.finfo(np.float16).max), float(np.finfo(np.float16).tiny)),
    "bfloat16": HalfFormat(ir.DataType.BFLOAT16, (2 - 2.0**-7) * 2.0**127, float(np.finfo(np.float32).tiny)),
}
