"""Round the weights of static products so that the products, not the weights, are close to float; then centre them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import constant
from modelopt_cli.passes.quantize.dynamic_rounding import DAMPING, round_product_weight
from modelopt_cli.passes.quantize.dynamic_stats import InputStatistics
from modelopt_cli.passes.quantize.kinds import weight_axis
from modelopt_cli.passes.quantize.patches import PatchStatistics
from modelopt_cli.passes.quantize.weights import QuantizedWeight, integer_range, quantize_weight


@dataclass
class Rounding:
    """What is known of each product; keys are output names, which clones of a model share.

    Attributes:
        weights: Rounded weights by (weight name, channel axis).
        means: Mean input patch per group by name of the node's output, [groups, K].
    """

    weights: dict[tuple[str, int | None], QuantizedWeight]
    means: dict[str, np.ndarray]

    def add(self, other: Rounding) -> None:
        """Take in what another one knows."""
        self.weights |= other.weights
        self.means |= other.means

    def of(self, nodes: Iterable[ir.Node]) -> Rounding:
        """What of it these products need."""
        found = Rounding({}, {})
        for node in nodes:
            name, weight = str(node.outputs[0].name), node.inputs[1]
            key = ("" if weight is None else str(weight.name), weight_axis(node))
            if name in self.means:
                found.means[name] = self.means[name]
            if key in self.weights:
                found.weights[key] = self.weights[key]
        return found

    def bias_shift(self, node: ir.Node, array: np.ndarray, rounded: QuantizedWeight) -> np.ndarray | None:
        """What the rounding of a weight takes from the mean of each output, to be given back by the bias.

        Nagel et al. 2019, "Data-Free Quantization through Weight Equalization and Bias Correction", arXiv 1906.04721,
        with means that are measured instead of derived from BatchNorm.
        """
        mean = self.means.get(str(node.outputs[0].name))
        if mean is None:
            return None
        lost = as_rows(node, np.asarray(array, np.float32) - rounded.dequantize())  # [outputs, K]
        per_group = lost.reshape(len(mean), -1, lost.shape[1])
        return np.asarray(np.einsum("gok,gk->go", per_group, mean).reshape(-1), np.float32)


def round_products(known: Iterable[tuple[ir.Node, PatchStatistics]], *, reduce_range: bool) -> Rounding:
    """Second-order rounding (see `round_second_order`) of every node for which there are statistics.

    The covariance counts, not the moment: what an error does to the mean, `Rounding.bias_shift` takes back. A MatMul
    has no bias for that, so there the moment counts.
    """
    result = Rounding({}, {})
    for node, statistics in known:
        weight, axis = node.inputs[1], weight_axis(node)
        array = constant(weight)
        assert weight is not None and array is not None
        result.means[str(node.outputs[0].name)] = statistics.mean
        key = str(weight.name), axis
        if key not in result.weights:
            result.weights[key] = _round(node, array, statistics, axis, reduce_range)
    return result


def _round(
    node: ir.Node, array: np.ndarray, statistics: PatchStatistics, axis: int | None, reduce_range: bool
) -> QuantizedWeight:
    rows = as_rows(node, np.asarray(array, np.float32))
    if len(statistics.covariance) > 1:
        return _round_grouped(array, rows, statistics.covariance, reduce_range)
    covariance = statistics.covariance[0]
    if node.op_type == "MatMul":
        covariance = covariance + np.outer(statistics.mean[0], statistics.mean[0])
    found = round_product_weight(
        np.ascontiguousarray(rows.T),
        _statistics(covariance),
        None,
        per_channel=True,
        reduce_range=reduce_range,
        search=True,
    )
    values = found.values if _is_transposed(node) else found.values.T.reshape(array.shape)
    return QuantizedWeight(np.ascontiguousarray(values), found.scale, found.zero_point, axis)


def _round_grouped(array: np.ndarray, rows: np.ndarray, covariance: np.ndarray, reduce_range: bool) -> QuantizedWeight:
    """All groups at once: their patches are small and there are many of them (depthwise).

    As `round_second_order`, from the last element of the patch to the first, each making up for those after it.
    """
    nearest = quantize_weight(array, axis=0, reduce_range=reduce_range)
    low, high = integer_range(8, symmetric=True, reduce_range=reduce_range)
    groups, size = covariance.shape[:2]
    work, scale = rows.reshape(groups, -1, size), nearest.scale.reshape(groups, -1)
    factor = unit_factors(covariance)
    error, steps = np.zeros_like(work), np.zeros(work.shape, np.int8)
    for k in range(size - 1, -1, -1):
        wanted = work[:, :, k] + np.einsum("gj,gmj->gm", factor[:, k, k + 1 :], error[:, :, k + 1 :])
        steps[:, :, k] = np.where(work[:, :, k] == 0, 0, np.clip(np.rint(wanted / scale), low, high))
        error[:, :, k] = work[:, :, k] - steps[:, :, k] * scale
    return QuantizedWeight(steps.reshape(array.shape), nearest.scale, nearest.zero_point, 0)


def damped(covariance: np.ndarray) -> np.ndarray:
    """Covariances [groups, K, K] in float64 with a share of their mean variance added to the diagonal."""
    full = covariance.astype(np.float64)
    diagonal = np.arange(full.shape[1])
    full[:, diagonal, diagonal] += np.maximum(DAMPING * full[:, diagonal, diagonal].mean(axis=1), 1e-12)[:, None]
    return full


def unit_factors(covariance: np.ndarray) -> np.ndarray:
    """Upper Cholesky factors of the damped covariances, each row divided by its diagonal entry."""
    lower = np.linalg.cholesky(damped(covariance))
    diagonal = np.arange(lower.shape[1])
    return np.asarray((lower / lower[:, diagonal, diagonal][:, None, :]).transpose(0, 2, 1), np.float32)


def _statistics(covariance: np.ndarray) -> InputStatistics:
    nothing = np.zeros((0, len(covariance)), np.float32)
    return InputStatistics(nothing, nothing, np.diag(covariance), covariance)


def as_rows(node: ir.Node, array: np.ndarray) -> np.ndarray:
    """[outputs, K] in the order of the patches."""
    return array.T if _is_transposed(node) else array.reshape(len(array), -1)


def _is_transposed(node: ir.Node) -> bool:
    """Whether the weight is stored [K, outputs]."""
    return node.op_type == "MatMul" or (node.op_type == "Gemm" and node.attributes.get_int("transB", 0) != 1)
