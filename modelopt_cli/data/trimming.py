"""Padding is not data: cut it off where an attention mask says so, by the names of the symbolic axes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from modelopt_cli.data.dataset import Sample
from modelopt_cli.data.signature import InputSpec, Signature

TrimPlan = Mapping[str, tuple[tuple[str, ...], tuple[tuple[str, int], ...]]]
"""Symbol -> the masks over it, and every (input, axis) of that symbol."""


def trim_plan(inputs: Signature) -> TrimPlan:
    """Which axes shrink with which masks.

    A mask is an integer or bool input with "mask" in its name and axes [batch, sequence] of which the second is
    symbolic. All axes of that symbol, in all inputs, are cut together, so shapes stay consistent.
    """
    plan: dict[str, tuple[tuple[str, ...], tuple[tuple[str, int], ...]]] = {}
    for symbol in dict.fromkeys(_mask_symbol(spec) for spec in inputs):
        if symbol is not None:
            masks = tuple(spec.name for spec in inputs if _mask_symbol(spec) == symbol)
            axes = tuple(
                (spec.name, axis) for spec in inputs for axis, dim in enumerate(spec.shape or ()) if dim == symbol
            )
            plan[symbol] = (masks, axes)
    return plan


def trim(sample: Sample, plan: TrimPlan) -> Sample:
    """Cut the trailing positions that every mask over a symbol leaves out; a mask of zeros alone cuts nothing."""
    trimmed = dict(sample)
    for masks, axes in plan.values():
        length = max(_used(sample[name]) for name in masks)
        if length:
            for name, axis in axes:
                trimmed[name] = trimmed[name][(slice(None),) * axis + (slice(length),)]
    return trimmed


def _mask_symbol(spec: InputSpec) -> str | None:
    if spec.shape is None or len(spec.shape) != 2 or spec.dtype.kind not in "iub" or "mask" not in spec.name.lower():
        return None
    batch, sequence = spec.shape
    return sequence if isinstance(sequence, str) and sequence != batch else None


def _used(mask: np.ndarray) -> int:
    used = np.flatnonzero(mask.any(axis=0))
    return int(used[-1]) + 1 if used.size else 0
