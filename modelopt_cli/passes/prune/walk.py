"""Statistics of layers, one after another, from the original network and the one that is being pruned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from modelopt_cli.calibration.hessian import Moments
from modelopt_cli.data.dataset import Dataset, spread
from modelopt_cli.passes.prune.frontier import Frontier, live_before
from modelopt_cli.passes.prune.linear import LinearLayer

Halves = tuple[Moments, Moments]
"""The statistics of half of the samples, and of the others: what is fitted to one can be judged on the other.

The same twice where there is one sample only.
"""

RUNS = 8  # of samples in a row, in turns of one half and the other: neighbours are often crops of one picture, frames
# of one film or lines of one text, and a fit to the one says nothing of what it does to strangers
ROWS = 16384  # of a layer's input, over all samples: a Hessian of some hundred columns hardly changes with more


def held_out(index: int, total: int) -> bool:
    """Whether a sample is of the second half, which judges what was fitted to the first."""
    return index * min(RUNS, total) // total % 2 == 1


@dataclass
class Walk:
    """The way through a network, layer by layer.

    Args:
        model: The network that is pruned on the way: a layer's inputs come from what is behind it by then.
        original: A clone from before, or None to look at ``model`` alone.
        dataset: Samples of calibration.
        seed: Decides which positions of a sample are looked at.
        split: Whether two halves are wanted; else the first holds every sample, which takes half of the memory.
    """

    model: ir.Model
    original: ir.Model | None
    dataset: Dataset
    seed: int
    split: bool = True
    _own: Frontier = field(init=False)

    def __post_init__(self) -> None:
        self._own = Frontier(self.model, self.dataset)

    def moments(self, layers: Sequence[LinearLayer]) -> Iterator[tuple[LinearLayer, Halves]]:
        """Each layer with the statistics of its input, in the order of the graph; change a layer before the next."""
        live = live_before(self.model.graph)
        order = {node: index for index, node in enumerate(self.model.graph)}
        own = self._own
        others = None if self.original is None else Frontier(self.original, self.dataset)
        last: tuple[object, Halves] | None = None
        for layer in sorted(layers, key=lambda layer: order[layer.node]):
            if last is None or last[0] != layer.rows_key:
                own.advance(live[layer.node])
                if others is not None:
                    others.advance(live[layer.node])
                last = (layer.rows_key, self._collect(layer, own, others))
            yield layer, last[1]

    def outputs(self, count: int) -> list[list[np.ndarray]]:
        """The network's floating-point outputs for some samples, spread over the second half.

        By its weights as they are now. Only what comes after the last layer that `moments` gave is computed: edits
        before it do nothing.
        """
        names = [value.name or "" for value in self.model.graph.outputs]
        held = [index for index in range(self._own.steps) if held_out(index, self._own.steps)]
        chosen = {held[index] for index in spread(len(held), min(count, len(held)))}
        found = self._own.values(names, chosen)
        return [[array for array in arrays.values() if array.dtype.kind == "f"] for arrays in found]

    def _collect(self, layer: LinearLayer, own: Frontier, others: Frontier | None) -> Halves:
        groups, _, columns = layer.matrix().shape
        halves = Moments(groups, columns), Moments(groups, columns)
        limit = -(-ROWS // len(self.dataset))
        steps = self._own.steps
        originals = None if others is None else others.values(layer.inputs)
        for index, arrays in enumerate(own.values(layer.inputs)):
            rows = layer.rows(arrays, limit, self.seed + index)
            original = rows if originals is None else layer.rows(next(originals), limit, self.seed + index)
            halves[self.split and held_out(index, steps)].update(rows, original)
        return halves if halves[1].count else (halves[0], halves[0])
