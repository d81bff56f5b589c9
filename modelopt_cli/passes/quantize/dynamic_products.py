"""What run-time quantization can take: products of a computed tensor with a constant weight."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import constant, only_reader
from modelopt_cli.graph.shapes import rank
from modelopt_cli.passes.base import Skip

SMALLEST_SIDE = 16  # below it the integer kernel's blocks are mostly padding, and quantizing costs more than it saves


@dataclass(frozen=True, eq=False)
class Product:
    """``output = source @ weight + bias``, as a MatMul or Gemm with the Add that follows it.

    Attributes:
        node: The MatMul or Gemm.
        source: The computed operand, [..., K].
        weight: The constant behind the other operand; read it by `matrix`.
        transposed: Whether the constant is [N, K].
        alpha: Factor of the product (Gemm).
        bias: float32 [N], or None.
        output: What stands for the result: of the Add when its constant is `bias`.
    """

    node: ir.Node
    source: ir.Value
    weight: ir.Value
    transposed: bool
    alpha: float
    bias: np.ndarray | None
    output: ir.Value

    def matrix(self) -> np.ndarray:
        """The weight as float32 [K, N], alpha included; never to be written into."""
        array = constant(self.weight)
        assert array is not None, "find_product saw a constant"
        array = array.T if self.transposed else array
        return array if self.alpha == 1.0 else np.asarray(array * np.float32(self.alpha))

    @property
    def channels(self) -> int:
        """K: the length of an input row."""
        shape = self.weight.const_value.shape if self.weight.const_value is not None else self.matrix().shape
        size = shape[1] if self.transposed else shape[0]
        assert isinstance(size, int)
        return size

    @property
    def is_tied(self) -> bool:
        """Whether others read the weight too: it must then stay one array."""
        return len(self.weight.uses()) > 1


def find_product(node: ir.Node) -> Product | Skip:
    """The product that a MatMul or Gemm computes, or why it must stay float."""
    source, weight = node.inputs[0], node.inputs[1]
    reason = _refusal(node, source, weight)
    if reason is not None:
        return Skip(node.name or node.op_type, reason)
    assert source is not None and weight is not None and weight.const_value is not None
    if node.op_type == "Gemm":
        bias, output = _gemm_bias(node), node.outputs[0]
    else:
        bias, output = _bias_after(node)
    return Product(
        node,
        source,
        weight,
        _int(node, "transB") == 1,
        _float(node, "alpha") if node.op_type == "Gemm" else 1.0,
        bias,
        output,
    )


def group_by_source(products: Iterable[Product]) -> list[list[Product]]:
    """Products that read one tensor in one graph, together: they share its quantization. Order is kept."""
    groups: dict[tuple[ir.Value, ir.Graph | ir.Function | None], list[Product]] = {}
    for product in products:
        groups.setdefault((product.source, product.node.graph), []).append(product)
    return list(groups.values())


def may_merge(products: Sequence[Product]) -> bool:
    """Whether products of one source may become one: no weight is read elsewhere, and all or none are transposed."""
    return len(products) > 1 and not any(product.is_tied for product in products)


def _refusal(node: ir.Node, source: ir.Value | None, weight: ir.Value | None) -> str | None:
    if source is None or weight is None:
        return "an input is missing"
    array = None if weight.const_value is None and weight.producer() is None else constant(weight)
    if array is None:
        return "both operands are computed at run time" if constant(source) is None else "the weight is on the left"
    if constant(source) is not None:
        return "both operands are constant"
    if array.dtype != np.float32:
        return f"its weight is {array.dtype}, not float32"
    if array.ndim != 2:
        return f"its weight has {array.ndim} dimensions, not 2"
    if min(array.shape) < SMALLEST_SIDE:
        return f"a side of its weight is below {SMALLEST_SIDE}: integer kernels lose"
    if rank(source) == 1:
        return "its input is a single vector"
    return _gemm_refusal(node, array) if node.op_type == "Gemm" else None


def _gemm_refusal(node: ir.Node, weight: np.ndarray) -> str | None:
    if _int(node, "transA") == 1:
        return "its input is transposed"
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return None
    bias = constant(node.inputs[2])
    columns = weight.shape[0] if _int(node, "transB") == 1 else weight.shape[1]
    if bias is None:
        return "its bias is computed at run time"
    return None if bias.size in (1, columns) and bias.shape[-1:] in ((), (1,), (columns,)) else "its bias is a matrix"


def _gemm_bias(node: ir.Node) -> np.ndarray | None:
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is None:
        return None
    weight = constant(node.inputs[1])
    assert weight is not None
    columns = weight.shape[0] if _int(node, "transB") == 1 else weight.shape[1]
    return np.broadcast_to(np.asarray(bias, np.float32).reshape(-1) * np.float32(_float(node, "beta")), (columns,))


def _bias_after(node: ir.Node) -> tuple[np.ndarray | None, ir.Value]:
    """The vector that the only reader adds, with the Add's output; otherwise None and the product's own output."""
    output = node.outputs[0]
    add = only_reader(output)
    if add is None or add.op_type != "Add" or add.domain != "" or add.graph is not node.graph:
        return None, output
    other = add.inputs[0] if add.inputs[1] is output else add.inputs[1]
    bias, weight = constant(other), constant(node.inputs[1])
    assert weight is not None
    if bias is None or bias.dtype != np.float32 or bias.shape != (weight.shape[1],):
        return None, output
    return bias, add.outputs[0]


def _int(node: ir.Node, name: str) -> int:
    attribute = node.attributes.get(name)
    return 0 if attribute is None else attribute.as_int()


def _float(node: ir.Node, name: str) -> float:
    attribute = node.attributes.get(name)
    return 1.0 if attribute is None else attribute.as_float()
