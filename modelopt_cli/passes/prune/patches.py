"""The patches of an image that a convolution's filters meet (im2col), at some positions of the output."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PatchGeometry:
    """Attributes of a Conv, in ONNX's words; all tuples run over the spatial axes (``pads`` over them twice)."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str
    groups: int

    def padding(self, sizes: tuple[int, ...]) -> list[tuple[int, int]]:
        """Zeros before and after each spatial axis of an input of these sizes."""
        if self.auto_pad in ("NOTSET", ""):
            count = len(self.kernel)
            return [(self.pads[axis], self.pads[count + axis]) for axis in range(count)]
        if self.auto_pad == "VALID":
            return [(0, 0)] * len(self.kernel)
        return [self._same(axis, size) for axis, size in enumerate(sizes)]

    def reach(self, axis: int) -> int:
        """How far a filter spans along an axis."""
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    def _same(self, axis: int, size: int) -> tuple[int, int]:
        stride = self.strides[axis]
        total = max((-(-size // stride) - 1) * stride + self.reach(axis) - size, 0)
        less, more = total // 2, total - total // 2
        return (less, more) if self.auto_pad == "SAME_UPPER" else (more, less)


def sample_patches(images: np.ndarray, geometry: PatchGeometry, limit: int, seed: int) -> np.ndarray:
    """Patches at up to ``limit`` output positions in all of a few images.

    Args:
        images: [N, channels, spatial...].
        geometry: Of the convolution.
        limit: Number of positions over all images; all of them when there are fewer.
        seed: Same seed, same positions.

    Returns:
        [groups, positions, taps * channels / groups], the channel running fastest.
    """
    spatial = images.shape[2:]
    padding = geometry.padding(spatial)
    counts = [
        (size + sum(pad) - geometry.reach(axis)) // geometry.strides[axis] + 1
        for axis, (size, pad) in enumerate(zip(spatial, padding, strict=True))
    ]
    total = len(images) * math.prod(counts)
    chosen = np.arange(total)
    if total > limit:
        chosen = np.sort(np.random.default_rng(seed).choice(total, limit, replace=False))
    image, *corner = np.unravel_index(chosen, (len(images), *counts))
    if any(pad != (0, 0) for pad in padding):
        images = np.pad(images, [(0, 0), (0, 0), *padding])
    taps = np.indices(geometry.kernel).reshape(len(geometry.kernel), -1)
    where = [
        corner[axis][:, None] * geometry.strides[axis] + taps[axis][None] * geometry.dilations[axis]
        for axis in range(len(taps))
    ]
    patches = np.moveaxis(images, 1, -1)[(image[:, None], *where)]  # [positions, taps, channels]
    positions, tap_count, channels = patches.shape
    by_group = patches.reshape(positions, tap_count, geometry.groups, channels // geometry.groups)
    return np.ascontiguousarray(by_group.transpose(2, 0, 1, 3)).reshape(geometry.groups, positions, -1)
