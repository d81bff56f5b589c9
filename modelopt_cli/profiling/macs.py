"""Multiply-accumulates of one node, from the shapes it really ran with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

Shape = Sequence[int]
Shapes = Sequence[Shape]


def node_macs(op_type: str, inputs: Shapes, outputs: Shapes, *, equation: str = "") -> int:
    """Multiply-accumulates of one run of a node; 0 for operators that have none to speak of.

    Args:
        op_type: ONNX or onnxruntime operator; the fused and quantized forms are known.
        inputs: Shapes of the inputs that are there, in order (left-out optional ones skipped).
        outputs: Shapes of the outputs that are there.
        equation: Of an Einsum.
    """
    if op_type == "Einsum":
        return _einsum(inputs, equation)
    count = _COUNTERS.get(op_type)
    return count(inputs, outputs) if count is not None else 0


def _conv(weight: int) -> Callable[[Shapes, Shapes], int]:
    """Each output element sums over one filter, W[m] = [channels / groups, kernel...]; any layout of X and Y."""
    return lambda inputs, outputs: math.prod(outputs[0]) * math.prod(inputs[weight][1:])


def _conv_transpose(inputs: Shapes, outputs: Shapes) -> int:
    """Each input element is spread over W[c] = [outputs / groups, kernel...]."""
    return math.prod(inputs[0]) * math.prod(inputs[1][1:])


def _matmul(inputs: Shapes, outputs: Shapes) -> int:
    """Each output element sums over the axis of A that the output lacks; A may be transposed in fused forms."""
    a, y = inputs[0], outputs[0]
    if len(a) < 2 or len(y) < 2:
        return math.prod(y) * a[-1]
    return math.prod(y) * (a[-1] if a[-2] == y[-2] else a[-2])


def _gemm(inputs: Shapes, outputs: Shapes) -> int:
    rows = outputs[0][0]
    return math.prod(outputs[0]) * (math.prod(inputs[0]) // rows if rows else 0)


def _recurrent(inputs: Shapes, outputs: Shapes) -> int:
    """Every step of every sequence passes W and R once, in both directions: X is [steps, batch, features]."""
    steps, batch = inputs[0][:2]
    return steps * batch * (math.prod(inputs[1]) + math.prod(inputs[2]))


def _packed_attention(inputs: Shapes, outputs: Shapes) -> int:
    """com.microsoft Attention: X [batch, length, hidden] times W [hidden, 3 * inner], then scores and their mix."""
    batch, length, _ = inputs[0]
    inner = inputs[1][1] // 3
    return batch * length * math.prod(inputs[1]) + 2 * batch * length * length * inner


def _attention(inputs: Shapes, outputs: Shapes) -> int:
    """Q, K, V as [batch, length, heads * size] or [batch, heads, length, size]: Q times K, then times V."""
    q, k = inputs[0], inputs[1]
    v = inputs[2] if len(inputs) > 2 else k
    return math.prod(q) * k[-2] + math.prod(q[:-1]) * k[-2] * v[-1]


def _einsum(inputs: Shapes, equation: str) -> int:
    """The product of all distinct indices."""
    sizes: dict[str, int] = {}
    for term, shape in zip(equation.replace(" ", "").split("->")[0].split(","), inputs, strict=False):
        sizes.update(zip(term, shape, strict=False))
    return math.prod(sizes.values()) if sizes else 0


_COUNTERS: Mapping[str, Callable[[Shapes, Shapes], int]] = {
    "Conv": _conv(1),
    "ConvInteger": _conv(1),
    "FusedConv": _conv(1),
    "NhwcConv": _conv(1),
    "NhwcFusedConv": _conv(1),
    "QLinearConv": _conv(3),
    "ConvTranspose": _conv_transpose,
    "ConvTransposeWithDynamicPads": _conv_transpose,
    "MatMul": _matmul,
    "FusedMatMul": _matmul,
    "FusedMatMulActivation": _matmul,
    "TransposeMatMul": _matmul,
    "DynamicQuantizeMatMul": _matmul,
    "MatMulInteger": _matmul,
    "MatMulInteger16": _matmul,
    "MatMulIntegerToFloat": _matmul,
    "MatMulNBits": _matmul,
    "MatMulBnb4": _matmul,
    "QLinearMatMul": _matmul,
    "Gemm": _gemm,
    "FusedGemm": _gemm,
    "QGemm": _gemm,
    "RNN": _recurrent,
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "DynamicQuantizeLSTM": _recurrent,
    "Attention": _attention,
    "MultiHeadAttention": _attention,
    "QAttention": _packed_attention,
}
