"""Two linear nodes in a row, without anything between them, are one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.affine import rounded
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.linear import Linear, read_linear, refusal

MAX_MACS = 1 << 32  # of the merging itself: a few seconds
ROOTS = frozenset({"Conv", "Gemm"})


@dataclass(frozen=True)
class Found:
    """The first and the second node."""

    first: Linear
    second: Linear


class MergeLinear(Rule[Found]):
    """Multiply the weights once, where that is no more work than both products.

    Conv(Conv(x, W, b), V [1 x 1], c) -> Conv(x, V W, V b + c)
    Conv(Conv(x, W [1 x 1], b), V, c) -> Conv(x, V W, V b + c)      (b = 0, or no padding)
    Gemm(Gemm(x, W, b), V, c) -> Gemm(x, W V, b V + c)

    Depthwise and grouped convolutions stay apart: that they are two is what makes them cheap.
    """

    name = "merge-linear"
    roots = ROOTS

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        source = node.inputs[0]
        before = None if source is None else source.producer()
        if before is None or before.op_type != node.op_type or source is None or edit.only_reader(source) is not node:
            return None
        first, second = read_linear(before), read_linear(node)
        if first is None or second is None or first.shape[0] != 1 or second.shape[0] != 1:
            return None
        if first.gain != 1.0 or second.gain != 1.0 or first.shape[1] != second.shape[2]:
            return None
        return Found(first, second) if _is_point(second) or _is_point(first) else None

    def check(self, found: Found, graph: Editor) -> str | None:
        first, second = found.first, found.second
        if not _is_point(second) and second.pads() and first.bias is not None and np.any(first.bias):
            return "the second one pads with zeros, which the bias of the first would not reach"
        taps = max(first.shape[3], second.shape[3])
        merged = second.outputs * first.inputs * taps
        if merged > first.stored.size + second.stored.size:
            return "the merged weight would be larger than both"
        if merged * first.outputs > MAX_MACS:
            return "the product of the weights would take too long"
        if (reason := refusal(first) or refusal(second)) is not None:
            return reason
        weight, bias = _merged(found)
        dtype = _dtype(first)
        fits = rounded(weight, dtype) is not None and rounded(bias, dtype) is not None
        return None if fits else "the merged weight does not fit its type"

    def rewrite(self, found: Found, graph: Editor) -> None:
        weight, bias = _merged(found)
        first, second = found.first.node, found.second.node
        point_second = _is_point(found.second)
        kernel = edit.constant((first if point_second else second).inputs[1])
        assert kernel is not None
        dtype, out = _dtype(found.first), second.outputs[0]
        if first.op_type == "Gemm":
            array, window = weight[0, :, :, 0], None
        else:
            array, window = weight.reshape(*weight.shape[1:3], *kernel.shape[2:]), first if point_second else second
        stem = second.inputs[1].name if second.inputs[1] is not None else out.name
        inputs = [
            first.inputs[0],
            graph.weight(array.astype(dtype), f"{stem}_merged"),
            graph.weight(bias.astype(dtype), f"{stem}_bias"),
        ]
        attributes: dict[str, object] = {"transB": 1} if window is None else {**window.attributes}
        result = graph.add(second.op_type, inputs, like=out, before=second, attributes=attributes)
        graph.replace(out, result)


def _is_point(linear: Linear) -> bool:
    """A matrix product at each point: no window, stride or padding."""
    if linear.node.op_type == "Gemm":
        return True
    strides = linear.node.attributes.get_ints("strides", ())
    return linear.shape[3] == 1 and not linear.pads() and all(stride == 1 for stride in strides)


def _merged(found: Found) -> tuple[np.ndarray, np.ndarray]:
    """Weight [1, outputs, inputs, taps] and bias [outputs]."""
    (first,), (second,) = found.first.weight, found.second.weight
    if second.shape[2] == 1:
        weight = np.einsum("om,mit->oit", second[:, :, 0], first, optimize=True)
    else:
        weight = np.einsum("omt,mi->oit", second, first[:, :, 0], optimize=True)
    bias = np.zeros(second.shape[0]) if found.second.bias is None else found.second.bias
    if found.first.bias is not None:
        bias = bias + second.sum(axis=2) @ found.first.bias
    return weight[None], bias


def _dtype(linear: Linear) -> np.dtype:
    array = edit.constant(linear.node.inputs[1])
    assert array is not None
    return array.dtype
