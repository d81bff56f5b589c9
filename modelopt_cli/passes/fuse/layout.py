"""How an operator says the same of values whose axes are in another order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import rank
from modelopt_cli.passes.fuse.engine import Editor
from modelopt_cli.passes.fuse.linear import read_linear, refusal
from modelopt_cli.passes.fuse.pattern import STANDARD

UNARY = frozenset(
    {"Abs", "Cast", "Ceil", "Celu", "Clip", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Log"}
    | {"Identity", "LeakyRelu", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sqrt"}
    | {"Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu"}
)
JOINING = frozenset(
    {"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu", "Where", "Sum", "Mean", "And", "Or", "Xor", "Equal"}
    | {"Greater", "Less", "GreaterOrEqual", "LessOrEqual"}
)
REDUCING = frozenset({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"})
TO_CHANNELS_LAST = (0, 2, 3, 1)

Perm = tuple[int, ...]  # as of Transpose: axis i of the transposed value is axis perm[i] of the plain one


@dataclass(frozen=True)
class Step:
    """An operator over plain values instead of transposed ones.

    Attributes:
        op_type: May be another operator.
        inputs: For each input a position among the node's inputs whose plain value is meant, or a constant, or None.
        attributes: All of them.
        keeps_order: Whether its output is transposed in the original; a reduced one may have no axes out of order.
    """

    op_type: str
    inputs: tuple[int | np.ndarray | None, ...]
    attributes: dict[str, object]
    keeps_order: bool = True


def plain_step(node: ir.Node, perm: Perm, transposed: Callable[[ir.Value], bool], graph: Editor) -> Step | None:
    """The node over plain values, when those of its inputs that are not constant are all transposed by ``perm``."""
    if node.domain not in STANDARD or len(node.outputs) != 1 or graph.is_protected(node):
        return None
    if node.op_type in UNARY:
        others = [edit.constant(value) if value is not None else None for value in node.inputs[1:]]
        known = all(v is None or a is not None for v, a in zip(node.inputs[1:], others, strict=True))
        return Step(node.op_type, (0, *others), {**node.attributes}) if known and _is(node, 0, transposed) else None
    if node.op_type in JOINING:
        return _joining(node, perm, transposed)
    if node.op_type == "Concat":
        axis = node.attributes.get_int("axis", 0) % len(perm)
        ready = all(_is(node, index, transposed) for index in range(len(node.inputs)))
        return Step("Concat", tuple(range(len(node.inputs))), {"axis": perm[axis]}) if ready else None
    if not _is(node, 0, transposed):
        return None
    if node.op_type in REDUCING:
        return _reducing(node, perm, graph)
    if node.op_type == "MatMul" and perm == TO_CHANNELS_LAST:
        return _product(node)
    return _padding(node, perm, graph) if node.op_type == "Pad" else None


def _is(node: ir.Node, index: int, transposed: Callable[[ir.Value], bool]) -> bool:
    value = node.inputs[index]
    return value is not None and transposed(value)


def _joining(node: ir.Node, perm: Perm, transposed: Callable[[ir.Value], bool]) -> Step | None:
    inputs: list[int | np.ndarray | None] = []
    for index, value in enumerate(node.inputs):
        array = edit.constant(value)
        if array is not None and array.ndim <= len(perm):
            inputs.append(_transposed_back(array, perm))
        elif value is not None and rank(value) == len(perm) and transposed(value):
            inputs.append(index)
        else:
            return None
    return Step(node.op_type, tuple(inputs), {**node.attributes})


def _transposed_back(array: np.ndarray, perm: Perm) -> np.ndarray:
    """A constant beside a transposed value as one beside the plain value."""
    if array.size == 1:
        return array
    full = array.reshape((1,) * (len(perm) - array.ndim) + array.shape)
    plain = full.transpose(np.argsort(perm))
    leading = next((axis for axis, size in enumerate(plain.shape) if size != 1), len(perm))
    return plain.reshape(plain.shape[leading:])


def _reducing(node: ir.Node, perm: Perm, graph: Editor) -> Step | None:
    given = node.inputs[1] if len(node.inputs) > 1 else None
    axes = graph.shapes.numbers(given) if given is not None else tuple(node.attributes.get_ints("axes", ()))
    if not axes:
        return None
    plain = sorted(perm[axis % len(perm)] for axis in axes)
    attributes: dict[str, object] = {name: value for name, value in node.attributes.items() if name != "axes"}
    kept = [axis for axis in perm if axis not in plain]
    keeps_axes = bool(node.attributes.get_int("keepdims", 1))
    if not keeps_axes and kept != sorted(kept):
        return None
    if given is None:
        return Step(node.op_type, (0,), {**attributes, "axes": plain}, keeps_axes)
    return Step(node.op_type, (0, np.array(plain, np.int64)), attributes, keeps_axes)


def _product(node: ir.Node) -> Step | None:
    """A matrix product along the last axis is a 1 x 1 convolution where that axis is the channels."""
    linear = read_linear(node)
    if linear is None or refusal(linear) is not None or linear.rank != len(TO_CHANNELS_LAST):
        return None
    weight = edit.constant(node.inputs[1])
    assert weight is not None
    return Step("Conv", (0, weight.T[:, :, None, None]), {"kernel_shape": [1, 1]})


def _padding(node: ir.Node, perm: Perm, graph: Editor) -> Step | None:
    pads = graph.shapes.numbers(node.inputs[1]) if len(node.inputs) > 1 else None
    value = node.inputs[2] if len(node.inputs) > 2 else None
    fill = None if value is None else edit.constant(value)
    if pads is None or len(node.inputs) > 3 or (value is not None and fill is None):
        return None
    order = np.argsort(perm)
    halves = np.array(pads, np.int64).reshape(2, len(perm))[:, order]
    return Step("Pad", (0, halves.reshape(-1), *((fill,) if fill is not None else ())), {**node.attributes})


def inverse(perm: Sequence[int]) -> Perm:
    """The permutation that undoes another."""
    return tuple(int(axis) for axis in np.argsort(perm))
