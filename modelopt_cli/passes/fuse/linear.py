"""Conv, ConvTranspose, Gemm and MatMul with constant weights as one thing: groups x outputs x inputs x taps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.affine import as_float, is_float, rounded
from modelopt_cli.passes.fuse.engine import Editor

LINEAR_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Linear:
    """A linear node and its weights in one canonical order.

    Attributes:
        node: The node; its data input is input 0.
        stored: The weights in their own type, [groups, outputs per group, inputs per group, taps].
        bias: float64 [outputs], or None when it has none.
        gain: What the node multiplies the product with (Gemm's alpha).
        rank: Rank of data and output.
        axis: The channel axis of data and output.
    """

    node: ir.Node
    stored: np.ndarray
    bias: np.ndarray | None
    gain: float
    rank: int
    axis: int

    @cached_property
    def weight(self) -> np.ndarray:
        """The weights in float64; made when asked, because most questions end at the shape."""
        return self.stored.astype(np.float64)

    @property
    def shape(self) -> tuple[int, ...]:
        """Groups, outputs per group, inputs per group, taps."""
        return self.stored.shape

    @property
    def outputs(self) -> int:
        """Output channels of all groups."""
        return int(self.shape[0] * self.shape[1])

    @property
    def inputs(self) -> int:
        """Input channels of all groups."""
        return int(self.shape[0] * self.shape[2])

    @property
    def takes_bias(self) -> bool:
        """Whether the operator has a bias input at all."""
        return self.node.op_type != "MatMul"

    def scaled_output(self, scale: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of ``(W x + b) * scale + offset``; both vectors are [outputs]."""
        groups, outputs = self.shape[:2]
        weight: np.ndarray = self.weight * scale.reshape(groups, outputs, 1, 1)
        bias = offset if self.bias is None else self.bias * scale + offset
        return weight, bias

    def scaled_input(self, scale: np.ndarray) -> np.ndarray:
        """Weight of ``W (x * scale) + b``; ``scale`` is [inputs]."""
        groups, _, inputs, _ = self.shape
        weight: np.ndarray = self.weight * scale.reshape(groups, 1, inputs, 1)
        return weight

    def offset_input(self, offset: np.ndarray) -> np.ndarray:
        """Bias of ``W (x + offset) + b`` away from any padding; ``offset`` is [inputs]."""
        groups, _, inputs, _ = self.shape
        added: np.ndarray = (self.weight.sum(axis=3) * offset.reshape(groups, 1, inputs)).sum(axis=2).reshape(-1)
        added = self.gain * added
        return added if self.bias is None else self.bias + added

    def pads(self) -> bool:
        """Whether some outputs see fewer inputs than others: padding, or a transposed convolution's overlaps."""
        if self.node.op_type == "ConvTranspose":
            return True
        if self.node.op_type != "Conv":
            return False
        if self.node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            return True
        return any(self.node.attributes.get_ints("pads", ()))


def read_linear(node: ir.Node | None) -> Linear | None:
    """The canonical form of a node, or None when its weights are computed or of another layout."""
    if node is None or node.domain not in ("", "ai.onnx") or node.op_type not in LINEAR_OPS:
        return None
    weight = edit.constant(node.inputs[1])
    if weight is None or not is_float(weight) or edit.constant(node.inputs[0]) is not None:
        return None
    if node.op_type in ("Conv", "ConvTranspose"):
        return _convolution(node, weight)
    if weight.ndim != 2:
        return None
    return _gemm(node, weight) if node.op_type == "Gemm" else _matmul(node, weight)


def refusal(linear: Linear) -> str | None:
    """Why the weights of this node must not be edited, or None."""
    weight = linear.node.inputs[1]
    assert weight is not None
    if len(list(weight.uses())) > 1:
        return "its weight is shared by several nodes"
    if weight.is_graph_output():
        return "its weight is an output of the model"
    return None


def write(linear: Linear, editor: Editor, weight: np.ndarray | None, bias: np.ndarray | None) -> None:
    """Give the node new weights (canonical order) and a new bias [outputs], rounded once; None leaves one as it is."""
    node = linear.node
    old = node.inputs[1]
    assert old is not None
    original = edit.constant(old)
    assert original is not None
    if weight is not None:
        array = rounded(_arranged(linear, weight, original.shape), original.dtype)
        assert array is not None, "fits() is asked before"
        editor.set_input(node, 1, editor.weight(array, f"{old.name}"))
    if bias is not None:
        array = rounded(bias, original.dtype)
        assert array is not None, "fits() is asked before"
        editor.set_input(node, 2, editor.weight(array, _bias_name(node)))
        if node.op_type == "Gemm" and node.attributes.get_float("beta", 1.0) != 1.0:
            editor.set_attribute(node, "beta", 1.0)


def fits(linear: Linear, weight: np.ndarray | None, bias: np.ndarray | None) -> bool:
    """Whether the new numbers are finite in the type of the weights (float16 ends at 65504)."""
    original = edit.constant(linear.node.inputs[1])
    assert original is not None
    return all(array is None or rounded(array, original.dtype) is not None for array in (weight, bias))


def _bias_name(node: ir.Node) -> str:
    old = node.inputs[2] if len(node.inputs) > 2 else None
    return old.name if old is not None and old.name else f"{node.outputs[0].name}_bias"


def _convolution(node: ir.Node, weight: np.ndarray) -> Linear | None:
    groups = node.attributes.get_int("group", 1)
    if weight.ndim < 3 or weight.shape[0] % groups:
        return None
    canonical = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    if node.op_type == "ConvTranspose":
        canonical = canonical.transpose(0, 2, 1, 3)
    known, bias = _bias(node, canonical.shape[0] * canonical.shape[1])
    return Linear(node, canonical, bias, 1.0, weight.ndim, 1) if known else None


def _gemm(node: ir.Node, weight: np.ndarray) -> Linear | None:
    if node.attributes.get_int("transA", 0):
        return None
    canonical = (weight if node.attributes.get_int("transB", 0) else weight.T)[None, :, :, None]
    known, bias = _bias(node, canonical.shape[1])
    if bias is not None:
        bias = bias * node.attributes.get_float("beta", 1.0)
    return Linear(node, canonical, bias, node.attributes.get_float("alpha", 1.0), 2, 1) if known else None


def _matmul(node: ir.Node, weight: np.ndarray) -> Linear | None:
    data = node.inputs[0]
    dims = None if data is None or data.shape is None else len(data.shape)
    if dims is None or dims < 2:
        return None
    return Linear(node, weight.T[None, :, :, None], None, 1.0, dims, dims - 1)


def _bias(node: ir.Node, outputs: int) -> tuple[bool, np.ndarray | None]:
    """Whether the bias is known as one number per output, and the numbers."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return True, None
    array = as_float(edit.constant(value))
    if array is None or array.size not in (1, outputs) or (array.ndim == 2 and array.shape[0] != 1 != outputs):
        return False, None
    return True, np.broadcast_to(array.reshape(-1), (outputs,))


def _arranged(linear: Linear, weight: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if linear.node.op_type == "Conv":
        return weight.reshape(shape)
    if linear.node.op_type == "ConvTranspose":
        return weight.transpose(0, 2, 1, 3).reshape(shape)
    matrix = weight[0, :, :, 0]
    return matrix if linear.node.attributes.get_int("transB", 0) else matrix.T
