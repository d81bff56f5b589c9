"""Moving a factor or a summand forward, through what it commutes with, into the weights that can take it.

A move is planned over all paths before anything is edited: either every reader can take it, or it stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph import shapes as graph_shapes
from modelopt_cli.passes.fuse.affine import as_float, channel_vector, read_affine, rounded
from modelopt_cli.passes.fuse.engine import Editor
from modelopt_cli.passes.fuse.linear import LINEAR_OPS, fits, read_linear, refusal, write

CHANNEL_AXIS = 1
MAX_STEPS = 64  # readers visited by one plan

# f(s x) = s f(x) for s > 0, elementwise or per channel
HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "PRelu", "MaxPool"})
# f(s x) = s f(x) for every s that is constant over each channel's pixels
LINEAR_POOLS = frozenset({"AveragePool", "GlobalAveragePool"})
# f(s x) = s f(x) for a scalar s, and f(x + o) = f(x) + o for a scalar o: elements are moved or repeated
MOVES = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Expand", "Tile"})


class Refusal(Exception):
    """A path that cannot take the factor, with the reason."""


@dataclass(frozen=True)
class Vector:
    """float64 numbers along the channel axis (1) of a value of ``rank``; one number for all of it without a rank."""

    values: np.ndarray
    rank: int | None

    @property
    def is_scalar(self) -> bool:
        """Whether one number stands for all channels."""
        return self.rank is None

    def per_channel(self, channels: int, axis: int, rank: int) -> np.ndarray:
        """One number per channel along ``axis`` of a value of ``rank``.

        Raises:
            Refusal: The numbers belong to another axis.
        """
        if self.is_scalar:
            return np.full(channels, float(self.values))
        if axis != CHANNEL_AXIS or rank != self.rank or self.values.size != channels:
            raise Refusal("the constant varies along another axis")
        return self.values

    def broadcastable(self) -> np.ndarray:
        """An array that ONNX broadcasts over the value."""
        return self.values if self.rank is None else self.values.reshape(-1, *(1,) * (self.rank - 2))


def as_vector(array: np.ndarray, source: ir.Value) -> Vector | None:
    """The constant of an affine node as a vector over the channels of ``source``, or None when it varies otherwise."""
    dims = None if source.shape is None else len(source.shape)
    if array.size == 1 and (array.ndim == 0 or (dims is not None and array.ndim <= dims)):
        return Vector(array.reshape(()), None)
    if dims is None or dims < 2 or source.shape is None:
        return None
    channels = source.shape[CHANNEL_AXIS]
    if not isinstance(channels, int):
        return None
    vector = channel_vector(array, dims, CHANNEL_AXIS, channels, 0.0)
    return None if vector is None else Vector(vector, dims)


@dataclass
class Plan:
    """The edits that let every reader of a value take ``scale`` (or ``offset``) over."""

    graph: Editor
    edits: list[Callable[[], None]] = field(default_factory=list)
    steps: int = 0
    planned: set[tuple[ir.Node, int]] = field(default_factory=set)

    def commit(self) -> None:
        """Make the edits."""
        for make in self.edits:
            make()

    def scale(self, value: ir.Value, scale: Vector) -> None:
        """Plan that ``value`` arrives divided by ``scale`` and everything computed from it stays the same.

        Raises:
            Refusal: Some reader cannot make up for it.
        """
        for node, index in self._readers(value):
            self._scale_reader(node, index, scale)

    def offset(self, value: ir.Value, offset: Vector) -> None:
        """Plan that ``value`` arrives without its ``offset`` and everything computed from it stays the same.

        Raises:
            Refusal: Some reader cannot make up for it.
        """
        for node, index in self._readers(value):
            self._offset_reader(node, index, offset)

    def _readers(self, value: ir.Value) -> Sequence[tuple[ir.Node, int]]:
        if value.is_graph_output():
            raise Refusal("what it computes is an output of the model")
        readers = [(usage.node, usage.idx) for usage in value.uses()]
        self.steps += len(readers)
        if self.steps > MAX_STEPS:
            raise Refusal("too many nodes read it")
        for node, index in readers:
            if self.graph.is_protected(node):
                raise Refusal(f"{node.op_type} is part of a pattern that the runtime recognises")
            if node.graph is not self.graph.graph:
                raise Refusal("a branch of the graph reads it")
            if any(node is other for other, _ in self.planned):
                raise Refusal(f"{node.op_type} would be changed twice")
            self.planned.add((node, index))
        return readers

    def _scale_reader(self, node: ir.Node, index: int, scale: Vector) -> None:
        op = node.op_type if node.domain in ("", "ai.onnx") else ""
        if op in LINEAR_OPS and index == 0:
            self._into_weight(node, scale)
        elif op in HOMOGENEOUS and index == 0:
            self._through_homogeneous(node, scale)
        elif op in LINEAR_POOLS or (index == 0 and _passes_elements(node, scale)):
            self.scale(node.outputs[0], scale)
        elif op in ("Mul", "Div", "Add", "Sub"):
            self._through_arithmetic(node, index, scale)
        elif op == "Concat":
            self._through_concat(node, index, scale)
        else:
            raise Refusal(f"{node.op_type} does not pass a factor on")

    def _into_weight(self, node: ir.Node, scale: Vector) -> None:
        linear = read_linear(node)
        if linear is None:
            raise Refusal(f"{node.op_type} has no constant weight")
        if (reason := refusal(linear)) is not None:
            raise Refusal(f"{node.op_type}: {reason}")
        weight = linear.scaled_input(scale.per_channel(linear.inputs, linear.axis, linear.rank))
        if not fits(linear, weight, None):
            raise Refusal("the folded weight does not fit its type")
        self.edits.append(lambda: write(linear, self.graph, weight, None))

    def _through_homogeneous(self, node: ir.Node, scale: Vector) -> None:
        if not np.all(scale.values > 0):
            raise Refusal(f"only a positive factor passes {node.op_type}")
        if any(out.uses() for out in node.outputs[1:]):
            raise Refusal(f"{node.op_type} gives indices too")
        self.scale(node.outputs[0], scale)

    def _through_arithmetic(self, node: ir.Node, index: int, scale: Vector) -> None:
        value, other = node.inputs[index], node.inputs[1 - index]
        constant = as_float(edit.constant(other))
        assert value is not None
        if constant is None:
            self._through_product(node, index, scale)
        elif node.op_type in ("Add", "Sub"):  # s x + o = s (x + o / s)
            self._set_constant(node, 1 - index, constant / scale.broadcastable())
            self.scale(node.outputs[0], scale)
        elif node.op_type == "Mul" or index == 0:  # (s x) * c = x * (s c), and the end of the way
            factor = scale.broadcastable() if node.op_type == "Mul" else 1 / scale.broadcastable()
            self._set_constant(node, 1 - index, constant * factor)
        else:
            raise Refusal(f"{node.op_type} divides by it")

    def _through_product(self, node: ir.Node, index: int, scale: Vector) -> None:
        if node.op_type not in ("Mul", "Div") or (node.op_type == "Div" and index == 1):
            raise Refusal(f"{node.op_type} joins it with another computed value")
        if node.inputs[0] is node.inputs[1]:
            raise Refusal(f"{node.op_type} multiplies it with itself")
        if not scale.is_scalar and graph_shapes.rank(node.outputs[0]) != scale.rank:
            raise Refusal("the product may have more dimensions")
        self.scale(node.outputs[0], scale)

    def _through_concat(self, node: ir.Node, index: int, scale: Vector) -> None:
        rank = graph_shapes.rank(node.outputs[0])
        sizes = [None if v is None or v.shape is None else v.shape[CHANNEL_AXIS] for v in node.inputs]
        if rank is None or node.attributes.get_int("axis", 0) not in (CHANNEL_AXIS, CHANNEL_AXIS - rank):
            raise Refusal(f"{node.op_type} does not join channels")
        counts = [size for size in sizes if isinstance(size, int)]
        if len(counts) < len(sizes):
            raise Refusal(f"how many channels {node.op_type} joins is not known")
        parts = [np.ones(count) for count in counts]
        parts[index] = scale.per_channel(counts[index], CHANNEL_AXIS, rank)
        self.scale(node.outputs[0], Vector(np.concatenate(parts), rank))

    def _set_constant(self, node: ir.Node, index: int, array: np.ndarray) -> None:
        old = edit.constant(node.inputs[index])
        assert old is not None
        if (new := rounded(array, old.dtype)) is None:
            raise Refusal("the new constant does not fit its type")
        value, source = node.inputs[index], node.inputs[1 - index]
        if new.size > 1 and new.shape != old.shape and (source is None or source.shape is None):
            raise Refusal("the shape of the other operand is not known")
        name = value.name if value is not None and value.name else "constant"
        self.edits.append(lambda: self.graph.set_input(node, index, self.graph.weight(new, name)))

    def _offset_reader(self, node: ir.Node, index: int, offset: Vector) -> None:
        op = node.op_type if node.domain in ("", "ai.onnx") else ""
        if op in LINEAR_OPS and index == 0:
            self._into_bias(node, offset)
        elif (op in MOVES and index == 0 and offset.is_scalar) or op in ("GlobalAveragePool", "MaxPool"):
            if any(out.uses() for out in node.outputs[1:]):
                raise Refusal(f"{op} gives indices too")
            self.offset(node.outputs[0], offset)
        elif op in ("Add", "Sub") and (affine := read_affine(node)) is not None and affine.scale is None:
            constant = as_float(edit.constant(node.inputs[1 - index]))
            assert constant is not None
            added = offset.broadcastable() if op == "Add" else -offset.broadcastable()
            self._set_constant(node, 1 - index, constant + added)
        else:
            raise Refusal(f"{node.op_type} does not pass a summand on")

    def _into_bias(self, node: ir.Node, offset: Vector) -> None:
        linear = read_linear(node)
        if linear is None:
            raise Refusal(f"{node.op_type} has no constant weight")
        if linear.pads():
            raise Refusal(f"{node.op_type} pads with zeros, which the offset would not reach")
        bias = linear.offset_input(offset.per_channel(linear.inputs, linear.axis, linear.rank))
        if linear.takes_bias:
            if not fits(linear, None, bias):
                raise Refusal("the new bias does not fit its type")
            self.edits.append(lambda: write(linear, self.graph, None, bias))
        else:
            self._into_following_add(node, bias, linear.rank)

    def _into_following_add(self, node: ir.Node, bias: np.ndarray, rank: int) -> None:
        affine = read_affine(edit.only_reader(node.outputs[0]))
        if affine is None or affine.node.op_type != "Add" or affine.offset is None:
            raise Refusal(f"{node.op_type} has no bias to take the offset")
        constant = channel_vector(affine.offset, rank, rank - 1, bias.size, 0.0)
        if constant is None:
            raise Refusal(f"what is added after {node.op_type} is not one number per output")
        index = 1 if affine.node.inputs[0] is node.outputs[0] else 0
        self._set_constant(affine.node, index, constant + bias)


def _passes_elements(node: ir.Node, scale: Vector) -> bool:
    """Whether the node only moves, repeats or interpolates elements, without mixing those of different factors."""
    if node.op_type == "Resize":  # per channel, and linear unless it extrapolates with a constant of its own
        return node.attributes.get_string("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize"
    return node.op_type in MOVES and scale.is_scalar
