"""Parallel convolutions of one input whose outputs are added are one convolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.affine import channel_vector, read_affine, rounded
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.linear import Linear, read_linear, refusal, write
from modelopt_cli.passes.fuse.pattern import made_by, only_made_for, operands


@dataclass(frozen=True)
class Found:
    """The Add, the convolution that stays, and what is added to its weight and bias; None when it does not fit in."""

    node: ir.Node
    main: Linear
    kernel: tuple[int, ...]
    weight: np.ndarray | None
    bias: np.ndarray


class MergeBranches(Rule[Found]):
    """Merge the branches of a block that was trained with several, as RepVGG does (https://arxiv.org/abs/2101.03697).

    Conv(x, W [3 x 3], b) + Conv(x, V [1 x 1], c) -> Conv(x, W + V in the middle, b + c)
    Conv(x, W, b) + (s x + o) -> Conv(x, W + s in the middle, b + o)

    A plain residual x + Conv(x) stays: runtimes add it for nothing, and ones among small weights are bad for int8.
    """

    name = "merge-branches"
    roots = frozenset({"Add"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        for one, other in operands(node):
            main = read_linear(only_made_for(one, node, "Conv"))
            if main is None:
                continue
            kernel = _kernel(main.node)
            found = _convolution(node, main, kernel, other) or _affine(node, main, kernel, other)
            if found is not None:
                return found
        return None

    def check(self, found: Found, graph: Editor) -> str | None:
        if found.weight is None:
            return "the windows of both branches do not line up"
        if (reason := refusal(found.main)) is not None:
            return reason
        old = edit.constant(found.main.node.inputs[1])
        assert old is not None
        both = (found.main.weight + found.weight, found.bias)
        fits = all(rounded(array, old.dtype) is not None for array in both)
        return None if fits else "the merged weight does not fit its type"

    def rewrite(self, found: Found, graph: Editor) -> None:
        assert found.weight is not None
        write(found.main, graph, found.main.weight + found.weight, found.bias)
        graph.replace(found.node.outputs[0], found.main.node.outputs[0])


def _kernel(node: ir.Node) -> tuple[int, ...]:
    weight = edit.constant(node.inputs[1])
    assert weight is not None
    return weight.shape[2:]


def _convolution(node: ir.Node, main: Linear, kernel: tuple[int, ...], value: ir.Value) -> Found | None:
    other = read_linear(only_made_for(value, node, "Conv"))
    if other is None or other.node.inputs[0] is not main.node.inputs[0] or other.outputs != main.outputs:
        return None
    if _kernel(other.node) > kernel or other.shape[:3] != main.shape[:3]:
        return None  # the larger window is the main one; as operands come in both orders, one of them is
    bias = sum((part for part in (main.bias, other.bias) if part is not None), np.zeros(main.outputs))
    offset = _offset(main.node, other.node, kernel)
    weight = None if offset is None else _embedded(other, kernel, offset)
    return Found(node, main, kernel, weight, bias)


def _affine(node: ir.Node, main: Linear, kernel: tuple[int, ...], value: ir.Value) -> Found | None:
    affine = read_affine(made_by(value, "BatchNormalization", "Mul", "Add"))
    if affine is None or affine.source is not main.node.inputs[0] or edit.only_reader(value) is not node:
        return None
    if main.inputs != main.outputs or any(s != 1 for s in main.node.attributes.get_ints("strides", ())):
        return None
    scale, offset = (
        channel_vector(array, main.rank, main.axis, main.outputs, default)
        for array, default in ((affine.scale, 1.0), (affine.offset, 0.0))
    )
    if scale is None or offset is None:
        return None
    middle = _middle(main.node, kernel)
    weight = None
    if middle is not None:
        weight = np.zeros_like(main.weight)
        index = np.arange(main.shape[1])
        weight[:, index, index, middle] = scale.reshape(main.shape[0], -1)
    return Found(node, main, kernel, weight, (0.0 if main.bias is None else main.bias) + offset)


def _geometry(node: ir.Node, dims: int) -> tuple[list[int], list[int], list[int]] | None:
    """Padding before and after, and strides; None when the operator chooses them, or skips pixels."""
    attributes = node.attributes
    if attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    if any(step != 1 for step in attributes.get_ints("dilations", ())):
        return None
    pads = list(attributes.get_ints("pads", [0] * (2 * dims)))
    return pads[:dims], pads[dims:], list(attributes.get_ints("strides", [1] * dims))


def _offset(main: ir.Node, other: ir.Node, kernel: tuple[int, ...]) -> tuple[int, ...] | None:
    """Where the other window begins inside of the main one; None when it is not all inside at every step."""
    mine, its = _geometry(main, len(kernel)), _geometry(other, len(kernel))
    if mine is None or its is None or mine[2] != its[2]:
        return None
    begins = tuple(a - b for a, b in zip(mine[0], its[0], strict=True))
    ends = tuple(a - b for a, b in zip(mine[1], its[1], strict=True))
    sizes = zip(begins, ends, kernel, _kernel(other), strict=True)
    return begins if all(b >= 0 and e >= 0 and b + size + e == k for b, e, k, size in sizes) else None


def _middle(node: ir.Node, kernel: tuple[int, ...]) -> int | None:
    """The tap that reads the pixel at the output's own place, when the size stays."""
    geometry = _geometry(node, len(kernel))
    if geometry is None or any(b + e + 1 != k for b, e, k in zip(geometry[0], geometry[1], kernel, strict=True)):
        return None
    return int(np.ravel_multi_index(tuple(geometry[0]), kernel))


def _embedded(other: Linear, kernel: tuple[int, ...], offset: tuple[int, ...]) -> np.ndarray:
    """The other weight [groups, outputs, inputs, taps] in a window of the main one's size."""
    shape = other.shape[:3]
    large = np.zeros((*shape, *kernel))
    window = tuple(slice(o, o + size) for o, size in zip(offset, _kernel(other.node), strict=True))
    large[:, :, :, *window] = other.weight.reshape(*shape, *_kernel(other.node))
    return large.reshape(*shape, -1)
