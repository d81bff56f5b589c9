"""Affine nodes: y = x * scale + offset with constants, in whatever operator an exporter spelled it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import dimensions, rank

AFFINE_OPS = frozenset({"Mul", "Add", "Sub", "Div", "Neg", "BatchNormalization"})


@dataclass(frozen=True)
class Affine:
    """One node that computes ``source * scale + offset``.

    Attributes:
        node: The node.
        source: What it reads beside its constants.
        scale: float64, broadcastable to ``source``; None for 1.
        offset: float64, broadcastable to ``source``; None for 0.
    """

    node: ir.Node
    source: ir.Value
    scale: np.ndarray | None
    offset: np.ndarray | None


def read_affine(node: ir.Node | None) -> Affine | None:
    """The affine form of a node, or None when it is none: integer arithmetic, a computed operand, a division by 0."""
    if node is None or node.domain not in ("", "ai.onnx") or node.op_type not in AFFINE_OPS:
        return None
    if node.op_type == "Neg":
        source = node.inputs[0]
        is_float = source is not None and source.dtype is not None and source.dtype.is_floating_point()
        return Affine(node, source, np.array(-1.0), None) if source is not None and is_float else None
    if node.op_type == "BatchNormalization":
        return _batch_normalization(node)
    return _binary(node)


def channel_vector(array: np.ndarray | None, rank_: int, axis: int, channels: int, default: float) -> np.ndarray | None:
    """``array`` as one number per channel, when it varies along ``axis`` only and does not enlarge the other operand.

    Args:
        array: Broadcastable as ONNX does it, aligned at the last axis; None for ``default`` everywhere.
        rank_: Rank of the other operand.
        axis: Which of its axes counts channels.
        channels: Its size along ``axis``.
        default: What None stands for.
    """
    if array is None:
        return np.full(channels, default)
    if array.ndim > rank_:
        return None
    shape = (1,) * (rank_ - array.ndim) + array.shape
    others = shape[:axis] + shape[axis + 1 :]
    if any(size != 1 for size in others) or shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,))


def keeps_shape(array: np.ndarray, value: ir.Value) -> bool:
    """Whether broadcasting ``value`` with ``array`` surely has the shape of ``value``."""
    dims = dimensions(value)
    if dims is None:
        return array.ndim == 0
    if array.ndim > len(dims):
        return False
    aligned = dims[len(dims) - array.ndim :]
    return all(size == 1 or size == dim for size, dim in zip(array.shape, aligned, strict=True))


def as_float(array: np.ndarray | None) -> np.ndarray | None:
    """float64 of a float array (of 16 to 64 bits, bfloat16 too); None of anything else."""
    return array.astype(np.float64) if array is not None and is_float(array) else None


def is_float(array: np.ndarray) -> bool:
    """Whether these are floats of 16 to 64 bits, bfloat16 too."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def rounded(array: np.ndarray, dtype: np.dtype) -> np.ndarray | None:
    """``array`` in a weight's type; None when a finite number would become infinite there."""
    with np.errstate(over="ignore"):
        result = array.astype(dtype)
    return result if np.isfinite(result).all() else None


def output_rank(value: ir.Value) -> int | None:
    """The rank by inference, or by the weight of the convolution that makes the value."""
    known = rank(value)
    node = value.producer()
    if known is None and node is not None and node.op_type in ("Conv", "ConvTranspose"):
        weight = edit.constant(node.inputs[1])
        return None if weight is None else weight.ndim
    return known


def _binary(node: ir.Node) -> Affine | None:
    a, b = node.inputs
    left, right = as_float(edit.constant(a)), as_float(edit.constant(b))
    if right is not None and left is None and a is not None:
        if node.op_type == "Mul":
            return Affine(node, a, right, None)
        if node.op_type == "Div":
            return Affine(node, a, 1.0 / right, None) if _can_divide_by(right) else None
        return Affine(node, a, None, right if node.op_type == "Add" else -right)
    if left is not None and right is None and b is not None:
        if node.op_type == "Mul":
            return Affine(node, b, left, None)
        if node.op_type == "Div":
            return None
        return Affine(node, b, None if node.op_type == "Add" else np.array(-1.0), left)
    return None


def _can_divide_by(array: np.ndarray) -> bool:
    return bool(np.all(array != 0))


def _batch_normalization(node: ir.Node) -> Affine | None:
    if node.attributes.get_int("training_mode", 0) or any(out.uses() for out in node.outputs[1:]):
        return None
    source = node.inputs[0]
    parts = [as_float(edit.constant(value)) for value in node.inputs[1:5]]
    if source is None or any(part is None for part in parts):
        return None
    dims = output_rank(source)
    if dims is None or dims < 2:
        return None
    gamma, beta, mean, variance = (part for part in parts if part is not None)
    scale = gamma / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    shape = (-1, *(1,) * (dims - 2))
    return Affine(node, source, scale.reshape(shape), (beta - mean * scale).reshape(shape))
