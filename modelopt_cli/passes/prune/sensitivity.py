"""What pruning each layer costs, at each sparsity: its own output's error, and what that does to the network's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from modelopt_cli.passes.prune.distribution import LEVELS
from modelopt_cli.passes.prune.judge import Judge, best_damping, drafts, problem_of
from modelopt_cli.passes.prune.linear import LinearLayer
from modelopt_cli.passes.prune.settings import DataPruning
from modelopt_cli.passes.prune.walk import Halves, Walk

EFFECT_SAMPLES = 24


@dataclass(frozen=True)
class Curve:
    """What pruning one layer costs.

    Attributes:
        errors: At the network's output, at each of `LEVELS`, as a share of the output's variance.
        damping: Of the fit that does best on held-out samples.
    """

    errors: tuple[float, ...]
    damping: float


def measure_curves(
    walk: Walk,
    layers: Sequence[LinearLayer],
    sparsity: float,
    settings: DataPruning,
    advance: Callable[[int], None],
) -> dict[LinearLayer, Curve]:
    """What pruning each layer alone costs.

    The layer's own error is measured at every level on samples that it was not fitted to; at one level the network is
    run to its end besides, and the curve is scaled to what comes out there.
    """
    reference = walk.outputs(EFFECT_SAMPLES)
    curves = {}
    for layer, halves in walk.moments(layers):
        errors, draft, damping = _draft(layer, halves, sparsity, settings)
        level = nearest_level(sparsity)
        mean = halves[0].mean_with(halves[1])
        shift = None if layer.bias is None else layer.outputs(layer.matrix(), mean) - layer.outputs(draft, mean)
        with layer.draft(draft, shift):
            effect = output_error(reference, walk.outputs(EFFECT_SAMPLES))
        scale = 1.0 if effect is None else effect / max(errors[level], 1e-12)
        curves[layer] = Curve(tuple(scale * error for error in errors), damping)
        advance(1)
    return curves


def output_error(reference: Sequence[Sequence[np.ndarray]], found: Sequence[Sequence[np.ndarray]]) -> float | None:
    """Squared error over the outputs' variance, summed over outputs; None where no output is floating-point.

    Args:
        reference: Outputs by sample.
        found: The same, of another network.
    """
    if not reference or not reference[0]:
        return None
    total = 0.0
    for index in range(len(reference[0])):
        wanted = np.concatenate([outputs[index].reshape(-1) for outputs in reference]).astype(np.float64)
        got = np.concatenate([outputs[index].reshape(-1) for outputs in found]).astype(np.float64)
        if wanted.shape != got.shape:
            return None
        total += float(np.mean(np.square(got - wanted)) / max(float(wanted.var()), 1e-30))
    return total


def _draft(
    layer: LinearLayer, halves: Halves, sparsity: float, settings: DataPruning
) -> tuple[list[float], np.ndarray, float]:
    """The layer's own error at each level, its weights at the one nearest to ``sparsity``, and the damping of both."""
    weights, centred, pattern = layer.matrix(), layer.bias is not None, settings.pattern
    damping = settings.damping or best_damping(*halves, weights, pattern, sparsity, centred=centred)
    problem = problem_of(halves[0], weights, damping, centred=centred)
    found = list(drafts(problem, Judge(halves[1], weights, centred=centred), pattern, LEVELS))
    draft = found[nearest_level(sparsity)][1] / problem.scale
    return [error for error, _ in found], draft.astype(np.float32), damping


def nearest_level(sparsity: float) -> int:
    """The index of the one of `LEVELS` that is next to a share."""
    return int(np.argmin(np.abs(np.array(LEVELS) - sparsity)))
