"""Cross-layer equalization: channels of a tensor get like ranges, so that one scale of 8 bits fits all of them.

    Conv(w1, b1) -> Relu -> Conv(w2)              before
    Conv(w1 * s, b1 * s) -> Relu -> Conv(w2 / s)  after

Nagel et al. 2019, "Data-Free Quantization through Weight Equalization and Bias Correction" (arXiv 1906.04721), make the
ranges of both weights alike. Here weights have a scale for each output channel, so what is left to gain lies in the
activations between them: their measured ranges are what is made alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from modelopt_cli.calibration.collector import collect_channel_stats
from modelopt_cli.calibration.ranges import ChannelStats
from modelopt_cli.data.dataset import Dataset
from modelopt_cli.graph.edit import add_weight, constant, forget_names, only_reader
from modelopt_cli.passes.quantize.channel_sets import CHANNEL_AXIS, ChannelSet, channel_sets, output_axis
from modelopt_cli.passes.quantize.smooth import SECOND_ORDER
from modelopt_cli.progress import Progress

STRENGTHS = (0.25, 0.5, 0.75, 1.0)  # exponents of the migration, tried in turn
LARGEST_FACTOR = 64.0  # of a channel that is next to nothing
LEAST_GAIN = 1.05  # noise power before / after


def equalize(model: ir.Model, data: Dataset, progress: Progress) -> tuple[ir.Model, list[str]]:
    """A clone with channels of like ranges, exact but for float rounding, and what was done, for the report.

    Args:
        model: In float; it is not edited.
        data: Calibration samples, gone through once.
        progress: Where to say how far it is.
    """
    clone = model.clone()
    forget_names(clone)
    sets = channel_sets(clone.graph)
    free = [each for each in sets if each.refusal is None]
    tensors = [str(value.name) for each in free for value in each.values if _is_stored(value)]
    statistics = collect_channel_stats(model, tensors, data, CHANNEL_AXIS, progress=progress) if tensors else {}
    scaled = 0
    for each in free:
        factors = choose_factors(each, statistics)
        if factors is not None:
            scale_channels(clone.graph, each, factors)
            scaled += 1
    reasons = Counter(each.refusal for each in sets if each.refusal is not None)
    refused = "".join(f"; {count} not: {reason}" for reason, count in sorted(reasons.items()))
    return (clone if scaled else model), [f"equalized: {scaled} of {len(sets)} sets of channels{refused}"]


def choose_factors(found: ChannelSet, statistics: Mapping[str, ChannelStats]) -> np.ndarray | None:
    """What to multiply each channel of a set with, or None when little is gained.

    Args:
        found: A set that is not refused.
        statistics: Of its tensors that are quantized, by name.

    Returns:
        float32 [channels], at least 1.
    """
    known = [statistics[str(v.name)] for v in found.values if str(v.name) in statistics]
    known = [each for each in known if len(each.low) == found.channels]
    if not known:
        return None
    peaks = np.max([each.absmax for each in known], axis=0)
    ones = np.ones(found.channels)
    before = _noise(found, known, ones)
    candidates = [_factors(peaks, strength) for strength in STRENGTHS]
    noises = [_noise(found, known, factors) for factors in candidates]
    best = int(np.argmin(noises))
    return np.asarray(candidates[best], np.float32) if before > noises[best] * LEAST_GAIN else None


def scale_channels(graph: ir.Graph, found: ChannelSet, factors: np.ndarray) -> None:
    """Multiply the channels of a set with positive factors; weights on both sides are replaced."""
    for maker in found.makers:
        axis = output_axis(maker)
        shape = [-1 if index == axis else 1 for index in range(_weight(maker).ndim)]
        _replace(graph, maker, 1, _weight(maker) * factors.reshape(shape))
        bias = constant(maker.inputs[2]) if len(maker.inputs) > 2 else None
        if bias is not None:
            _replace(graph, maker, 2, bias.reshape(-1) * factors)
    for reader in found.readers:
        _replace(graph, reader, 1, _weight(reader) / _by_input(reader, factors))


def _is_stored(value: ir.Value) -> bool:
    """Whether its integers are in memory: what a Relu alone reads never is."""
    reader = only_reader(value)
    return reader is None or reader.op_type != "Relu"


def _factors(peaks: np.ndarray, strength: float) -> np.ndarray:
    top = peaks.max(initial=0.0)
    ratio = np.divide(top, peaks, out=np.ones_like(peaks), where=peaks > top / LARGEST_FACTOR)
    return np.asarray(ratio**strength)


def _noise(found: ChannelSet, known: Sequence[ChannelStats], factors: np.ndarray) -> float:
    """Expected squared error behind the readers: rounding noise of the tensors, and that of the weights."""
    width = max(float((s.high * factors).max() - min((s.low * factors).min(), 0.0)) for s in known)
    square = np.max([each.mean_square for each in known], axis=0) * factors**2
    total = 0.0
    for reader in found.readers:
        scaled = _weight(reader) / _by_input(reader, factors)
        total += (width / 255) ** 2 / 12 * float(np.square(scaled).sum())
        rows = np.moveaxis(scaled, output_axis(reader), 0).reshape(scaled.shape[output_axis(reader)], -1)
        steps = np.square(np.abs(rows).max(axis=1) / 127) / 12
        inputs = np.broadcast_to(_by_input(reader, square), scaled.shape)
        power = np.moveaxis(inputs, output_axis(reader), 0).reshape(len(rows), -1).sum(axis=1)
        total += SECOND_ORDER * float(steps @ power)
    return total


def _by_input(reader: ir.Node, channels: np.ndarray) -> np.ndarray:
    """[channels] in the shape in which they meet the weight's input axis; each group has its own."""
    shape = _weight(reader).shape
    if reader.op_type == "Gemm":
        return channels.reshape(1, -1) if output_axis(reader) == 0 else channels.reshape(-1, 1)
    groups = reader.attributes.get_int("group", 1)
    rows = np.repeat(channels.reshape(groups, -1), shape[0] // groups, axis=0)
    return rows.reshape(*rows.shape, *[1] * (len(shape) - 2))


def _weight(node: ir.Node) -> np.ndarray:
    array = constant(node.inputs[1])
    assert array is not None
    return array


def _replace(graph: ir.Graph, node: ir.Node, index: int, array: np.ndarray) -> None:
    value = node.inputs[index]
    assert value is not None
    node.replace_input_with(index, add_weight(graph, f"{value.name}.equalized", np.asarray(array, np.float32)))
    if value.is_initializer() and not value.uses() and not value.is_graph_output():
        graph.initializers.pop(value.name or "", None)
