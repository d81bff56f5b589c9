"""Size and shape of a model: what is a parameter, which of them are zero, how many nodes of which kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import all_nodes, constant


@dataclass(frozen=True)
class ModelStats:
    """Size and shape of one model.

    Attributes:
        file_bytes: Bytes on disk, external data included.
        parameters: Elements of all float and quantized weights (scales, zero points and shapes left out).
        nonzero_parameters: Those that are not zero (for a quantized weight: not its zero point).
        nodes: Nodes of the main graph and of all subgraphs; Constant nodes count.
        ops: Count by operator type, most frequent first.
        opset: Version of the default domain.
        weight_bytes_by_dtype: ``{"float32": ..., "int8": ...}``.
        compressed_bytes: Of the file, by method (``gzip``, ``zstd``); empty where nothing was pruned.
    """

    file_bytes: int
    parameters: int
    nonzero_parameters: int
    nodes: int
    ops: dict[str, int]
    opset: int
    ir_version: int
    weight_bytes_by_dtype: dict[str, int]
    compressed_bytes: dict[str, int] = field(default_factory=dict)

    @property
    def sparsity(self) -> float:
        """Share of parameters that are zero."""
        return 1 - self.nonzero_parameters / self.parameters if self.parameters else 0.0


# Inputs that say how to compute, not with what: a constant that is read at these alone is no parameter.
_SETTING_INPUTS: Mapping[str, frozenset[int]] = {
    "QuantizeLinear": frozenset({1, 2}),
    "DequantizeLinear": frozenset({1, 2}),
    "QLinearConv": frozenset({1, 2, 4, 5, 6, 7}),
    "QLinearMatMul": frozenset({1, 2, 4, 5, 6, 7}),
    "QLinearAdd": frozenset({1, 2, 4, 5, 6, 7}),
    "QLinearMul": frozenset({1, 2, 4, 5, 6, 7}),
    "QLinearSigmoid": frozenset({1, 2, 3, 4}),
    "QLinearLeakyRelu": frozenset({1, 2, 3, 4}),
    "QLinearSoftmax": frozenset({1, 2, 3, 4}),
    "QLinearAveragePool": frozenset({1, 2, 3, 4}),
    "QLinearGlobalAveragePool": frozenset({1, 2, 3, 4}),
    "QGemm": frozenset({1, 2, 4, 5, 7, 8}),
    "ConvInteger": frozenset({2, 3}),
    "MatMulInteger": frozenset({2, 3}),
    "MatMulIntegerToFloat": frozenset({2, 3, 4, 5}),
    "DynamicQuantizeMatMul": frozenset({2, 3}),
    "DynamicQuantizeLSTM": frozenset({8, 9, 10, 11}),
    "MatMulNBits": frozenset({2, 3, 4}),
    "Clip": frozenset({1, 2}),
    "Dropout": frozenset({1, 2}),
    "Pad": frozenset({1, 2, 3}),
    "Resize": frozenset({1, 2, 3}),
    "Upsample": frozenset({1}),
    "OneHot": frozenset({1, 2}),
    "Range": frozenset({0, 1, 2}),
    "NonMaxSuppression": frozenset({2, 3, 4}),
}

# (operator, input of the weight) -> (input of its zero point, axis when that is a vector; None: attribute `axis`).
_ZERO_POINTS: Mapping[tuple[str, int], tuple[int, int | None]] = {
    ("DequantizeLinear", 0): (2, None),
    ("QLinearConv", 3): (5, 0),
    ("ConvInteger", 1): (3, 0),
    ("QLinearMatMul", 3): (5, -1),
    ("MatMulInteger", 1): (3, -1),
    ("MatMulIntegerToFloat", 1): (5, -1),
    ("DynamicQuantizeMatMul", 1): (3, -1),
    ("QGemm", 3): (5, -1),
    ("QLinearAdd", 3): (5, -1),
    ("QLinearMul", 3): (5, -1),
    ("DynamicQuantizeLSTM", 1): (9, -1),
    ("DynamicQuantizeLSTM", 2): (11, -1),
}

# 32-bit integers are shapes and indices, but for these: the quantized biases.
_BIAS_INPUTS = frozenset({("DequantizeLinear", 0), ("QLinearConv", 8), ("QGemm", 6)})

_DTYPE_NAMES: Mapping[str, str] = {"FLOAT": "float32", "DOUBLE": "float64"}

_WEIGHT_TYPES = frozenset(
    dtype
    for dtype in ir.DataType
    if dtype.name.startswith(("FLOAT", "BFLOAT", "DOUBLE", "INT2", "UINT2", "INT4", "UINT4"))
    or dtype.name in ("INT8", "UINT8", "INT16", "UINT16")
)


def model_stats(model: ir.Model, file_bytes: int, compressed: Mapping[str, int] | None = None) -> ModelStats:
    """Count parameters, zeros, nodes and bytes; ``file_bytes`` and ``compressed`` are what the caller measured.

    A parameter is an element of a constant (initializer or Constant node) of a floating or quantized type that at
    least one operator reads as data, or nobody reads: scales, zero points, bounds, pads and sizes are settings.
    """
    parameters = nonzero = 0
    sizes: Counter[str] = Counter()
    for value, tensor in weights(model):
        count, live = _count(value, tensor)
        parameters += count
        nonzero += live
        sizes[_DTYPE_NAMES.get(tensor.dtype.name, tensor.dtype.name.lower())] += tensor.nbytes
    ops = Counter(node.op_type for node in all_nodes(model))
    return ModelStats(
        file_bytes=file_bytes,
        parameters=parameters,
        nonzero_parameters=nonzero,
        nodes=ops.total(),
        ops=dict(sorted(ops.items(), key=lambda item: (-item[1], item[0]))),
        opset=model.opset_imports.get("", 0),
        ir_version=model.ir_version or 0,
        weight_bytes_by_dtype=dict(sizes.most_common()),
        compressed_bytes=dict(compressed or {}),
    )


def weights(model: ir.Model) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    """Every constant of the model that holds parameters, with its tensor."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None and _is_weight(value, value.const_value.dtype):
                yield value, value.const_value
    for node in all_nodes(model):
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            tensor = ir.convenience.get_const_tensor(node.outputs[0])
            if tensor is not None and _is_weight(node.outputs[0], tensor.dtype):
                yield node.outputs[0], tensor


