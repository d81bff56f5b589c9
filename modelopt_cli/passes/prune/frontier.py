"""Walk through a network layer by layer, all samples at once, each part computed once.

What is alive between two nodes (the frontier) is kept for all samples, and the next part starts from there; where that
would take too much memory, the frontier stays behind and the part between is computed again.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from modelopt_cli.calibration.probe import run_session, without_repeats
from modelopt_cli.data.dataset import Dataset, Sample
from modelopt_cli.profiling.session import open_session

MAX_FRONTIER_BYTES = 64 << 20


def live_before(graph: ir.Graph) -> dict[ir.Node, tuple[str, ...]]:
    """For each node, the computed values and graph inputs that it or a later node reads, in order of their making."""
    nodes = list(graph)
    last_read: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in _reads(node):
            last_read[name] = index
    for output in graph.outputs:
        last_read[output.name or ""] = len(nodes)
    alive = [value.name or "" for value in graph.inputs if value.name not in graph.initializers]
    varying = set(alive)  # what constants alone make is the same for each sample: it is made again where it is read
    found = {}
    for index, node in enumerate(nodes):
        alive = [name for name in alive if last_read.get(name, -1) >= index]
        found[node] = tuple(alive)
        if varying.intersection(_reads(node)):
            made = [value.name for value in node.outputs if value.name]
            alive += made
            varying.update(made)
    return found


@dataclass
class Frontier:
    """The state of one network, for all samples, at one place of its graph.

    Args:
        model: Read anew at each step, so edits behind the frontier do nothing and edits before it count.
        dataset: Where the samples come from.
        threads: Of the sessions.
        max_bytes: Memory that the values of all samples may take.
    """

    model: ir.Model
    dataset: Dataset
    threads: int = 1
    max_bytes: int = MAX_FRONTIER_BYTES
    _names: tuple[str, ...] | None = field(default=None, init=False)
    _held: list[dict[str, np.ndarray]] = field(default_factory=list, init=False)

    def advance(self, names: tuple[str, ...]) -> bool:
        """Move to where ``names`` are alive; False, and nothing moved, when they would take too much memory."""
        if self._names == names:
            return True
        held: list[dict[str, np.ndarray]] = []
        size = 0
        for _, found in self._run(names):
            held.append(found)
            size += sum(array.nbytes for array in found.values())
            if size / len(held) * len(self.dataset) > self.max_bytes:
                return False
        self._names, self._held = names, held
        return True

    @property
    def steps(self) -> int:
        """How many times the samples make the network run: once each, unless a batch is fixed."""
        return -(-len(self.dataset) // self.dataset.batch_size)

    def values(self, names: Sequence[str], chosen: Container[int] | None = None) -> Iterator[dict[str, np.ndarray]]:
        """These tensors of each sample, at or after the frontier; repeats that fill up a fixed batch are left out.

        Args:
            names: Of tensors.
            chosen: Steps that are wanted, the others are not computed; None for all.
        """
        batch = self.dataset.batch_size
        for step, found in self._run(tuple(names), chosen):
            valid = min(batch, len(self.dataset) - step * batch)
            yield {name: without_repeats(array, batch, valid) for name, array in found.items()}

    def _run(
        self, names: tuple[str, ...], chosen: Container[int] | None = None
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        known = self._names if self._names is not None else tuple(v.name or "" for v in self.model.graph.inputs)
        computed = tuple(name for name in names if name not in known)
        session, feeds = None, known
        for step, sample in enumerate(self._samples()):
            if chosen is not None and step not in chosen:
                continue
            if computed and session is None:
                part = _part(self.model, known, computed, sample)
                session = open_session(part, threads=self.threads, arena=False)
                feeds = tuple(value.name or "" for value in part.graph.inputs)
            found = {name: sample[name] for name in names if name in known}
            if session is not None:
                given = {name: sample[name] for name in feeds}
                found |= zip(computed, run_session(session, computed, given), strict=True)
            yield step, found

    def _samples(self) -> Iterator[Sample]:
        return iter(self.dataset) if self._names is None else iter(self._held)


def _part(model: ir.Model, start: tuple[str, ...], end: tuple[str, ...], sample: Sample) -> ir.Model:
    """The nodes between two sets of values as a model of its own; ``sample`` tells the types at the start."""
    graph = ir.convenience.extract(model.graph, start, end)
    used = {value.name for node in graph.all_nodes() for value in node.inputs if value is not None}
    for value in list(graph.inputs):
        if value.name not in used:
            graph.inputs.remove(value)
            continue
        array = sample[value.name or ""]
        value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
        value.shape = ir.Shape([None] * array.ndim)
    return ir.Model(graph, ir_version=model.ir_version, functions=list(model.functions.values()))


def _reads(node: ir.Node) -> Iterator[str]:
    """Names that a node reads, those that its subgraphs capture included."""
    yield from (value.name for value in node.inputs if value is not None and value.name)
    for attribute in node.attributes.values():
        graphs = (
            [attribute.as_graph()]
            if attribute.type == ir.AttributeType.GRAPH
            else attribute.as_graphs()
            if attribute.type == ir.AttributeType.GRAPHS
            else []
        )
        for graph in graphs:
            for inner in graph:
                yield from _reads(inner)
            yield from (value.name for value in graph.outputs if value.name)
