"""What zeros in one layer alone do, at several shares: to its own output, to the network's outputs, to its accuracy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.evaluation.agreement import AgreementMeter, OutputAgreement, are_scores
from modelopt_cli.passes.base import Skip
from modelopt_cli.passes.prune.by_data import group_layers
from modelopt_cli.passes.prune.judge import Judge, best_damping, drafts, problem_of
from modelopt_cli.passes.prune.linear import LinearLayer
from modelopt_cli.passes.prune.patterns import Pattern
from modelopt_cli.passes.prune.states import all_states
from modelopt_cli.passes.prune.walk import Halves, Walk
from modelopt_cli.passes.prune.weights import find_weights
from modelopt_cli.progress import Progress

MOST_JUDGED = 64  # samples


@dataclass(frozen=True)
class LevelStudy:
    """A layer at one share of zeros, its other weights fitted.

    Attributes:
        sparsity: The share.
        layer_error: Of the layer's output, as a share of its power, on samples that it was not fitted to.
        outputs: How the network's outputs follow the original's on those samples.
        accuracy: Of the network on labelled samples; None where there are none.
    """

    sparsity: float
    layer_error: float
    outputs: tuple[OutputAgreement, ...]
    accuracy: float | None


@dataclass(frozen=True)
class LayerStudy:
    """One layer: its name, its operator, how many weights it has, and each level."""

    name: str
    op_type: str
    weights: int
    levels: tuple[LevelStudy, ...]


@dataclass(frozen=True)
class Study:
    """All layers, in the order of the graph.

    Attributes:
        layers: Those that there was time for.
        skipped: Weights that cannot be fitted, with the reason.
        total: Layers that can be.
    """

    layers: tuple[LayerStudy, ...]
    skipped: tuple[Skip, ...]
    total: int


def study_layers(
    model: ir.Model,
    data: Dataset,
    levels: Sequence[float],
    accuracy: Callable[[ir.Model], float] | None,
    *,
    deadline: float,
    progress: Progress,
) -> Study:
    """Prune each layer alone, at each level; the model is as it was afterwards.

    Args:
        model: Simplified and fused.
        data: Half of the samples are fitted to, the others judge.
        levels: Shares of zeros, rising.
        accuracy: Of a network on labelled samples, or None.
        deadline: By `time.monotonic`; layers after it are left out.
        progress: Where to say how far it is.
    """
    with all_states(model):
        found, refused = find_weights(model)
        layers, skipped = group_layers(found, Pattern())
        walk = Walk(model, None, data, seed=0)
        meter = _Meter(model, walk, min(MOST_JUDGED, len(data) // 2))
        studied: list[LayerStudy] = []
        with progress.task("studying", len(layers)) as advance:
            for layer, halves in walk.moments(layers):
                if studied and time.monotonic() > deadline:
                    break
                rows = tuple(_levels(layer, halves, levels, meter, accuracy, model))
                studied.append(LayerStudy(layer.name, layer.node.op_type, layer.size, rows))
                advance(1)
        return Study(tuple(studied), (*refused, *skipped), len(layers))


def _levels(
    layer: LinearLayer,
    halves: Halves,
    levels: Sequence[float],
    meter: _Meter,
    accuracy: Callable[[ir.Model], float] | None,
    model: ir.Model,
) -> list[LevelStudy]:
    weights, centred, pattern = layer.matrix(), layer.bias is not None, Pattern()
    damping = best_damping(*halves, weights, pattern, levels[len(levels) // 2], centred=centred)
    problem = problem_of(halves[0], weights, damping, centred=centred)
    mean = halves[0].mean_with(halves[1])
    rows = []
    for level, (error, fitted) in zip(
        levels, drafts(problem, Judge(halves[1], weights, centred=centred), pattern, levels), strict=True
    ):
        draft = (fitted / problem.scale).astype(np.float32)
        shift = layer.outputs(weights, mean) - layer.outputs(draft, mean) if centred else None
        with layer.draft(draft, shift):
            rows.append(LevelStudy(level, error, meter.measure(), None if accuracy is None else accuracy(model)))
    return rows


class _Meter:
    """Compares the network's outputs with those of the untouched one."""

    def __init__(self, model: ir.Model, walk: Walk, count: int) -> None:
        self._walk, self._count = walk, count
        outputs = [v for v in model.graph.outputs if v.dtype is not None and v.dtype.is_floating_point()]
        shapes = [() if v.shape is None else [d if isinstance(d, int) else d.value for d in v.shape] for v in outputs]
        self._outputs = [(value.name or "", are_scores(shape)) for value, shape in zip(outputs, shapes, strict=True)]
        self._wanted = walk.outputs(count)

    def measure(self) -> tuple[OutputAgreement, ...]:
        """How the outputs of the network as it is now follow the original's."""
        meters = [AgreementMeter(name, scores=scores) for name, scores in self._outputs]
        for wanted, got in zip(self._wanted, self._walk.outputs(self._count), strict=True):
            for meter, one, other in zip(meters, wanted, got, strict=True):
                meter.update(one, other)
        return tuple(meter.result() for meter in meters)
