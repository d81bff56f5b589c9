"""Weights and biases of Conv, Gemm and MatMul as integers behind a DequantizeLinear."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import add_weight, constant, fresh_name
from modelopt_cli.passes.quantize.kinds import weight_axis
from modelopt_cli.passes.quantize.params import QuantParams
from modelopt_cli.passes.quantize.weights import QuantizedWeight, channel_shape, integer_range, round_weight

INT32_MAX = 2**31 - 1

Quantizer = Callable[[ir.Node, np.ndarray, int | None], QuantizedWeight]
"""(node, its weight, channel axis) -> integers; how the scale is chosen and what is rounded where."""


Shift = Callable[[ir.Node, np.ndarray, QuantizedWeight], np.ndarray | None]
"""(node, float weight, its integers) -> what to add to the bias, [outputs], or None."""


class WeightWriter:
    """Quantizes each weight once, however many nodes share it.

    Args:
        graph: Where the initializers go.
        quantizer: Turns a float weight into integers.
        reduce_range: Whether weights have 7 bits.
        shift: What is added to the bias to make up for the rounding of the weight.
        float_bias: Whether biases stay float, for targets that take no integer ones.
    """

    def __init__(
        self,
        graph: ir.Graph,
        quantizer: Quantizer,
        *,
        reduce_range: bool = False,
        shift: Shift | None = None,
        float_bias: bool = False,
    ) -> None:
        self._graph = graph
        self._quantizer = quantizer
        self._reduce_range = reduce_range
        self._shift = shift
        self._float_bias = float_bias
        self._written: dict[tuple[ir.Value, int | None], tuple[ir.Value, QuantizedWeight]] = {}

    def write(self, node: ir.Node, activation: QuantParams) -> None:
        """Let ``node`` read its weight and bias through DequantizeLinear.

        Args:
            node: Conv, Gemm or MatMul with a constant weight.
            activation: Grid of its input: the bias is in steps of input scale times weight scale.
        """
        axis = weight_axis(node)
        weight = node.inputs[1]
        assert weight is not None
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        floats, found = self._weight(node, weight, axis, bias, activation)
        array = constant(weight)
        shift = self._shift(node, array, found) if self._shift is not None and array is not None else None
        node.replace_input_with(1, floats)
        if shift is not None and node.op_type != "MatMul":
            bias = shift if bias is None else bias.reshape(-1) + shift
        if bias is not None and not (self._float_bias and shift is None):
            floats = self._bias(node, bias, found.scale, activation)
            if len(node.inputs) < 3:
                node.resize_inputs(3)
            node.replace_input_with(2, floats)

    def _weight(
        self, node: ir.Node, weight: ir.Value, axis: int | None, bias: np.ndarray | None, activation: QuantParams
    ) -> tuple[ir.Value, QuantizedWeight]:
        key = (weight, axis)
        if key not in self._written:
            array = constant(weight)
            assert array is not None
            found = _room_for_bias(self._quantizer(node, array, axis), array, bias, activation, self._reduce_range)
            stem = weight.name or "weight"
            inputs = [
                add_weight(self._graph, f"{stem}.q", found.values),
                add_weight(self._graph, f"{stem}.scale", found.scale),
                add_weight(self._graph, f"{stem}.zero", found.zero_point),
            ]
            self._written[key] = self._dequantize(node, inputs, axis, array.shape, f"{stem}.dq"), found
        return self._written[key]

    def _bias(self, node: ir.Node, bias: np.ndarray, weight_scale: np.ndarray, activation: QuantParams) -> ir.Value:
        if self._float_bias:
            return add_weight(self._graph, "bias.shifted", bias.reshape(-1).astype(np.float32))
        scale = np.asarray(weight_scale * np.float32(activation.scale), np.float32)
        steps = np.rint(bias.reshape(-1).astype(np.float64) / scale)
        values = np.clip(steps, -INT32_MAX, INT32_MAX).astype(np.int32)
        source = node.inputs[2] if len(node.inputs) > 2 else None
        stem = (source.name if source is not None else None) or "bias"
        inputs = [add_weight(self._graph, f"{stem}.q", values), add_weight(self._graph, f"{stem}.scale", scale)]
        return self._dequantize(node, inputs, 0 if scale.ndim else None, values.shape, f"{stem}.dq")

    def _dequantize(
        self, before: ir.Node, inputs: list[ir.Value], axis: int | None, shape: tuple[int, ...], stem: str
    ) -> ir.Value:
        attributes = {} if axis is None else {"axis": axis}
        node = ir.node("DequantizeLinear", inputs, attributes, name=fresh_name(self._graph, stem))
        output = node.outputs[0]
        output.name = fresh_name(self._graph, f"{stem}.out")
        output.shape, output.type = ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
        self._graph.insert_before(before, node)
        return output


def _room_for_bias(
    found: QuantizedWeight,
    array: np.ndarray,
    bias: np.ndarray | None,
    activation: QuantParams,
    reduce_range: bool,
) -> QuantizedWeight:
    """Coarser steps for channels of tiny weights whose bias would not fit 32 bits otherwise."""
    if bias is None:
        return found
    needed = (np.abs(bias.reshape(-1)) / (np.float64(activation.scale) * (INT32_MAX // 2))).astype(np.float32)
    needed = needed if found.scale.ndim else np.asarray(needed.max(initial=0), np.float32)
    if np.all(found.scale >= needed):
        return found
    scale = np.maximum(found.scale, needed)
    low, high = integer_range(8, symmetric=found.values.dtype == np.int8, reduce_range=reduce_range)
    coarse = round_weight(array, scale, found.zero_point, axis=found.axis, low=low, high=high)
    kept = np.broadcast_to((found.scale >= needed).reshape(channel_shape(array.ndim, found.axis)), array.shape)
    return QuantizedWeight(np.where(kept, found.values, coarse.values), scale, found.zero_point, found.axis)
