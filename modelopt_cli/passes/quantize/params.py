"""Scale and zero point of an activation tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from modelopt_cli.targets.schemes import IntegerType, Scheme

SMALLEST_SCALE = 1e-10  # of a tensor that is always zero; far above the denormals that kernels flush to zero


@dataclass(frozen=True)
class QuantParams:
    """One scale for a whole tensor: ``real = (integer - zero_point) * scale``.

    Attributes:
        scale: Step between two neighbouring integers, in the tensor's unit.
        zero_point: The integer that means exactly 0.
        dtype: Integer type.
    """

    scale: float
    zero_point: int
    dtype: IntegerType

    @property
    def least(self) -> int:
        """Smallest integer of the type."""
        return 0 if self.dtype == "uint8" else -128

    @property
    def most(self) -> int:
        """Largest integer of the type."""
        return self.least + 255

    @property
    def low(self) -> float:
        """Smallest number that can be represented."""
        return (self.least - self.zero_point) * self.scale

    @property
    def high(self) -> float:
        """Largest number that can be represented."""
        return (self.most - self.zero_point) * self.scale

    def affine(self, factor: float, offset: float) -> QuantParams:
        """What the same integers mean after ``real * factor + offset``; the offset is rounded to whole steps.

        Args:
            factor: Above 0.
            offset: Small enough that 0 stays in the range.
        """
        shift = round(offset / (factor * self.scale))
        zero_point = min(max(self.zero_point - shift, self.least), self.most)
        return QuantParams(self.scale * factor, zero_point, self.dtype)

    def scale_array(self) -> np.ndarray:
        """The scale as a float32 scalar array."""
        return np.asarray(self.scale, np.float32)

    def zero_point_array(self) -> np.ndarray:
        """The zero point as a scalar array of the integer type."""
        return np.asarray(self.zero_point, self.dtype)


def params_from_range(low: float, high: float, scheme: Scheme, *, whole_step_of: float | None = None) -> QuantParams:
    """The finest grid over an interval on which 0 is exact.

    Args:
        low: Lower end; widened to hold 0.
        high: Upper end; widened to hold 0.
        scheme: Integer type, and whether the zero point must be 0.
        whole_step_of: A number that must be a whole number of steps too (the knee of an activation, an added
            constant); the grid gets coarser for it, by less than one part in the number of steps.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if scheme.symmetric:
        return QuantParams(max(high, -low, SMALLEST_SCALE) / 127, 0, scheme.activation)
    scale = max((high - low) / 255, SMALLEST_SCALE)
    if whole_step_of is not None and (steps := math.floor(abs(whole_step_of) / scale)) > 0:
        scale = abs(whole_step_of) / steps
    scale = float(np.float32(scale))
    least = 0 if scheme.activation == "uint8" else -128
    zero_point = min(max(least + round(-low / scale), least), least + 255)
    return QuantParams(scale, zero_point, scheme.activation)
