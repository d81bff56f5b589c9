"""Outlier channels of a product's input, scaled down into the weight: one scale then fits all channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import add_node, add_weight, constant, fresh_name
from modelopt_cli.passes.quantize.dynamic_stats import InputStatistics

STRENGTHS = (0.7, 1.0)  # exponents of the migration
THRESHOLDS = 20  # channel magnitudes above which a channel is scaled, tried from the median to the largest
LEAST_GAIN = 2.0  # noise power before / after that is worth one more elementwise operator
LEAST_GAIN_FOLDED = 1.1  # when a LayerNormalization takes the scales for nothing
SECOND_ORDER = 0.4  # share of the rounding noise of weights that second-order rounding leaves, typically


def choose_scales(
    known: InputStatistics, matrices: Sequence[np.ndarray], *, least_gain: float = LEAST_GAIN
) -> np.ndarray | None:
    """What to divide each input channel by (and multiply its weight rows with), or None when little is gained.

    SmoothQuant (Xiao et al. 2022, arXiv 2211.10438) migrates all channels by one exponent. Here only channels above a
    threshold move, and threshold and exponent are those of least expected noise at the product's output: that of the
    input, with the range that each sample has at run time, plus that of the weight.

    Args:
        known: Statistics of the input, K channels.
        matrices: The float weights [K, N] that read it.
        least_gain: Required ratio of the noise power without to that with the scales.

    Returns:
        float32 [K], at least 1, powers of nothing in particular.
    """
    weight = np.concatenate(matrices, axis=1)
    magnitude = np.maximum(known.high, -known.low).max(axis=0)
    ones = np.ones(len(magnitude), np.float32)
    best, least = ones, _noise(known, weight, ones)
    before = least
    for scales in _candidates(magnitude):
        noise = _noise(known, weight, scales)
        if noise < least:
            best, least = scales, noise
    return best if before > least * least_gain else None


def apply_scales(model: ir.Model, source: ir.Value, scales: np.ndarray, readers: Sequence[ir.Node]) -> ir.Value:
    """The tensor divided by ``scales`` along its last axis, for the products ``readers`` that come next.

    A LayerNormalization that nobody else reads takes the scales into its weights; otherwise a Mul is added.
    """
    normalization = foldable_normalization(source, readers)
    if normalization is None:
        inverse = add_weight(model.graph, f"{source.name}_unscale", (1 / scales).astype(np.float32))
        before = readers[0]
        assert isinstance(before.graph, ir.Graph)
        stem = fresh_name(model.graph, f"{source.name}_smooth")
        return add_node(
            before.graph, before, "Mul", [source, inverse], stem=stem, dtype=source.dtype, shape=source.shape
        )
    for index, value in list(enumerate(normalization.inputs))[1:3]:
        array = constant(value)
        assert array is not None and value is not None
        scaled = add_weight(model.graph, f"{value.name}_smooth", np.asarray(array / scales, np.float32))
        normalization.replace_input_with(index, scaled)
    return source


def foldable_normalization(source: ir.Value, readers: Sequence[ir.Node]) -> ir.Node | None:
    """The LayerNormalization that can take the scales of ``source``: its weights are constant vectors over the last
    axis and it is read by ``readers`` alone.
    """
    node = source.producer()
    if node is None or node.op_type != "LayerNormalization" or source.is_graph_output():
        return None
    if any(use.node not in readers for use in source.uses()):
        return None
    arrays = [constant(value) for value in node.inputs[1:3]]
    if any(array is None or array.ndim != 1 for array in arrays):
        return None
    axis = node.attributes.get("axis")
    return node if axis is None or axis.as_int() in (-1, (len(source.shape) if source.shape else 0) - 1) else None


def _candidates(magnitude: np.ndarray) -> list[np.ndarray]:
    occupied = magnitude[magnitude > 0]
    if not occupied.size or occupied.max() <= np.median(occupied):
        return []
    thresholds = np.geomspace(np.median(occupied), occupied.max(), THRESHOLDS, endpoint=False)
    over = [np.maximum(magnitude / threshold, 1) for threshold in thresholds]
    return [np.asarray(ratio**strength, np.float32) for ratio in over for strength in STRENGTHS]


def _noise(known: InputStatistics, weight: np.ndarray, scales: np.ndarray) -> float:
    """Expected squared error of an output row: uniform rounding noise of the input plus that of the weight."""
    width = (known.high / scales).max(axis=1) - (known.low / scales).min(axis=1)
    rows = np.einsum("kn,kn->k", weight, weight) * scales**2
    from_input = float(np.mean((width / 255) ** 2)) / 12 * float(rows.sum())
    steps = np.abs(weight * scales[:, None]).max(axis=0) / 127
    from_weight = float((steps**2).sum()) / 12 * float((known.mean_square / scales**2).sum())
    return from_input + SECOND_ORDER * from_weight