def _is_weight(value: ir.Value, dtype: ir.DataType) -> bool:
    uses = [(use.node.op_type, use.idx) for use in value.uses()]
    if dtype == ir.DataType.INT32:
        return any(use in _BIAS_INPUTS for use in uses)
    if dtype not in _WEIGHT_TYPES:
        return False
    return not uses or not all(_is_setting(use.node, use.idx) for use in value.uses())


def _is_setting(node: ir.Node, index: int) -> bool:
    if index in _SETTING_INPUTS.get(node.op_type, ()):
        return True
    # Dynamic quantization multiplies the scale of the activations, found at run time, by that of the weights.
    others = (other for position, other in enumerate(node.inputs) if position != index and other is not None)
    return node.op_type == "Mul" and any(
        producer is not None and producer.op_type == "DynamicQuantizeLinear"
        for producer in (other.producer() for other in others)
    )


def _count(value: ir.Value, tensor: ir.TensorProtocol) -> tuple[int, int]:
    """Elements, and those that are not zero."""
    for use in value.uses():
        if use.node.op_type == "MatMulNBits" and use.idx == 1:
            return _count_packed(use.node, tensor)
    array = tensor.numpy()
    return array.size, int(np.count_nonzero(array != _zero_point(value, array)))


def _count_packed(node: ir.Node, tensor: ir.TensorProtocol) -> tuple[int, int]:
    """Several weights to a byte: the operator's attributes say how many there are."""
    bits = node.attributes.get_int("bits", 4)
    count = node.attributes.get_int("K", 0) * node.attributes.get_int("N", 0)
    if bits != 4 or (len(node.inputs) > 3 and node.inputs[3] is not None):
        return count, count  # zeros are judged for the implied zero point alone
    packed = tensor.numpy()
    zeros = np.count_nonzero((packed & 15) == 8) + np.count_nonzero((packed >> 4) == 8)
    return count, max(count - int(zeros), 0)


def _zero_point(value: ir.Value, array: np.ndarray) -> np.ndarray:
    """The value that means 0.0, shaped to broadcast against the weight."""
    zero = np.zeros((), array.dtype)
    for use in value.uses():
        key = (use.node.op_type, use.idx)
        if key not in _ZERO_POINTS:
            continue
        position, axis = _ZERO_POINTS[key]
        given = constant(use.node.inputs[position]) if len(use.node.inputs) > position else None
        if given is None:
            return zero
        if use.node.op_type == "DynamicQuantizeLSTM":
            return given.reshape(len(array) if given.size > 1 else 1, 1, -1)  # [directions] or [directions, 4 * hidden]
        return _broadcast(given, array, use.node.attributes.get_int("axis", 1) if axis is None else axis)
    return zero


def _broadcast(zero: np.ndarray, array: np.ndarray, axis: int) -> np.ndarray:
    if zero.size == 1:
        return zero.reshape(())
    if zero.ndim == array.ndim:  # blocked quantization: one zero point for a run of elements along the axis
        block = -(-array.shape[axis] // zero.shape[axis])
        return np.repeat(zero, block, axis=axis)[tuple(slice(0, size) for size in array.shape)]
    shape = [1] * array.ndim
    shape[axis] = zero.size
    return zero.reshape(shape)
