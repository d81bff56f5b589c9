"""Numbers along one axis of a value, and along which axis they lie after or before a node that moves elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.arithmetic import ShapeArithmetic
from modelopt_cli.graph.shapes import Elements, dimensions

MAX_GROUP_ELEMENTS = 1 << 20  # of dimensions that a Reshape mixes: they are written out to see what becomes of them


class Refusal(Exception):
    """A path that cannot take the constant, with the reason."""


@dataclass(frozen=True)
class Vector:
    """float64 numbers along ``axis`` of a value of ``rank``; one number for all of it without a rank."""

    values: np.ndarray
    axis: int = 0
    rank: int | None = None

    @property
    def is_scalar(self) -> bool:
        """Whether one number stands for all elements."""
        return self.rank is None

    def is_all(self, number: float) -> bool:
        """Whether each of the numbers is this one."""
        return bool(np.all(self.values == number))

    def per_channel(self, channels: int, axis: int, rank: int) -> np.ndarray:
        """One number per channel along ``axis`` of a value of ``rank``.

        Raises:
            Refusal: The numbers belong to another axis.
        """
        if self.is_scalar:
            return np.full(channels, float(self.values))
        if axis != self.axis or rank != self.rank or self.values.size != channels:
            raise Refusal("the constant varies along another axis")
        return self.values

    def broadcastable(self) -> np.ndarray:
        """An array that ONNX broadcasts over the value."""
        return self.values if self.rank is None else self.values.reshape(-1, *(1,) * (self.rank - self.axis - 1))

    def on(self, axis: int, rank: int | None) -> Vector:
        """The same numbers along an axis of another value; one number stays one number."""
        return self if self.is_scalar else Vector(self.values, axis, rank)

    def part(self, which: slice | np.ndarray) -> Vector:
        """Some of the numbers, along the same axis."""
        return _compact(np.asarray(self.values[which]), self.axis, self.rank)

    def times(self, other: Vector) -> Vector:
        """The product with numbers along the same axis, or with one number.

        Raises:
            Refusal: They lie along different axes.
        """
        if not self.is_scalar and not other.is_scalar and (self.axis, self.rank) != (other.axis, other.rank):
            raise Refusal("two constants vary along different axes")
        place = other if self.is_scalar else self
        return _compact(self.values * other.values, place.axis, place.rank)


ONE, ZERO = Vector(np.array(1.0)), Vector(np.array(0.0))


def as_vector(array: np.ndarray | None, source: ir.Value, default: Vector = ONE) -> Vector | None:
    """The constant of an affine node as numbers along an axis of ``source``; None when it varies along several.

    Args:
        array: Broadcastable as ONNX does it, aligned at the last axis; None for the default.
        source: What it is combined with; the constant must not enlarge it.
        default: What None stands for.
    """
    if array is None:
        return default
    dims = dimensions(source)
    if array.size == 1 and (array.ndim == 0 or (dims is not None and array.ndim <= len(dims))):
        return Vector(array.reshape(()))
    if dims is None or array.ndim > len(dims):
        return None
    sizes = (1,) * (len(dims) - array.ndim) + array.shape
    axes = [axis for axis, size in enumerate(sizes) if size != 1]
    if len(axes) != 1 or dims[axes[0]] != sizes[axes[0]]:
        return None
    return _compact(array.reshape(-1), axes[0], len(dims))


def after(node: ir.Node, vector: Vector, out: ir.Value, known: ShapeArithmetic) -> Vector:
    """Where numbers along an axis of input 0 lie in ``out``, for an operator of `MOVES` or one that keeps axes.

    Raises:
        Refusal: The numbers meet each other, or the shapes are not known well enough.
    """
    if vector.is_scalar and node.op_type != "Pad":
        return vector
    move = _MOVES.get(node.op_type, _keep)
    return move(_Step(node, node.inputs[0], out, True, known, 0.0), vector)


def before(node: ir.Node, vector: Vector, out: ir.Value, known: ShapeArithmetic, neutral: float) -> Vector:
    """The numbers along an axis of input 0 that are those of ``vector`` in ``out``, and ``neutral`` in what it drops.

    Raises:
        Refusal: As of `after`.
    """
    source = node.inputs[0]
    alone = source is not None and len(list(source.uses())) == 1 and node.op_type != "Split"
    if vector.is_scalar and (alone or node.op_type not in _SELECT):
        return vector
    move = _MOVES.get(node.op_type, _keep)
    return move(_Step(node, source, out, False, known, neutral), vector)


@dataclass(frozen=True)
class _Step:
    """A node between the value that has the numbers and the one that gets them."""

    node: ir.Node
    source: ir.Value | None
    out: ir.Value
    forward: bool
    known: ShapeArithmetic
    neutral: float

    def dims(self) -> tuple[Elements, Elements]:
        """Dimensions of input and output.

        Raises:
            Refusal: Not even the ranks are known.
        """
        inner, outer = dimensions(self.source), dimensions(self.out)
        if inner is None or outer is None:
            raise Refusal(f"the shapes around {self.node.op_type} are not known")
        return inner, outer


def _compact(values: np.ndarray, axis: int, rank_: int | None) -> Vector:
    flat = values.reshape(-1)
    return Vector(flat[0].reshape(())) if np.all(flat == flat[0]) else Vector(flat, axis, rank_)


def _keep(step: _Step, vector: Vector) -> Vector:
    """Operators that work along other axes: the axis counts from the end, and its size must stay."""
    inner, outer = step.dims()
    shift = (len(outer) - len(inner)) * (1 if step.forward else -1)
    target = outer if step.forward else inner
    axis = vector.axis + shift
    if not 0 <= axis < len(target) or target[axis] != vector.values.size:
        raise Refusal(f"{step.node.op_type} changes the axis along which the constant varies")
    return vector.on(axis, len(target))


def _pool(step: _Step, vector: Vector) -> Vector:
    if not vector.is_scalar and vector.axis > 1:
        raise Refusal(f"the constant varies over what {step.node.op_type} joins")
    return vector


def _pad(step: _Step, vector: Vector) -> Vector:
    return vector if vector.is_scalar else _keep(step, vector)


def _transpose(step: _Step, vector: Vector) -> Vector:
    perm = list(step.node.attributes.get_ints("perm", ()))
    if not perm:
        perm = list(range(vector.rank or 0))[::-1]
    return vector.on(perm.index(vector.axis) if step.forward else perm[vector.axis], vector.rank)


def _reshape(step: _Step, vector: Vector) -> Vector:
    inner, outer = step.dims()
    return _regroup(vector, inner, outer) if step.forward else _regroup(vector, outer, inner)


def _regroup(vector: Vector, old: Elements, new: Elements) -> Vector:
    """Numbers along an axis of ``old`` dimensions as numbers along one of ``new`` ones, when they lie along one."""
    span = _span(old, new, vector.axis)
    if span is None:
        mirrored = _span(old[::-1], new[::-1], len(old) - 1 - vector.axis)
        if mirrored is None:
            raise Refusal("the shapes around a Reshape are not known well enough")
        (a, b), (c, d) = mirrored
        span = (len(old) - b, len(old) - a), (len(new) - d, len(new) - c)
    (start, end), (first, last) = span
    shape = [int(size) for size in old[start:end] if isinstance(size, int)] or [vector.values.size]
    if int(np.prod(shape)) > MAX_GROUP_ELEMENTS:
        raise Refusal("a Reshape mixes too many elements")
    line = vector.values.reshape([-1 if axis == vector.axis else 1 for axis in range(start, end)])
    target = [int(size) for size in new[first:last] if isinstance(size, int)]
    array = np.broadcast_to(line, shape).reshape(target)
    axes = [axis for axis in range(array.ndim) if np.any(array != array.take([0], axis=axis))]
    if len(axes) > 1:
        raise Refusal("a Reshape spreads the constant over several axes")
    if not axes:
        return Vector(array.reshape(-1)[0].reshape(()))
    others = tuple(slice(None) if axis == axes[0] else 0 for axis in range(array.ndim))
    return Vector(array[others], first + axes[0], len(new))


def _span(old: Elements, new: Elements, axis: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Ranges of axes around ``axis`` with as many elements before and after, found from the left; numbers only."""
    i = j = 0
    while i < len(old) and j < len(new) and i <= axis:
        start, first = i, j
        p, q = old[i], new[j]
        i, j = i + 1, j + 1
        while p != q:
            if not isinstance(p, int) or not isinstance(q, int) or 0 in (p, q):
                return None
            side, at = (old, i) if p < q else (new, j)
            size = side[at] if at < len(side) else None
            if not isinstance(size, int):
                return None
            p, q, i, j = (p * size, q, i + 1, j) if p < q else (p, q * size, i, j + 1)
        if p is None:
            return None
        if start <= axis < i:
            return (start, i), (first, j)
    return None


