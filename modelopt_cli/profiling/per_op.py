"""Where the time goes: per node of the graph that the runtime really runs, and per operator type."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.edit import all_nodes
from modelopt_cli.profiling.names import covered_nodes, node_label
from modelopt_cli.profiling.roofline import node_operations
from modelopt_cli.profiling.session import Model
from modelopt_cli.profiling.trace import NodeRun, trace

WARM_RUNS = 2
# Compiling providers (TensorRT, OpenVINO, plug-ins) make one node of many, which the runtime cannot write to a file.
_WRITES_ITS_GRAPH = ("cpu", "cuda", "CPUExecutionProvider", "CUDAExecutionProvider")


@dataclass(frozen=True)
class OpTime:
    """Time of one node, or of all nodes of one type (``name`` is then empty).

    Attributes:
        name: Node in the optimized graph.
        op_type: Operator type there.
        provider: The runtime's name of the provider that ran it.
        ms: Milliseconds per run of the model: the lower quartile over runs, since other processes only ever add.
        count: Nodes that this stands for.
        nodes: The nodes of the user's file that it stands for; empty for what the runtime put in.
        operations: Arithmetic operations per run of the model, counted on those nodes.
        data_bytes: Bytes of activations and weights that it reads and writes.
    """

    name: str
    op_type: str
    provider: str
    ms: float
    count: int = 1
    nodes: tuple[str, ...] = ()
    operations: int = 0
    data_bytes: int = 0


@dataclass(frozen=True)
class OpProfile:
    """One model under the profiler.

    Attributes:
        times: Each node, slowest first.
        runs: Every node that ran in the timed runs, for a trace.
        reads: Name of a node -> names of the nodes whose outputs it reads; empty where the provider does not tell.
    """

    times: list[OpTime]
    runs: list[NodeRun]
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def profile_ops(
    model: Model,
    feeds: Mapping[str, np.ndarray],
    runs: int = 10,
    *,
    provider: str = "cpu",
    threads: int = 1,
) -> list[OpTime]:
    """Time of each node, slowest first; a node that runs several times in a run (in a loop) counts with all of them.

    The profiler itself costs about 2.5 % and more on tiny nodes: shares are right, sums are not latencies.

    Raises:
        UsageError: Fewer than one run.
        ModelError: The model cannot be loaded or run.
        ProviderError: The provider is not available.
    """
    ran = _timed(model, feeds, runs, provider, threads, {}, None)
    return _times(ran, runs)


def profile_nodes(
    model: Model,
    graph: ir.Model,
    feeds: Mapping[str, np.ndarray],
    runs: int = 10,
    *,
    provider: str = "cpu",
    threads: int = 1,
    config: Mapping[str, str] | None = None,
    count: bool = True,
) -> OpProfile:
    """As `profile_ops`, under the names of the file, with operations and bytes.

    Args:
        model: What is run.
        graph: The same model as a graph.
        feeds: One batch of inputs by name.
        runs: Timed runs.
        provider: See `open_session`.
        threads: Threads inside an operator.
        config: Session configuration entries.
        count: Whether operations are counted too, which takes another session.

    Raises:
        UsageError: Fewer than one run.
        ModelError: The model cannot be loaded or run.
        ProviderError: The provider is not available.
    """
    settings = dict(config or {})
    if provider not in _WRITES_ITS_GRAPH:
        ran = _timed(model, feeds, runs, provider, threads, settings, None)
        return OpProfile(_times(ran, runs), ran)
    with tempfile.TemporaryDirectory(prefix="modelopt-") as folder:
        path = Path(folder) / "optimized.onnx"
        ran = _timed(model, feeds, runs, provider, threads, settings, path)
        optimized = ir.load(path)
        covered = covered_nodes(graph, optimized)
        weights, reads = _weight_bytes(optimized), _reads(optimized)
    operations = _operations(model, graph, feeds) if count else {}
    activations = {run.name: run.data_bytes for run in ran}
    times = [
        replace(
            each,
            nodes=covered.get(each.name, ()),
            operations=sum(operations.get(node, 0) for node in covered.get(each.name, ())),
            data_bytes=activations[each.name] + weights.get(each.name, 0),
        )
        for each in _times(ran, runs)
    ]
    return OpProfile(times, ran, reads)


def by_type(times: Iterable[OpTime]) -> list[OpTime]:
    """The same, summed over operator type and provider, slowest first."""
    groups: dict[tuple[str, str], list[OpTime]] = defaultdict(list)
    for op in times:
        groups[op.op_type, op.provider].append(op)
    sums = [
        OpTime(
            "",
            op_type,
            provider,
            sum(op.ms for op in ops),
            sum(op.count for op in ops),
            operations=sum(op.operations for op in ops),
            data_bytes=sum(op.data_bytes for op in ops),
        )
        for (op_type, provider), ops in groups.items()
    ]
    return sorted(sums, key=lambda op: -op.ms)


@dataclass(frozen=True)
class Section:
    """A part of the network that both models have, and what each spends on it.

    Attributes:
        nodes: Nodes of the model's file in it.
        op_types: What the runtime runs of them.
        ms: Milliseconds of the model.
        baseline_ms: Of the baseline; 0 where it has nothing of that name.
    """

    nodes: tuple[str, ...]
    op_types: tuple[str, ...]
    ms: float
    baseline_ms: float


def side_by_side(times: Iterable[OpTime], baseline: Iterable[OpTime]) -> list[Section]:
    """Nodes of both models, joined where they stand for nodes of one name; slowest of either first.

    What one model fuses and the other does not becomes one section, with all that either runs of it.
    """
    ours, theirs = list(times), list(baseline)
    parent = list(range(len(ours) + len(theirs)))
    first: dict[str, int] = {}
    for index, op in enumerate((*ours, *theirs)):
        for name in op.nodes:
            parent[_root(parent, index)] = _root(parent, first.setdefault(name, index))
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(len(parent)):
        groups[_root(parent, index)].append(index)
    sections = []
    for members in groups.values():
        mine = [ours[i] for i in members if i < len(ours)]
        other = [theirs[i - len(ours)] for i in members if i >= len(ours)]
        named = [name for op in (mine or other) for name in (op.nodes or (op.name,))]
        kinds = [op.op_type for op in (mine or other)]
        spent = sum(op.ms for op in mine), sum(op.ms for op in other)
        sections.append(Section(tuple(named), tuple(dict.fromkeys(kinds)), *spent))
    return sorted(sections, key=lambda each: -max(each.ms, each.baseline_ms))


def _root(parent: list[int], index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = parent[index]
    return index


def _timed(
    model: Model,
    feeds: Mapping[str, np.ndarray],
    runs: int,
    provider: str,
    threads: int,
    config: Mapping[str, str],
    optimized: Path | None,
) -> list[NodeRun]:
    if runs < 1:
        raise UsageError(f"cannot profile {runs} runs", hint="give 1 or more")
    ran = trace(
        model,
        feeds,
        provider=provider,
        threads=threads,
        runs=WARM_RUNS + runs,
        config=config,
        optimized_path=optimized,
    )
    return [replace(node, turn=node.turn - WARM_RUNS) for node in ran if node.turn >= WARM_RUNS]


def _times(ran: Iterable[NodeRun], runs: int) -> list[OpTime]:
    spent: dict[tuple[str, str, str], np.ndarray] = defaultdict(lambda: np.zeros(runs))
    for node in ran:
        spent[node.name, node.op_type, node.provider][node.turn] += node.ms
    times = [OpTime(*key, ms=float(np.percentile(per_run, 25))) for key, per_run in spent.items()]
    return sorted(times, key=lambda op: -op.ms)


def _operations(model: Model, graph: ir.Model, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Operations of each node of the file, from the shapes of one run without any rewriting."""
    equations = {
        node.name: node.attributes.get_string("equation", "")
        for node in all_nodes(graph)
        if node.op_type == "Einsum" and node.name
    }
    plain = {"session.disable_prepacking": "1"}  # packed weights lose their shape
    counts: dict[str, int] = defaultdict(int)
    unnamed = {node.outputs[0].name: node_label(node) for node in graph.graph if not node.name}
    for run in trace(model, feeds, optimize="off", config=plain):
        counts[unnamed.get(run.name, run.name)] += node_operations(run, equations.get(run.name, ""))
    return counts


def _reads(optimized: ir.Model) -> dict[str, tuple[str, ...]]:
    producers = {
        node.name: [value.producer() for value in node.inputs if value is not None]
        for node in optimized.graph
        if node.name
    }
    return {
        name: tuple(dict.fromkeys(each.name for each in nodes if each is not None and each.name))
        for name, nodes in producers.items()
    }


def _weight_bytes(optimized: ir.Model) -> dict[str, int]:
    """Bytes of the initializers that each node of the optimized graph reads."""
    return {
        node.name: sum(v.const_value.nbytes for v in node.inputs if v is not None and v.const_value is not None)
        for node in optimized.graph
        if node.name
    }
