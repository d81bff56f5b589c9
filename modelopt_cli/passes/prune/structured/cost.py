"""What a choice of channels costs: multiply-accumulates and parameters, before anything is removed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.calibration.probe import Probe
from modelopt_cli.data.dataset import Sample
from modelopt_cli.graph.edit import constant
from modelopt_cli.passes.prune.structured.analysis import Dependencies
from modelopt_cli.passes.prune.structured.blocks import Block, inside
from modelopt_cli.passes.prune.structured.channels import Axis
from modelopt_cli.passes.prune.structured.flow import inferred_shapes
from modelopt_cli.profiling.macs import node_macs

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "Einsum", "Attention"})
Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Length:
    """Length of an axis: what stays, and positions for each part of some groups: ``((group, positions), ...)``."""

    fixed: int
    parts: tuple[tuple[int, int], ...] = ()

    def at(self, counts: Sequence[int]) -> int:
        return self.fixed + sum(positions * counts[group] for group, positions in self.parts)


_Lengths = tuple[_Length, ...]


@dataclass(frozen=True)
class _Node:
    op_type: str
    equation: str
    inputs: tuple[_Lengths, ...]
    outputs: tuple[_Lengths, ...]
    blocks: tuple[int, ...] = ()  # positions of the blocks that it leaves with

    def stays(self, counts: Sequence[int]) -> bool:
        return all(counts[block] for block in self.blocks)


class Costs:
    """Arithmetic of a graph as a function of how many parts of each group stay.

    Args:
        model: The graph that ``found`` describes.
        found: Its channels.
        sample: Inputs whose shapes count.
        blocks: Branches that may leave as a whole; their counts, 1 or 0, follow those of the groups.
    """

    def __init__(self, model: ir.Model, found: Dependencies, sample: Sample, blocks: Sequence[Block] = ()) -> None:
        self._blocks = blocks
        self._found = found
        self._group = np.full(len(found.label), -1)
        for index, group in enumerate(found.groups):
            self._group[np.isin(found.label, group.labels)] = index
        self._sizes = [group.size for group in found.groups]
        self.whole = [*self._sizes, *(1 for _ in blocks)]
        shapes = _concrete(model, sample)
        self._nodes = list(self._weighted(model, shapes))
        self._weights = [
            (tuple(self._length(axis) for axis in axes), self._around(use.node for use in value.uses()))
            for (value, _), axes in found.flow.weights.items()
            if (array := constant(value)) is not None and (array.dtype.kind == "f" or _is_quantized_weight(value))
        ]

    def macs(self, counts: Sequence[int]) -> int:
        """Multiply-accumulates of one run with so many parts of each group."""
        total = 0
        for node in self._nodes:
            if not node.stays(counts):
                continue
            inputs, outputs = ([_at(lengths, counts) for lengths in side] for side in (node.inputs, node.outputs))
            total += node_macs(node.op_type, inputs, outputs, equation=node.equation)
        return total

    def parameters(self, counts: Sequence[int]) -> int:
        """Elements of the weights that operators with channels read, float or behind DequantizeLinear."""
        return sum(
            math.prod(_at(lengths, counts)) for lengths, blocks in self._weights if all(counts[each] for each in blocks)
        )

    def _around(self, readers: Iterable[ir.Node]) -> tuple[int, ...]:
        """Positions of the blocks that all of the nodes leave with."""
        each = [set(inside(self._blocks, node.outputs[0].name or "")) for node in readers]
        return tuple(sorted(len(self._sizes) + index for index in set.intersection(*each))) if each else ()

    def _weighted(self, model: ir.Model, shapes: dict[str, Shape]) -> Iterable[_Node]:
        for node in model.graph:
            if node.op_type in _WEIGHTED and node.domain in ("", "ai.onnx"):
                inputs = [self._input(node, i, v, shapes) for i, v in enumerate(node.inputs) if v is not None]
                outputs = [self._output(value, shapes) for value in node.outputs if value.name in shapes]
                equation = str(node.attributes.get_string("equation", ""))
                yield _Node(node.op_type, equation, tuple(inputs), tuple(outputs), self._around([node]))

    def _input(self, node: ir.Node, index: int, value: ir.Value, shapes: dict[str, Shape]) -> _Lengths:
        array = constant(value)
        if array is None:
            return self._output(value, shapes)
        weights = self._found.flow.weights
        axes = weights.get((value, None)) or weights.get((value, (node, index)))
        return tuple(map(self._length, axes)) if axes else tuple(map(_Length, array.shape))

    def _output(self, value: ir.Value, shapes: dict[str, Shape]) -> _Lengths:
        shape, axes = shapes[value.name or ""], self._found.flow.values.get(value)
        if axes is None or len(axes) != len(shape):
            return tuple(map(_Length, shape))
        pairs = zip(axes, shape, strict=True)
        return tuple(self._length(axis) if axis.ids is not None else _Length(size) for axis, size in pairs)

    def _length(self, axis: Axis) -> _Length:
        if axis.ids is None:
            return _Length(axis.size or 1)
        group = self._group[axis.ids]
        labels, positions = np.unique(group[group >= 0], return_counts=True)
        parts = tuple(
            (int(label), int(count) // self._sizes[label]) for label, count in zip(labels, positions, strict=True)
        )
        return _Length(int((group < 0).sum()), parts)


def _is_quantized_weight(value: ir.Value) -> bool:
    return any(use.node.op_type == "DequantizeLinear" and use.idx == 0 for use in value.uses())


def _at(lengths: _Lengths, counts: Sequence[int]) -> Shape:
    return tuple(length.at(counts) for length in lengths)


def _concrete(model: ir.Model, sample: Sample) -> dict[str, Shape]:
    """The shape of every tensor around a weighted sum, for these inputs: inferred, or seen in a run."""
    fixed = model.clone()
    for value in fixed.graph.inputs:
        if (name := value.name or "") in sample:
            value.shape = ir.Shape(sample[name].shape)
    for node in fixed.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    known: dict[str, Shape] = {name: array.shape for name, array in sample.items()}
    for name, sizes in inferred_shapes(fixed).items():
        if all(isinstance(size, int) for size in sizes):
            known[name] = tuple(int(size) for size in sizes if isinstance(size, int))
    wanted = {
        value.name: None
        for node in model.graph
        if node.op_type in _WEIGHTED
        for value in (*node.inputs, *node.outputs)
        if value is not None and value.name and value.name not in known and constant(value) is None
    }
    if wanted:
        known |= {name: np.shape(array) for name, array in Probe(model, list(wanted)).run(sample).items()}
    return known
