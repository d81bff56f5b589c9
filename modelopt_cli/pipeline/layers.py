"""Layer by layer: how its weights are stored, how many are zero, and how far its output is from the original's."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.graph.edit import only_reader
from modelopt_cli.pipeline.divergence import find_divergence
from modelopt_cli.profiling.names import node_label
from modelopt_cli.progress import Progress
from modelopt_cli.report.inside import Layer

SAMPLES = 4  # enough for a decibel; each is run with every inner tensor
_LONGEST_CHAIN = 6  # from a layer to the next tensor that the original has too
_MASKED_DB = 15.0  # what noise may lose on its way to the outputs
_WEIGHTED = frozenset(
    {
        "Conv", "ConvInteger", "ConvTranspose", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "GRU", "Gemm", "LSTM",
        "MatMul", "MatMulInteger", "MatMulIntegerToFloat", "QGemm", "QLinearConv", "QLinearMatMul", "RNN",
    }
)  # fmt: skip


def layers_of(original: ir.Model, result: ir.Model, data: Dataset | None, progress: Progress) -> tuple[Layer, ...]:
    """Every node of the result that multiplies by weights, in order.

    Args:
        original: What the result was made from.
        result: Not edited.
        data: Samples bound to the original; None leaves errors out.
        progress: Where to say how far it is.

    Raises:
        DataError: The data does not run.
        ModelError: A model does not load with its inner tensors as outputs.
    """
    found = None if data is None else find_divergence(original, result, data, samples=SAMPLES, progress=progress)
    errors = {} if found is None else _comparable({each.tensor: each.sqnr_db for each in found.tensors}, original)
    return tuple(layer for node in result.graph if (layer := _layer(node, errors)) is not None)


def _comparable(errors: dict[str, float], original: ir.Model) -> dict[str, float | None]:
    """None for tensors further off than what they lead to: channels left, or a scale went into the next weights."""
    ends = [errors[value.name] for value in original.graph.outputs if value.name in errors]
    floor = min(ends, default=0.0) - _MASKED_DB
    return {name: error if error >= floor else None for name, error in errors.items()}


def _layer(node: ir.Node, errors: dict[str, float | None]) -> Layer | None:
    found = _weight(node) if node.op_type in _WEIGHTED else None
    if found is None:
        return None
    weight, zero = found
    assert weight.const_value is not None
    dtype = weight.const_value.dtype.name.lower()
    error = _error(node, errors)
    if zero is None:
        return Layer(node_label(node), node.op_type, dtype, None, None, error)
    values = weight.const_value.numpy()
    zeros = float(np.mean(values == zero)) if values.size else 0.0
    return Layer(node_label(node), node.op_type, dtype, int(values.size), zeros, error)


def _weight(node: ir.Node) -> tuple[ir.Value, np.ndarray | float | None] | None:
    """The largest constant behind an input, and what stands for 0 in it; None for that where it is packed."""
    found = [each for value in node.inputs if value is not None for each in _constants(value, 0)]
    return max(found, key=lambda each: each[0].const_value.nbytes if each[0].const_value else 0, default=None)


def _constants(value: ir.Value, depth: int) -> list[tuple[ir.Value, np.ndarray | float | None]]:
    if value.const_value is not None:
        return [(value, 0.0 if depth == 0 else None)]
    node = value.producer()
    if node is None or depth > _LONGEST_CHAIN or not _is_constant(value, depth):
        return []
    if node.op_type == "DequantizeLinear" and depth == 0 and node.inputs[0] is not None:
        direct = node.inputs[0].const_value is not None
        return [(node.inputs[0], _zero_point(node))] if direct else _constants(node.inputs[0], depth + 1)
    return [each for read in node.inputs if read is not None for each in _constants(read, depth + 1)]


def _is_constant(value: ir.Value, depth: int) -> bool:
    """Whether only constants make it, as far as is looked."""
    node = value.producer()
    if value.const_value is not None:
        return True
    if node is None or depth > 2 * _LONGEST_CHAIN:
        return False
    return all(_is_constant(read, depth + 1) for read in node.inputs if read is not None)


def _zero_point(node: ir.Node) -> np.ndarray | float:
    """0 of a quantized weight, shaped to be held against it."""
    point = node.inputs[2] if len(node.inputs) > 2 else None
    weight = node.inputs[0]
    if point is None or point.const_value is None or weight is None or weight.const_value is None:
        return 0.0
    zero, rank = point.const_value.numpy(), len(weight.const_value.shape)
    if zero.ndim != 1 or zero.size == 1:
        return zero.reshape(-1)[:1] if zero.size == 1 else 0.0
    axis = node.attributes.get_int("axis", 1) % rank
    return zero.reshape([-1 if at == axis else 1 for at in range(rank)])


def _error(node: ir.Node, errors: dict[str, float | None]) -> float | None:
    """Of the first tensor from the layer on that both models have."""
    value: ir.Value | None = node.outputs[0]
    for _ in range(_LONGEST_CHAIN):
        if value is None or value.name in errors:
            break
        reader = only_reader(value)
        value = None if reader is None else reader.outputs[0]
    return None if value is None or value.name is None else errors.get(value.name)