def _slice(step: _Step, vector: Vector) -> Vector:
    node, numbers = step.node, step.known.numbers
    inner, _ = step.dims()
    starts, ends = (numbers(value) for value in node.inputs[1:3]) if len(node.inputs) > 2 else (None, None)
    if starts is None or ends is None:
        raise Refusal("a Slice is computed")
    optional = [node.inputs[i] if len(node.inputs) > i else None for i in (3, 4)]
    axes = tuple(range(len(starts))) if optional[0] is None else numbers(optional[0])
    steps = (1,) * len(starts) if optional[1] is None else numbers(optional[1])
    if axes is None or steps is None:
        raise Refusal("a Slice is computed")
    cuts = {a % len(inner): slice(s, e, t) for a, s, e, t in zip(axes, starts, ends, steps, strict=True)}
    if vector.is_scalar:  # backward, into a value that others read too: only what is taken out
        if len(cuts) != 1:
            raise Refusal("a Slice cuts several axes")
        return _selected(step, vector, next(iter(cuts)), next(iter(cuts.values())))
    return _selected(step, vector, vector.axis, cuts[vector.axis]) if vector.axis in cuts else vector


def _split(step: _Step, vector: Vector) -> Vector:
    inner, _ = step.dims()
    axis = step.node.attributes.get_int("axis", 0) % len(inner)
    if not vector.is_scalar and vector.axis != axis:
        return vector
    position = list(step.node.outputs).index(step.out)
    shapes = [dimensions(out) for out in step.node.outputs[: position + 1]]
    counts = [size for shape in shapes if shape is not None and isinstance(size := shape[axis], int)]
    if len(counts) <= position:
        raise Refusal("the sizes of a Split are not known")
    return _selected(step, vector, axis, slice(sum(counts[:-1]), sum(counts)))


