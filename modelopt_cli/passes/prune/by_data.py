"""Prune layer by layer, each fitted to what the original network gave at that place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.passes.base import PassContext, Skip
from modelopt_cli.passes.prune.batch_norm import match_statistics
from modelopt_cli.passes.prune.distribution import (
    LEVELS,
    spread_by_error,
    spread_erk,
    spread_evenly,
    spread_globally,
    spread_lamp,
    whole_counts,
)
from modelopt_cli.passes.prune.judge import best_damping, problem_of
from modelopt_cli.passes.prune.linear import LinearLayer, linear_layer
from modelopt_cli.passes.prune.patterns import Pattern
from modelopt_cli.passes.prune.sensitivity import Curve, measure_curves, nearest_level
from modelopt_cli.passes.prune.settings import Criterion, DataPruning
from modelopt_cli.passes.prune.solver import Problem, choose_mask, refit
from modelopt_cli.passes.prune.walk import Halves, Walk
from modelopt_cli.passes.prune.weights import Weight

Outcome = tuple[int, list[Skip], dict[str, Any]]


class DataPruner:
    """Prunes the same weights to one share or another; what layers bear is measured once.

    Args:
        model: The model that the weights belong to; `run` edits it.
        weights: What may be pruned.
        overrides: Shares of single weights, by ``id`` of their value.
        settings: How.
        data: Samples that weights are fitted to.
        ctx: Of the pass.
    """

    def __init__(
        self,
        model: ir.Model,
        weights: Sequence[Weight],
        overrides: Mapping[int, float],
        settings: DataPruning,
        data: Dataset,
        ctx: PassContext,
    ) -> None:
        self._model, self._overrides, self._settings, self._ctx = model, overrides, settings, ctx
        self._layers, self._skipped = group_layers(weights, settings.pattern)
        self._original = model.clone()
        self._data = data.take(settings.samples)
        self._curves: dict[int, dict[LinearLayer, Curve]] = {}

    def run(self, sparsity: float) -> Outcome:
        """Prune the untouched model to a share of zeros over all layers but those with a share of their own.

        Returns:
            Weights that changed, refusals, facts.
        """
        layers, settings, ctx = self._layers, self._settings, self._ctx
        if not layers:
            return 0, self._skipped, {}
        curves = self._measured(sparsity)
        shares = _shares(layers, curves, sparsity, self._overrides, settings)
        chosen = [layer for layer in layers if shares[layer] > 0]
        losses: dict[LinearLayer, float] = {}
        with ctx.progress.task("pruning", len(chosen)) as advance:
            known_fit = settings.damping is not None or all(layer in curves for layer in chosen)
            walk = Walk(self._model, self._original, self._data, ctx.seed, split=not known_fit)
            for layer, halves in walk.moments(chosen):
                rng = np.random.default_rng((ctx.seed, len(losses)))
                known = replace(settings, damping=curves[layer].damping) if layer in curves else settings
                losses[layer] = prune_layer(layer, halves, shares[layer], known, rng)
                advance(1)
        details = _details(layers, losses) | _sensitivity(curves)
        if not settings.refit and (count := match_statistics(self._original, self._model, self._data)):
            details["batch_norms"] = count
        return len({id(w.value) for layer in chosen for w in layer.weights}), self._skipped, details

    def _measured(self, sparsity: float) -> dict[LinearLayer, Curve]:
        """What each layer bears, where that decides; measured at the level next to the share."""
        if self._settings.distribution != "sensitivity" or self._settings.pattern.of:
            return {}
        level = nearest_level(sparsity)
        if level not in self._curves:
            with self._ctx.progress.task("measuring layers", len(self._layers)) as advance:
                untouched = Walk(self._model, None, self._data, self._ctx.seed)
                self._curves[level] = measure_curves(untouched, self._layers, sparsity, self._settings, advance)
        return self._curves[level]


def group_layers(weights: Sequence[Weight], pattern: Pattern) -> tuple[list[LinearLayer], list[Skip]]:
    """The layers that can be fitted, and the others with the reason."""
    by_node: dict[int, list[Weight]] = {}
    for weight in weights:
        by_node.setdefault(id(weight.nodes[0]), []).append(weight)
    layers, skipped = [], []
    for group in by_node.values():
        found = linear_layer(group[0].nodes[0], group)
        if not isinstance(found, str) and found.matrix().shape[2] % pattern.width:
            found = f"{found.matrix().shape[2]} inputs are no multiple of {pattern.width}"
        if isinstance(found, str):
            skipped.append(Skip(group[0].nodes[0].name or group[0].names[0], found))
        else:
            layers.append(found)
    return layers, skipped


def prune_layer(
    layer: LinearLayer, halves: Halves, sparsity: float, settings: DataPruning, rng: np.random.Generator
) -> float:
    """Zero a share of one layer's weights and fit the rest; the share of the output's power that is lost."""
    centred = layer.bias is not None
    before = layer.matrix()
    moments = halves[0] + halves[1] if halves[1].count else halves[0]
    damping = settings.damping or best_damping(*halves, before, settings.pattern, sparsity, centred=centred)
    problem = problem_of(moments, before, damping, centred=centred)
    if settings.criterion == "second-order":
        mask = choose_mask(problem, settings.pattern, sparsity)
    else:
        mask = settings.pattern.mask(_scores(problem, before, settings.criterion, rng), sparsity)
    kept = np.where(mask, problem.target if settings.refit else before * problem.scale, 0).astype(np.float32)
    solved = refit(problem, mask, kept) if settings.refit else kept
    after = (solved / problem.scale).astype(np.float32) if settings.refit else np.where(mask, before, np.float32(0))
    layer.replace(after)
    if centred and settings.refit:
        mean, original = moments.means()
        layer.shift_bias(layer.outputs(before, original) - layer.outputs(after, mean))
    return problem.error(solved) / problem.power


def _scores(problem: Problem, weights: np.ndarray, criterion: Criterion, rng: np.random.Generator) -> np.ndarray:
    if criterion == "random":
        return rng.random(weights.shape, np.float32)
    scores: np.ndarray = np.abs(weights * problem.scale) if criterion == "activation" else np.abs(weights)
    return scores


def _shares(
    layers: Sequence[LinearLayer],
    curves: Mapping[LinearLayer, Curve],
    sparsity: float,
    overrides: Mapping[int, float],
    settings: DataPruning,
) -> dict[LinearLayer, float]:
    """The share of each layer: its own where the user gave one, else its part of the whole."""
    fixed = {
        layer: max(overrides[id(weight.value)] for weight in layer.weights if id(weight.value) in overrides)
        for layer in layers
        if any(id(weight.value) in overrides for weight in layer.weights)
    }
    free = [layer for layer in layers if layer not in fixed]
    if settings.pattern.of:
        spread = spread_evenly([1] * len(free), settings.pattern.most(sparsity))
    elif settings.distribution == "sensitivity":
        spread = spread_by_error([layer.size for layer in free], [curves[layer].errors for layer in free], sparsity)
    elif settings.distribution == "lamp":
        spread = spread_lamp([layer.matrix() for layer in free], sparsity)
    elif settings.distribution == "global":
        spread = spread_globally([layer.matrix() for layer in free], sparsity)
    elif settings.distribution == "erk":
        spread = spread_erk([layer.matrix().shape for layer in free], sparsity)
    else:
        spread = spread_evenly([1] * len(free), sparsity)
    return fixed | dict(zip(free, whole_counts([layer.size for layer in free], spread), strict=True))


def _sensitivity(curves: Mapping[LinearLayer, Curve]) -> dict[str, Any]:
    """What each layer would cost, where that was measured: shares of zeros, and errors at the network's outputs."""
    rows = [
        {"name": layer.name, "levels": list(LEVELS), "errors": list(curve.errors)} for layer, curve in curves.items()
    ]
    return {"sensitivity": {"level": "share of zeros", "rows": rows}} if rows else {}


def _details(layers: Iterable[LinearLayer], losses: Mapping[LinearLayer, float]) -> dict[str, Any]:
    rows, zeros, total = [], 0, 0
    for layer in layers:
        gone = sum(int(weight.array().size - np.count_nonzero(weight.array())) for weight in layer.weights)
        zeros, total = zeros + gone, total + layer.size
        rows.append({"layer": layer.name, "sparsity": gone / layer.size, "output_error": losses.get(layer, 0.0)})
    return {"weights": total, "zeros": zeros, "sparsity": zeros / total, "layers": rows}
