"""What each group may give, and what that would do to the model's outputs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from modelopt_cli.calibration.probe import Probe, run_session
from modelopt_cli.data.dataset import Dataset, Sample
from modelopt_cli.graph.edit import add_weight
from modelopt_cli.passes.prune.linear import LinearLayer
from modelopt_cli.passes.prune.structured.blocks import Block
from modelopt_cli.passes.prune.structured.budget import Choice
from modelopt_cli.passes.prune.structured.elimination import Level, Reader, eliminate
from modelopt_cli.passes.prune.structured.groups import Group
from modelopt_cli.passes.prune.structured.layers import Consumer, PlainLayer
from modelopt_cli.passes.prune.structured.normal import NormalEquations
from modelopt_cli.passes.prune.structured.sampling import is_held_out, rows_per_sample
from modelopt_cli.profiling.session import open_session
from modelopt_cli.progress import Progress

Saliency = Literal["refit", "activation", "l2", "quiet"]

JUDGED_SAMPLES = 32
JUDGED_S = 15.0  # about so long for all groups together
FEWEST_JUDGED = 4
HELD_BYTES = 256 << 20  # of normal equations at once


@dataclass(frozen=True)
class Candidate:
    """A group that can be pruned.

    Attributes:
        group: Its parts.
        consumers: Layers that absorb the loss.
        keeps: How many parts may stay, falling; the first is all.
    """

    group: Group
    consumers: tuple[Consumer, ...]
    keeps: tuple[int, ...]

    def parts(self, consumer: Consumer, label: np.ndarray) -> np.ndarray:
        """Which part of the group each column of a consumer belongs to; -1 for the others."""
        order = {each: index for index, each in enumerate(self.group.labels)}
        found = [order.get(int(label[i]), -1) if i >= 0 else -1 for i in consumer.channels]
        return np.asarray(found)


@dataclass(frozen=True)
class Surveyed:
    """A candidate with the order in which its parts leave, and what each level does to the outputs."""

    candidate: Candidate
    levels: tuple[Level, ...]
    choice: Choice


@dataclass(frozen=True)
class SurveyedBlock:
    """A branch with what leaving it out does to the outputs."""

    block: Block
    error: float


def survey_blocks(model: ir.Model, blocks: Sequence[Block], data: Dataset, progress: Progress) -> list[SurveyedBlock]:
    """Measure what each block alone gives: the model is run with the branch replaced by its mean.

    A branch that is missed is made up for by the layers behind it, by their biases above all: the mean costs nothing.
    """
    if not blocks:
        return []
    outputs = Outputs(model, judging(model, data, len(blocks)))
    means = _means(model, [block.branch for block in blocks], data)
    found = []
    with progress.task("surveying blocks", len(blocks)) as advance:
        for block in blocks:
            trial = model.clone()
            add = next(node for node in trial.graph if node.outputs and node.outputs[0].name == block.sum)
            index = next(i for i, value in enumerate(add.inputs) if value is not None and value.name == block.branch)
            add.replace_input_with(index, add_weight(trial.graph, "mean", means[block.branch]))
            found.append(SurveyedBlock(block, outputs.error(trial)))
            advance(1)
    return found


def _means(model: ir.Model, names: Sequence[str], data: Dataset) -> dict[str, np.ndarray]:
    """Mean of each channel, shaped to be added: axis 1 of images, the last axis of everything else."""
    probe, count = Probe(model, list(dict.fromkeys(names))), 0
    sums: dict[str, np.ndarray] = {}
    for sample in data.take(JUDGED_SAMPLES):
        count += 1
        for name, array in probe.run(sample).items():
            channel = 1 if array.ndim >= 4 else array.ndim - 1
            mean = array.mean(axis=tuple(axis for axis in range(array.ndim) if axis != channel), keepdims=True)
            before = sums.get(name, np.zeros_like(mean))
            sums[name] = before + mean if before.shape == mean.shape else np.zeros(1)  # an axis of free length
    return {name: (total / count).astype(np.float32) for name, total in sums.items()}


def survey(
    model: ir.Model,
    label: np.ndarray,
    candidates: Sequence[Candidate],
    data: Dataset,
    saliency: Saliency,
    progress: Progress,
) -> list[Surveyed]:
    """Order the parts of every group and measure what it costs to lose some.

    The error at a group's consumers is known for every level; what it means for the model's outputs is measured at one
    level, in the whole model, and taken to be proportional.
    """
    outputs = Outputs(model, judging(model, data, len(candidates)))
    found = []
    with progress.task("surveying", len(candidates)) as advance:
        for batch in _batches(candidates):
            equations = _second_moments(model, batch, data)
            for candidate in batch:
                levels, shifts = _levels(candidate, label, equations, saliency)
                found.append(_measured(model, candidate, levels, shifts, outputs))
                advance(1)
    return found


def judging(model: ir.Model, data: Dataset, groups: int, most: int = JUDGED_SAMPLES) -> list[Sample]:
    """Samples that teach nothing, as many as there is time for when they are run so often."""
    held = [sample for index, sample in enumerate(data) if is_held_out(index, len(data))]
    chosen = (held or list(data.take(1)))[:most]
    session = open_session(model, arena=False)
    run_session(session, None, chosen[0])
    started = time.perf_counter()
    run_session(session, None, chosen[0])
    affordable = int(JUDGED_S / max((time.perf_counter() - started) * max(groups, 1), 1e-9))
    return chosen[: max(affordable, FEWEST_JUDGED)]


def _measured(
    model: ir.Model, candidate: Candidate, levels: list[Level], means: list[np.ndarray], outputs: Outputs
) -> Surveyed:
    middle = len(levels) // 2
    trial = model.clone()
    nodes = {node.outputs[0].name: node for node in trial.graph if node.outputs}
    for consumer, matrix, mean in zip(candidate.consumers, levels[middle].matrices, means, strict=True):
        layer = consumer.layer_in(nodes[consumer.name])
        if isinstance(layer, LinearLayer) and layer.bias is not None:
            layer.shift_bias(((layer.matrix()[0] - matrix) @ mean)[None])
        layer.replace(matrix[None])
    scale = outputs.error(trial) / max(levels[middle].error, 1e-12)
    slim = tuple(Level(level.gone, level.error) for level in levels)
    errors = tuple(level.error * scale for level in levels)
    return Surveyed(candidate, slim, Choice(candidate.keeps, errors))


def _levels(
    candidate: Candidate, label: np.ndarray, equations: dict[str, NormalEquations], saliency: Saliency
) -> tuple[list[Level], list[np.ndarray]]:
    readers, means = [], []
    for consumer in candidate.consumers:
        parts = candidate.parts(consumer, label)
        if isinstance(consumer.layer, PlainLayer):
            readers.append(Reader(np.eye(len(parts)), consumer.layer.matrix()[0], parts))
            means.append(np.zeros(len(parts)))
            continue
        centred = consumer.layer.bias is not None
        square, _, _ = equations[consumer.name].moments(centred=centred)
        share = equations[consumer.name].shrinkage()
        believed = (1 - share) * square[0] + share * np.diag(np.diagonal(square[0]))
        readers.append(Reader(believed, consumer.layer.matrix()[0], parts))
        means.append(equations[consumer.name].mean()[0])
    count = candidate.group.size
    scores = None if saliency == "refit" else np.sum([_simple(r, count, saliency) for r in readers], axis=0)
    return eliminate(readers, count, candidate.keeps, scores), means


def _simple(reader: Reader, count: int, saliency: Saliency) -> np.ndarray:
    """Sum of w^2 over the columns of each part, times E x^2 for ``activation``; E x^2 alone for ``quiet``.

    Relative to the whole layer.
    """
    weight = np.square(reader.weights).sum(axis=0) if saliency != "quiet" else np.ones(len(reader.parts))
    if saliency != "l2":
        weight = weight * np.diagonal(reader.hessian)
    parts = np.bincount(reader.parts + 1, weights=weight, minlength=count + 1)[1:]
    return np.asarray(parts / max(weight.sum(), 1e-30))


def _second_moments(model: ir.Model, candidates: Sequence[Candidate], data: Dataset) -> dict[str, NormalEquations]:
    consumers = {
        consumer.name: (consumer, consumer.layer)
        for candidate in candidates
        for consumer in candidate.consumers
        if isinstance(consumer.layer, LinearLayer)
    }
    if not consumers:
        return {}
    names = list(dict.fromkeys(name for _, layer in consumers.values() for name in layer.inputs))
    probe = Probe(model, names)
    found = {name: NormalEquations(1, len(consumer.channels)) for name, (consumer, _) in consumers.items()}
    for index, sample in enumerate(data):
        if is_held_out(index, len(data)):
            continue
        arrays = probe.run(sample)
        for name, (consumer, layer) in consumers.items():
            limit = rows_per_sample(len(consumer.channels), len(data))
            found[name].update(layer.rows(arrays, limit, index))
    return found


def _batches(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    batches: list[list[Candidate]] = []
    held = 0
    for candidate in candidates:
        size = sum(8 * len(consumer.channels) ** 2 for consumer in candidate.consumers)
        if not batches or held + size > HELD_BYTES:
            batches.append([])
            held = 0
        batches[-1].append(candidate)
        held += size
    return batches


class Outputs:
    """The original's outputs on some samples, to hold others against."""

    def __init__(self, model: ir.Model, data: Sequence[Sample]) -> None:
        self._data = data
        self._wanted = [self._floats(found) for found in self._run(model)]
        stacked = list(zip(*self._wanted, strict=True))
        self._energy = [sum(float(np.square(a - a.mean()).sum()) for a in each) for each in stacked]

    def error(self, model: ir.Model) -> float:
        """Squared difference relative to the variance, mean over outputs."""
        gaps = [0.0] * len(self._energy)
        for wanted, found in zip(self._wanted, self._run(model), strict=True):
            for index, (a, b) in enumerate(zip(wanted, self._floats(found), strict=True)):
                gaps[index] += float(np.square(a - b).sum())
        return float(np.mean([gap / max(energy, 1e-30) for gap, energy in zip(gaps, self._energy, strict=True)]))

    def _run(self, model: ir.Model) -> list[list[np.ndarray]]:
        session = open_session(model, arena=False)
        return [run_session(session, None, sample) for sample in self._data]

    @staticmethod
    def _floats(arrays: list[np.ndarray]) -> list[np.ndarray]:
        return [
            array.astype(np.float64) for array in arrays if isinstance(array, np.ndarray) and array.dtype.kind == "f"
        ]
