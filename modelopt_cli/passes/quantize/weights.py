"""Integer weights: the scale of each channel, and rounding to the nearest step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)  # a denormal scale is flushed to zero by some kernels


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight as integers: ``real = (values - zero_point) * scale`` along ``axis``.

    Attributes:
        values: int8 (symmetric) or uint8 (asymmetric), of the weight's shape.
        scale: float32, of shape ``(channels,)``, or ``()`` for one scale for all.
        zero_point: Of the dtype of ``values`` and the shape of ``scale``.
        axis: The channel axis (never negative), or None for one scale for all.
    """

    values: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int | None

    def dequantize(self) -> np.ndarray:
        """The float32 weight that the integers stand for."""
        shape = channel_shape(self.values.ndim, self.axis)
        centred = self.values.astype(np.float32) - self.zero_point.astype(np.float32).reshape(shape)
        return np.asarray(centred * self.scale.reshape(shape), dtype=np.float32)


def quantize_weight(
    array: np.ndarray,
    *,
    axis: int | None,
    bits: int = 8,
    symmetric: bool = True,
    reduce_range: bool = False,
) -> QuantizedWeight:
    """Round a weight to integers whose largest magnitude per channel is its largest value.

    Args:
        array: The float weight.
        axis: One scale per index of this axis (may be negative); None for one scale for the whole weight.
        bits: Width of the integers, 2 to 8; they are stored in 8 bits.
        symmetric: int8 with zero point 0; otherwise uint8 with a zero point that represents 0 exactly.
        reduce_range: One bit less, for CPUs whose U8 x S8 products saturate 16 bits (x64 without VNNI).
    """
    axis = None if axis is None else axis % array.ndim
    low, high = integer_range(bits, symmetric=symmetric, reduce_range=reduce_range)
    least, most = _extremes(array, axis)
    if symmetric:
        scale = _positive(np.maximum(most, -least) / np.float32(high))
        zero_point = np.zeros(scale.shape, np.int8)
    else:
        scale = _positive((most - least) / np.float32(high - low))
        zero_point = np.clip(np.rint(low - least / scale), low, high).astype(np.uint8)
    return round_weight(array, scale, zero_point, axis=axis, low=low, high=high)


def round_weight(
    array: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, *, axis: int | None, low: int, high: int
) -> QuantizedWeight:
    """Round to the nearest step of given scales, saturating at ``low`` and ``high``."""
    shape = channel_shape(array.ndim, axis)
    steps = np.rint(np.asarray(array, np.float32) / scale.reshape(shape))
    steps += zero_point.reshape(shape)
    values = np.clip(steps, low, high).astype(zero_point.dtype)
    return QuantizedWeight(values, np.asarray(scale, np.float32), zero_point, axis)


def integer_range(bits: int, *, symmetric: bool, reduce_range: bool) -> tuple[int, int]:
    """Smallest and largest integer: symmetric ranges leave the lowest value out, so that -x exists for every x.

    A reduced signed range is +-64: two products of 255 x 64 still fit the 16-bit sum of ``vpmaddubsw``.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be 2 to 8, not {bits}")
    if symmetric:
        high = 2 ** (bits - 2) if reduce_range else 2 ** (bits - 1) - 1
        return -high, high
    return 0, 2 ** (bits - reduce_range) - 1


def channel_shape(rank: int, axis: int | None) -> tuple[int, ...]:
    """The shape in which a per-channel vector broadcasts over a tensor of ``rank`` dimensions."""
    return () if axis is None else tuple(-1 if index == axis else 1 for index in range(rank))


def _extremes(array: np.ndarray, axis: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest value per channel, widened to hold zero."""
    others = None if axis is None else tuple(index for index in range(array.ndim) if index != axis)
    values = np.asarray(array, np.float32)
    least = np.minimum(np.min(values, axis=others, initial=0.0), np.float32(0))
    most = np.maximum(np.max(values, axis=others, initial=0.0), np.float32(0))
    return np.asarray(least, np.float32), np.asarray(most, np.float32)


def _positive(scale: np.ndarray) -> np.ndarray:
    """An all-zero channel gets scale 1: any scale represents it, and none may be zero."""
    return np.asarray(np.where(scale < SMALLEST_SCALE, 1.0, scale), np.float32)
