"""Which layers of a 2:4 network TensorRT can run with sparse kernels, and which of them gain.

Eligible are Conv of one group and products with a constant matrix whose every four neighbouring inputs hold two zeros;
TensorRT then times sparse against dense kernels. Sparse ones win above about 256 inputs and outputs, taps counted
(https://github.com/NVIDIA/TensorRT/issues/3849), and are not picked at all where Q/DQ stand around the layer
(https://github.com/NVIDIA/TensorRT/issues/4694): quantization and 2:4 do not add up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import constant
from modelopt_cli.passes.prune.linear import ConvLayer, LinearLayer, LstmLayer, linear_layer
from modelopt_cli.passes.prune.patterns import Pattern
from modelopt_cli.passes.prune.weights import Weight

WORTH = 256
TWO_OF_FOUR = (2, 4)


def kernel_notice(weights: Sequence[Weight], pattern: Pattern) -> dict[str, str] | None:
    """How many layers TensorRT may run sparse; None for other patterns."""
    if (pattern.keep, pattern.of) != TWO_OF_FOUR:
        return None
    layers = [linear_layer(weight.nodes[0], [weight]) for weight in weights]
    reasons = [layer if isinstance(layer, str) else refusal(layer) for layer in layers]
    eligible = [
        layer for layer, reason in zip(layers, reasons, strict=True) if isinstance(layer, LinearLayer) and not reason
    ]
    worth = sum(_is_large(layer) for layer in eligible)
    message = (
        f"2:4: TensorRT may run {len(eligible)} of {len(layers)} layers with sparse kernels, {worth} of them are large "
        "enough to gain; other runtimes gain nothing"
    )
    return {"code": "sparse-kernels", "message": message, "advice": "do not quantize: it picks none between Q/DQ"}


def refusal(layer: LinearLayer) -> str:
    """Why TensorRT has no sparse kernel for a layer; empty when it has."""
    if isinstance(layer, LstmLayer):
        return "recurrent layers have no sparse kernels"
    groups, _, columns = layer.matrix().shape
    if isinstance(layer, ConvLayer) and groups > 1:
        return "grouped convolutions have no sparse kernels"
    return "" if columns % TWO_OF_FOUR[1] == 0 else f"{columns} inputs are no multiple of four"


def quantized_in_vain(model: ir.Model) -> list[str]:
    """Layers whose 2:4 weights stand behind a DequantizeLinear: TensorRT runs them dense."""
    found = []
    for node in model.graph:
        behind = node.inputs[1].producer() if node.op_type in ("Conv", "MatMul", "Gemm") and node.inputs[1] else None
        array = constant(behind.inputs[0]) if behind is not None and behind.op_type == "DequantizeLinear" else None
        if array is not None and _is_two_of_four(node, array):
            found.append(node.name or node.op_type)
    return found


def _is_two_of_four(node: ir.Node, array: np.ndarray) -> bool:
    turned = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1
    inputs_last = np.moveaxis(array, 1, -1) if node.op_type == "Conv" else array if turned else array.T
    if inputs_last.shape[-1] % TWO_OF_FOUR[1]:
        return False
    return bool((np.count_nonzero(inputs_last.reshape(-1, TWO_OF_FOUR[1]), axis=1) <= TWO_OF_FOUR[0]).all())


def _is_large(layer: LinearLayer) -> bool:
    _, rows, columns = layer.matrix().shape
    return int(rows) >= WORTH and int(columns) >= WORTH
