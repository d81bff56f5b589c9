"""Where the scales of a product's input channels can go for nothing: into what made those channels.

    v = MatMul(x, w) -> Reshape -> Transpose -> MatMul(p, v) -> Transpose -> Reshape -> / s     before
    v = MatMul(x, w / s) -> Reshape -> Transpose -> MatMul(p, v) -> Transpose -> Reshape        after

A factor for each channel passes whatever treats channels apart (Relu when it is positive, gates, the weighted sums of
attention) up to a weight that makes these channels and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import add_weight, constant, only_reader

Absorb = Callable[[np.ndarray], None]
"""Divides the channels by the given numbers, float32 [K], at least 1, by editing weights."""

_NORMALIZATIONS = ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
_POSITIVELY_HOMOGENEOUS = ("Relu", "LeakyRelu", "PRelu", "Identity")
_LONGEST_PATH = 12


@dataclass(frozen=True)
class _Channels:
    """Axes, counted from the end, that together count the channels in row-major order, and their sizes."""

    axes: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.sizes)

    @property
    def are_last(self) -> bool:
        return self.axes == tuple(range(-len(self.axes), 0))


def find_absorber(source: ir.Value, channels: int, readers: Collection[ir.Node]) -> Absorb | None:
    """What takes a factor for each channel (last axis) of ``source`` at no cost; None when nothing does.

    Args:
        source: The tensor to scale.
        channels: Length of its last axis.
        readers: The nodes that know of the scales; when others read it too, nothing may take them.
    """
    if source.is_graph_output() or any(use.node not in readers for use in source.uses()):
        return None
    return _search(source, _Channels((-1,), (channels,)), _LONGEST_PATH)


def _search(value: ir.Value, channels: _Channels, steps: int) -> Absorb | None:
    node = value.producer()
    if node is None or not isinstance(node.graph, ir.Graph) or steps == 0:
        return None
    if channels.are_last and len(channels.axes) == 1 and (found := _weight_of(node, channels.count)) is not None:
        return found
    for source, moved in _sources(node, channels):
        if only_reader(source) is not None and not source.is_graph_input():
            absorber = _search(source, moved, steps - 1)
            if absorber is not None:
                return absorber
    return None


def _sources(node: ir.Node, channels: _Channels) -> list[tuple[ir.Value, _Channels]]:
    """The inputs any of which may be scaled instead of the output, with the channels as they lie there."""
    first = node.inputs[0] if node.inputs else None
    if first is None:
        return []
    kind = node.op_type
    if kind in _POSITIVELY_HOMOGENEOUS:
        return [(first, channels)]
    if kind == "Mul":
        return [(value, channels) for value in node.inputs if value is not None and _spans(value, channels)]
    if kind == "MatMul":
        second = node.inputs[1]
        summed = -2 in channels.axes  # rows of the product come from the left operand
        return [] if second is None or summed or not _spans(second, channels) else [(second, channels)]
    if kind in ("Attention", "MultiHeadAttention"):
        value = node.inputs[2] if len(node.inputs) > 2 else None
        return [] if value is None or _has_more(node) or not _spans(value, channels) else [(value, channels)]
    if kind == "Transpose":
        return _through_transpose(node, first, channels)
    return _through_reshape(first, channels) if kind == "Reshape" else []


def _spans(value: ir.Value, channels: _Channels) -> bool:
    """Whether the value has these axes at full size (a broadcast one would be scaled for all)."""
    if value.shape is None or constant(value) is not None or len(value.shape) < -min(channels.axes):
        return False
    return all(value.shape[axis] == size for axis, size in zip(channels.axes, channels.sizes, strict=True))


def _has_more(attention: ir.Node) -> bool:
    """Whether more than the values would have to be scaled: a bias of theirs, those of the past, heads that share them.

    onnxruntime's own Attention makes its projections itself; that of ONNX has heads apart when it is of rank 4.
    """
    if attention.op_type == "Attention":
        heads = [attention.attributes.get_int(name, 0) for name in ("q_num_heads", "kv_num_heads")]
        return attention.domain not in ("", "ai.onnx") or heads[0] != heads[1] or 0 in heads or _given(attention, 4, 5)
    return _given(attention, 3, 6, 7)


def _given(node: ir.Node, *indices: int) -> bool:
    return any(index < len(node.inputs) and node.inputs[index] is not None for index in indices)


def _through_transpose(node: ir.Node, source: ir.Value, channels: _Channels) -> list[tuple[ir.Value, _Channels]]:
    permutation = node.attributes.get("perm")
    if permutation is None:
        return []
    order = permutation.as_ints()
    axes = tuple(order[axis] - len(order) for axis in channels.axes)
    return [(source, _Channels(axes, channels.sizes))]


def _through_reshape(source: ir.Value, channels: _Channels) -> list[tuple[ir.Value, _Channels]]:
    """Trailing axes of one product hold the same channels, whatever becomes of the axes in front of them."""
    if source.shape is None or not channels.are_last:
        return []
    sizes: list[int] = []
    for size in reversed(source.shape.dims):
        if not isinstance(size, int) or math.prod(sizes) >= channels.count:
            break
        sizes.insert(0, size)
    if math.prod(sizes) != channels.count or not sizes:
        return []
    return [(source, _Channels(tuple(range(-len(sizes), 0)), tuple(sizes)))]


def _weight_of(node: ir.Node, channels: int) -> Absorb | None:
    """The constants of a node that multiply its output channels, as something that divides them."""
    if node.op_type in _NORMALIZATIONS:
        axis = node.attributes.get_int("axis", -1)
        rank = len(node.inputs[0].shape) if node.inputs[0] is not None and node.inputs[0].shape is not None else 0
        return _divide(node, [1, 2], channels, required=1) if axis in (-1, rank - 1) else None
    if node.op_type == "MatMulIntegerToFloat":
        return _divide(node, [3, 6], channels, required=3)
    if node.op_type in ("MatMul", "Gemm"):
        return _divide_product(node, channels)
    return _divide_sum(node, channels) if node.op_type in ("Add", "Mul") else None


def _divide(node: ir.Node, indices: list[int], channels: int, required: int) -> Absorb | None:
    """Vectors of one number per channel that the output is linear in together."""
    vectors = [index for index in indices if len(node.inputs) > index and node.inputs[index] is not None]
    arrays = [constant(node.inputs[index]) for index in vectors]
    if required not in vectors or any(array is None or array.shape != (channels,) for array in arrays):
        return None

    def absorb(scales: np.ndarray) -> None:
        for index in vectors:
            _replace(node, index, lambda array: array / scales)

    return absorb


def _divide_product(node: ir.Node, channels: int) -> Absorb | None:
    """A float product with a weight of its own, and the bias of a Gemm."""
    weight = node.inputs[1]
    array = constant(weight)
    if weight is None or array is None or array.ndim != 2 or array.dtype != np.float32 or len(weight.uses()) > 1:
        return None
    rows = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1
    if array.shape[0 if rows else 1] != channels:
        return None
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if len(node.inputs) > 2 and node.inputs[2] is not None and (bias is None or bias.shape != (channels,)):
        return None

    def absorb(scales: np.ndarray) -> None:
        _replace(node, 1, lambda array: array / (scales[:, None] if rows else scales))
        if bias is not None:
            _replace(node, 2, lambda array: array / scales)

    return absorb


def _divide_sum(node: ir.Node, channels: int) -> Absorb | None:
    """``x + b`` and ``x * a`` with a vector: the factor of a sum goes into both, that of a product into the vector."""
    vectors = [index for index in (0, 1) if _has_shape(node.inputs[index], (channels,))]
    if len(vectors) != 1:
        return _divide_step(node, channels) if node.op_type == "Mul" else None
    own, other = vectors[0], node.inputs[1 - vectors[0]]
    if node.op_type == "Mul":
        return _divide(node, [own], channels, required=own)
    maker = other.producer() if other is not None and only_reader(other) is node else None
    before = _weight_of(maker, channels) if maker is not None else None
    if before is None:
        return None

    def absorb(scales: np.ndarray) -> None:
        _replace(node, own, lambda array: array / scales)
        before(scales)

    return absorb


def _divide_step(node: ir.Node, channels: int) -> Absorb | None:
    """``integers * (step of the input * steps of the weight)``: what a product is in standard operators."""
    for value in node.inputs:
        maker = value.producer() if value is not None and only_reader(value) is node else None
        if maker is not None and maker.op_type == "Mul":
            for index in (0, 1):
                if _has_shape(maker.inputs[index], (channels,)):
                    return _divide(maker, [index], channels, required=index)
    return None


def _has_shape(value: ir.Value | None, shape: tuple[int, ...]) -> bool:
    array = constant(value)
    return array is not None and array.shape == shape


def _replace(node: ir.Node, index: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """A new constant for one input; others may read the old one."""
    value, graph = node.inputs[index], node.graph
    array = constant(value)
    assert value is not None and array is not None and isinstance(graph, ir.Graph)
    new = add_weight(graph, f"{value.name}_smooth", np.asarray(change(array), np.float32))
    node.replace_input_with(index, new)
    if value.is_initializer() and not value.uses() and isinstance(value.graph, ir.Graph):
        value.graph.initializers.pop(value.name or "", None)
