"""Statistics of BatchNormalization after its inputs have changed: its outputs keep their mean and spread.

With weights fitted again the mean of each BatchNormalization is the bias of the fit, and its spread follows. Without a
fit, zeros make outputs smaller layer by layer; setting the statistics right again is most of what can be done then
(Li et al. 2020, https://arxiv.org/abs/2007.02491; Jordan et al. 2022, https://arxiv.org/abs/2211.08403).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.graph.edit import constant, replace_weight
from modelopt_cli.passes.prune.frontier import Frontier, live_before
from modelopt_cli.passes.prune.weights import Weight

EPSILON = 1e-5  # of the operator, where its attribute is not given


@dataclass(frozen=True)
class NormMean(Weight):
    """The mean that a BatchNormalization takes off, seen as the bias of the layer in front of it: with a minus."""

    def array(self) -> np.ndarray:
        """The bias."""
        negative: np.ndarray = -super().array()
        return negative

    def replace(self, array: np.ndarray) -> None:
        """Give it another bias."""
        super().replace(-array)


def norm_mean(layer: ir.Node) -> NormMean | None:
    """The mean of the BatchNormalization that alone reads a layer, where nobody else reads that mean."""
    uses = list(layer.outputs[0].uses())
    if len(uses) != 1 or layer.outputs[0].is_graph_output() or not _is_plain(uses[0].node) or uses[0].idx:
        return None
    mean = uses[0].node.inputs[3]
    return NormMean(mean, (layer,)) if mean is not None and _is_private(mean) else None


def match_statistics(original: ir.Model, pruned: ir.Model, data: Dataset) -> int:
    """Give every BatchNormalization whose input has changed such statistics that its output is spread as before.

    Args:
        original: The network before; not edited.
        pruned: The same graph with other weights; edited.
        data: Samples to measure on.

    Returns:
        How many changed.
    """
    pairs = [(a, b) for a, b in zip(original.graph, pruned.graph, strict=True) if _is_plain(b)]
    pairs = [pair for pair in pairs if all(_is_private(pair[1].inputs[index]) for index in (3, 4))]
    networks = Frontier(original, data), Frontier(pruned, data)
    alive = live_before(original.graph), live_before(pruned.graph)
    return sum(_match(networks, (alive[0][pair[0]], alive[1][pair[1]]), pair) for pair in pairs)


def _match(
    networks: tuple[Frontier, Frontier], alive: tuple[tuple[str, ...], tuple[str, ...]], pair: tuple[ir.Node, ir.Node]
) -> bool:
    moments = []
    for network, lives, node in zip(networks, alive, pair, strict=True):
        network.advance(lives)
        moments.append(_moments(network, node.inputs[0]))
    (mean_before, spread_before), (mean_after, spread_after) = moments
    mean_value, variance_value = pair[1].inputs[3:5]
    mean, variance = constant(mean_value), constant(variance_value)
    assert mean_value is not None and variance_value is not None, "_is_private said so"
    assert mean is not None and variance is not None, "_is_private said so"
    epsilon = pair[1].attributes.get_float("epsilon", EPSILON)
    ratio = (spread_after + epsilon) / (spread_before + epsilon)
    new_mean = mean_after - (mean_before - mean) * np.sqrt(ratio)
    new_variance = np.maximum((variance + epsilon) * ratio - epsilon, 0)
    if np.allclose(new_mean, mean, rtol=1e-6, atol=1e-7) and np.allclose(new_variance, variance, rtol=1e-6):
        return False
    replace_weight(mean_value, new_mean.astype(mean.dtype))
    replace_weight(variance_value, new_variance.astype(variance.dtype))
    return True


def _moments(network: Frontier, value: ir.Value | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each channel over all samples, in double precision."""
    name = "" if value is None else value.name or ""
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for arrays in network.values([name]):
        rows = np.moveaxis(arrays[name], 1, -1).reshape(-1, arrays[name].shape[1]).astype(np.float64)
        count, total, squares = count + len(rows), total + rows.sum(axis=0), squares + np.square(rows).sum(axis=0)
    mean = total / max(count, 1)
    return mean, np.maximum(squares / max(count, 1) - mean**2, 0)


def _is_plain(node: ir.Node) -> bool:
    return node.op_type == "BatchNormalization" and not node.attributes.get_int("training_mode", 0)


def _is_private(value: ir.Value | None) -> bool:
    return value is not None and value.is_initializer() and constant(value) is not None and len(list(value.uses())) == 1
