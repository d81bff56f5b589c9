"""Which weights are the smallest: plain arithmetic on arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def zero_smallest(arrays: Sequence[np.ndarray], share: float) -> list[np.ndarray]:
    """Copies of ``arrays`` in which the smallest ``round(share * total elements)`` elements of all are zero.

    Elements that are zero already count towards the share, and come first. Of equal magnitudes the ones earlier in
    ``arrays``, in C order, go first; NaN is the largest magnitude.

    Args:
        arrays: Real arrays of any shape and of any float type.
        share: Between 0 and 1.

    Returns:
        One array for each, of the same shape and type; the object that came in where nothing changes.
    """
    magnitudes = np.concatenate([_magnitude(array) for array in arrays]) if arrays else np.zeros(0, np.float32)
    chosen = _smallest(magnitudes, round(share * magnitudes.size))
    ends = np.cumsum([array.size for array in arrays])
    return [
        with_zeros(array, chosen[end - array.size : end].reshape(array.shape))
        for array, end in zip(arrays, ends, strict=True)
    ]


def _magnitude(array: np.ndarray) -> np.ndarray:
    # float16 and bfloat16 are exact in float32, where numpy can select quickly
    magnitude: np.ndarray = np.abs(array.reshape(-1))
    return magnitude if array.dtype == np.float64 else magnitude.astype(np.float32, copy=False)


def _smallest(magnitudes: np.ndarray, count: int) -> np.ndarray:
    """A mask of exactly ``count`` elements; a selection in linear time, since a model may have 10^8 weights."""
    mask = np.zeros(magnitudes.shape, bool)
    if count == 0:
        return mask
    limit = np.partition(magnitudes, count - 1)[count - 1]
    mask |= magnitudes < limit
    ties = np.flatnonzero(magnitudes == limit)[: count - int(mask.sum())]
    mask[ties] = True
    return mask


def with_zeros(array: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """A copy with zeros where ``chosen``; the array itself where they are zero already."""
    chosen = chosen & (array != 0)  # a minus zero keeps its sign: it is zero already, and bytes stay as they are
    if not chosen.any():
        return array
    pruned = array.copy()
    pruned[chosen] = 0
    return pruned
