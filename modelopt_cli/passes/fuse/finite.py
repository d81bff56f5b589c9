"""Masks that surely hold no infinite number."""

from __future__ import annotations

import math

import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.pattern import made_by, operands


def is_moderate(value: ir.Value, limit: float) -> bool:
    """Whether a mask surely is finite, and made of numbers that are not below ``limit`` by themselves."""
    node = made_by(value, "Where", "Mul")
    numbers = [] if node is None else [number for each in node.inputs if (number := edit.scalar(each)) is not None]
    return is_finite(value) and all(number >= limit for number in numbers)


def is_finite(value: ir.Value) -> bool:
    """Whether a mask surely has no infinite number: a choice of two finite ones, or a multiple of integers."""
    chosen = made_by(value, "Where")
    if chosen is not None:
        return all(_is_finite_number(each) for each in chosen.inputs[1:])
    product = made_by(value, "Mul")
    return product is not None and any(
        _is_finite_number(number) and _from_integers(other) for other, number in operands(product)
    )


def _is_finite_number(value: ir.Value | None) -> bool:
    number = edit.scalar(value)
    return number is not None and math.isfinite(number)


def _from_integers(value: ir.Value | None) -> bool:
    """Integers or truth values as floats, or one of them less a number."""
    subtract = made_by(value, "Sub")
    parts = [value] if subtract is None else list(subtract.inputs)
    for part in parts:
        cast = made_by(part, "Cast")
        source = None if cast is None else cast.inputs[0]
        integral = source is not None and source.dtype is not None and not source.dtype.is_floating_point()
        if not integral and not _is_finite_number(part):
            return False
    return True
