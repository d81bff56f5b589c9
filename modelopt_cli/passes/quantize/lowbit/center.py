"""What quantizing takes from the mean of an output, given back by the bias of the product that makes it.

Biases of single products are shifted as they are rounded; what adds up over a model's layers, through activations that
are not linear, is seen at its outputs only. Nagel et al. 2019 (arXiv 1906.04721) correct the mean of each layer; this
is the last one, by measurement.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.graph.edit import only_reader
from modelopt_cli.passes.quantize.lowbit.bias import INTEGER_PRODUCT, Bias, find_bias, integer_bias
from modelopt_cli.profiling.session import open_session, run

SAMPLES = 128
CLEARLY = 3.0  # standard errors: what is less may be chance


def center_outputs(model: ir.Model, original: ir.Model, data: Dataset) -> list[str]:
    """Shift the biases of the products that make outputs [batch, channels], where the mean error is beyond chance.

    Outputs with positions are left: calibration data may have padding there.

    Args:
        model: Quantized; edited in place.
        original: Float, with the same inputs and outputs.
        data: Calibration samples.

    Returns:
        Names of the outputs that were shifted.
    """
    found = {i: bias for i, value in enumerate(model.graph.outputs) if (bias := _bias(value)) is not None}
    if not found:
        return []
    exact, other = open_session(original, arena=False), open_session(model, arena=False)
    errors: dict[int, list[np.ndarray]] = {index: [] for index in found}
    for sample in data.take(SAMPLES):
        wanted, got = run(exact, dict(sample)), run(other, dict(sample))
        for index in found:
            lost = np.asarray(wanted[index] - got[index], np.float64)
            errors[index].append(lost.reshape(-1, len(found[index].array)))
    shifted = []
    for index, bias in found.items():
        rows = np.concatenate(errors[index])
        mean = rows.mean(axis=0)
        chance = rows.std(axis=0, ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else np.full(len(mean), np.inf)
        by = np.where(np.abs(mean) > CLEARLY * chance, mean, 0.0)
        if np.any(by) and np.isfinite(by).all():
            bias.shift(model.graph, by)
            shifted.append(str(model.graph.outputs[index].name))
    return shifted


def _bias(value: ir.Value) -> Bias | None:
    """The bias of the product that makes an output [batch, channels], when nothing else reads it."""
    shape, node = value.shape, value.producer()
    if shape is None or len(shape) != 2 or not isinstance(shape[1], int) or value.uses() or node is None:
        return None
    candidates = [node]
    if node.op_type == "Add":  # of a MatMul and its bias, or of two products
        made = [v.producer() for v in node.inputs if v is not None and only_reader(v) is node]
        candidates = [each for each in made if each is not None]
    for each in candidates:
        bias = integer_bias(each, shape[1]) if each.op_type == INTEGER_PRODUCT else None
        if each.op_type in ("Gemm", "MatMul"):
            bias = find_bias(each, shape[1])
        if bias is not None:
            return bias
    return None
