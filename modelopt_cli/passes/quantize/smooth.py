"""Outlier channels of a product's input, scaled down into the weight: one scale then fits all channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import add_node, add_weight, fresh_name
from modelopt_cli.passes.quantize.absorb import Absorb
from modelopt_cli.passes.quantize.dynamic_stats import InputStatistics

STRENGTHS = (0.7, 1.0)  # exponents of the migration
THRESHOLDS = 20  # channel magnitudes above which a channel is scaled, tried from the median to the largest
LEAST_GAIN = 2.0  # noise power before / after that is worth one more elementwise operator
LEAST_GAIN_FOLDED = 1.1  # when a weight in front takes the scales for nothing
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


def apply_scales(
    model: ir.Model, source: ir.Value, scales: np.ndarray, readers: Sequence[ir.Node], absorber: Absorb | None
) -> ir.Value:
    """The tensor divided by ``scales`` along its last axis, for the products ``readers`` that come next.

    Args:
        model: Edited in place.
        source: What the products read.
        scales: float32 [K].
        readers: The products, in graph order.
        absorber: From `find_absorber`: takes the scales at no cost. Without one, a Mul is added.
    """
    if absorber is not None:
        absorber(scales)
        return source
    inverse = add_weight(model.graph, f"{source.name}_unscale", (1 / scales).astype(np.float32))
    before = readers[0]
    assert isinstance(before.graph, ir.Graph)
    stem = fresh_name(model.graph, f"{source.name}_smooth")
    return add_node(before.graph, before, "Mul", [source, inverse], stem=stem, dtype=source.dtype, shape=source.shape)


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
