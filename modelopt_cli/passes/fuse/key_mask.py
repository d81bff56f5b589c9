"""Masks of attention that depend on the key alone (padding): read, and written as a channel of the keys."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import dimensions
from modelopt_cli.passes.fuse.engine import Editor
from modelopt_cli.passes.fuse.heads import Heads
from modelopt_cli.passes.fuse.pattern import made_by, operands

LOWEST = np.finfo(np.float32).min


@dataclass(frozen=True)
class KeyMask:
    """A tensor added to scores [batch, heads, queries, keys], whose middle dimensions are 1.

    Attributes:
        value: Rank 1 to 4, keys last.
        batched: Whether it differs between samples.
    """

    value: ir.Value
    batched: bool


def read_key_mask(mask: ir.Value, length: int | str) -> KeyMask | None:
    """The mask, when it says the same of a key to all heads and queries."""
    dims = dimensions(mask)
    if not dims or len(dims) > 4 or dims[-1] != length or mask.dtype != ir.DataType.FLOAT:
        return None
    if any(size != 1 for size in dims[-3:-1]):
        return None
    return KeyMask(mask, batched=len(dims) == 4 and dims[0] != 1)


def mask_channel(graph: Editor, mask: KeyMask, heads: Heads) -> ir.Value:
    """[batch or 1, keys, heads * (size + 1)]: zeros, and the mask in the last channel of each head; made once.

    mask -> (Max with the lowest number, where it may be -inf) -> Reshape [batch, keys, 1] -> Pad -> Tile
    """
    key = ("mask channel", mask.value, heads.heads, heads.size)
    if key not in graph.shared:
        graph.shared[key] = _written(graph, mask, heads)
    return graph.shared[key]


def _written(graph: Editor, mask: KeyMask, heads: Heads) -> ir.Value:
    readers = {usage.node for usage in mask.value.uses()}
    first = next(node for node in graph.graph if node in readers)
    dims = dimensions(mask.value)
    assert dims is not None
    batch = dims[0] if mask.batched else 1
    value, stem = mask.value, f"{mask.value.name}_channel"
    if not is_finite(value):  # -inf less -inf is no number, which a block of nothing but masked keys would come to
        lowest = graph.weight(np.array(LOWEST, np.float32), stem)
        value = graph.add("Clip", [value, lowest], like=value, before=first)
    target = np.array([0 if mask.batched else 1, -1, 1], np.int64)
    column = graph.add("Reshape", [value, graph.weight(target, stem)], like=value, before=first)
    column.shape = ir.Shape([batch, dims[-1], 1])
    pads = np.array([0, 0, heads.size, 0, 0, 0], np.int64)
    wide = graph.add("Pad", [column, graph.weight(pads, stem)], like=column, before=first)
    wide.shape = ir.Shape([batch, dims[-1], heads.size + 1])
    repeats = np.array([1, 1, heads.heads], np.int64)
    result = graph.add("Tile", [wide, graph.weight(repeats, stem)], like=wide, before=first)
    result.shape = ir.Shape([batch, dims[-1], heads.heads * (heads.size + 1)])
    return result


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