def _gather(step: _Step, vector: Vector) -> Vector:
    inner, outer = step.dims()
    axis = step.node.attributes.get_int("axis", 0) % len(inner)
    indices = edit.constant(step.node.inputs[1])
    if indices is None or indices.ndim > 1:
        raise Refusal("the indices of a Gather are computed")
    count = 1 if step.forward else indices.ndim  # axes that the indices stand for, on this side
    if not vector.is_scalar and not axis <= vector.axis < axis + count:
        shift = (indices.ndim - 1) * (1 if step.forward else -1) if vector.axis >= axis + count else 0
        return vector.on(vector.axis + shift, len(outer) if step.forward else len(inner))
    if not step.forward and len(set(indices.reshape(-1).tolist())) < indices.size:
        raise Refusal("a Gather takes an element twice")
    return _selected(step, vector, axis, indices)


def _selected(step: _Step, vector: Vector, axis: int, which: slice | np.ndarray) -> Vector:
    """Forward, the numbers that are taken; backward, those numbers in their places among neutral ones."""
    inner, _ = step.dims()
    if step.forward:
        return vector.part(which)
    size = inner[axis]
    if not isinstance(size, int):
        raise Refusal(f"the size of what {step.node.op_type} takes from is not known")
    values = np.full(size, step.neutral)
    values[which] = vector.values
    return _compact(values, axis, len(inner))


def _reduce(step: _Step, vector: Vector) -> Vector:
    inner, outer = step.dims()
    axes = _reduced(step)
    gone = [] if step.node.attributes.get_int("keepdims", 1) else axes
    kept = [axis for axis in range(len(inner)) if axis not in gone]
    axis = vector.axis if step.forward else kept[vector.axis]
    if axis in axes:
        raise Refusal(f"the constant varies over what {step.node.op_type} joins")
    return vector.on(kept.index(axis), len(outer)) if step.forward else vector.on(axis, len(inner))


def _reduced(step: _Step) -> Sequence[int]:
    inner, _ = step.dims()
    given = step.node.inputs[1] if len(step.node.inputs) > 1 else None
    axes = step.known.numbers(given) if given is not None else tuple(step.node.attributes.get_ints("axes", ()))
    if axes is None:
        raise Refusal(f"the axes of {step.node.op_type} are computed")
    return [axis % len(inner) for axis in axes] or list(range(len(inner)))


def _depth(step: _Step, vector: Vector) -> Vector:
    """DepthToSpace and SpaceToDepth: a channel of the one is a square of channels of the other."""
    if vector.axis != 1:
        raise Refusal(f"{step.node.op_type} moves the axis along which the constant varies")
    square = step.node.attributes.get_int("blocksize", 1) ** 2
    spread = step.forward == (step.node.op_type == "SpaceToDepth")
    in_order = step.node.attributes.get_string("mode", "DCR") == "CRD" and step.node.op_type == "DepthToSpace"
    if spread:
        values = np.repeat(vector.values, square) if in_order else np.tile(vector.values, square)
        return vector if vector.is_scalar else Vector(values, 1, vector.rank)
    table = vector.values.reshape((-1, square) if in_order else (square, -1))
    line = table[:, 0] if in_order else table[0]
    if np.any(table != (line[:, None] if in_order else line)):
        raise Refusal(f"{step.node.op_type} puts different factors into one channel")
    return _compact(line, 1, vector.rank)


_SELECT = frozenset({"Slice", "Split", "Gather"})
_MOVES: dict[str, Callable[[_Step, Vector], Vector]] = {
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Flatten"), _reshape),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "MaxPool", "GlobalMaxPool"), _pool),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"), _reduce),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _depth),
    **{"Transpose": _transpose, "Slice": _slice, "Split": _split, "Gather": _gather, "Pad": _pad},
}
