"""Look inside of a running model: a session whose outputs are the tensors that are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

import numpy as np
import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset, Sample
from modelopt_cli.errors import DataError, ModelError
from modelopt_cli.graph.edit import constant
from modelopt_cli.parallel import cores, in_order
from modelopt_cli.profiling.session import Session, one_line, open_session, runtime_errors
from modelopt_cli.progress import Progress

BYTES_PER_VALUE = 4
# What a sample that runs beside the first holds: its tensors, twice waiting and in the session, and a heap of its own.
COPIES = 6
THREAD_BYTES = 100 * 2**20


class Watch(Protocol):
    """Follows a stream of tensors, and may end it.

    Attributes:
        turn: Samples between two times that it is asked.
        samples: How many it was last asked after.
        seen: First tensor of a group -> samples that were looked at.
        over: Whether it has ended the stream.
    """

    turn: int
    samples: int
    seen: dict[str, int]
    over: bool

    def saw(self, group: str, samples: int) -> None:
        """A group of tensors, named after its first, was looked at on so many samples."""
        ...

    def is_over(self, samples: int) -> bool:
        """Whether to leave the rest: all groups have been looked at on so many samples."""
        ...


class Probe:
    """Runs a model and hands out some of its tensors, sample by sample.

    Args:
        model: Any model; it is not edited.
        tensors: Names of values of the main graph; a graph input is handed through.
        threads: Threads of the session.

    Raises:
        ModelError: There is no such tensor, or the model does not load.
    """

    def __init__(self, model: ir.Model, tensors: Sequence[str], threads: int = 1) -> None:
        inputs = {value.name for value in model.graph.inputs}
        self._fed = [name for name in tensors if name in inputs]
        self._computed = [name for name in tensors if name not in inputs]
        self._session: Session | None = None
        if self._computed:
            # As written: what the runtime would fuse depends on what else is looked at, and the last bits on that.
            inside = _with_outputs(model, self._computed)
            self._session = open_session(inside, threads=threads, arena=False, optimize="off")

    def run(self, sample: Sample) -> dict[str, np.ndarray]:
        """Tensor name -> array for one step of a dataset.

        Raises:
            DataError: The model cannot run on the sample.
        """
        found = {name: sample[name] for name in self._fed}
        if self._session is not None:
            found |= zip(self._computed, run_session(self._session, self._computed, sample), strict=True)
        return found


def run_session(session: Session, outputs: Sequence[str] | None, sample: Sample) -> list[np.ndarray]:
    """Run one step of a dataset; what the runtime says against it becomes a `DataError`."""
    try:
        return session.run(outputs, dict(sample))
    except runtime_errors() as error:
        shapes = ", ".join(f"'{name}' {array.dtype}{list(array.shape)}" for name, array in sample.items())
        raise DataError(f"the model does not run on {shapes}: {one_line(error)}") from error


def probe_in_groups(
    model: ir.Model,
    tensors: Sequence[str],
    dataset: Dataset,
    *,
    threads: int,
    max_memory_mb: float,
    progress: Progress,
    label: str,
    spare_mb: float = 0.0,
    watch: Watch | None = None,
    sizes: Mapping[str, float] | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Every wanted tensor of every sample, as (name, array), within a bound on what is held at once.

    Tensors are cut into groups whose sizes, measured on the first sample, add up to the bound; the data is gone
    through once per group. Arrays are dropped as soon as the caller asks for the next. With memory to spare, samples
    run on several cores; they come in order, so what is found does not depend on how many.

    Args:
        model: It is not edited.
        tensors: Names of values of the main graph.
        dataset: Samples that fit the model.
        threads: Threads of the session.
        max_memory_mb: The bound.
        progress: Where to say how far it is.
        label: What to call it there.
        spare_mb: Memory beyond the bound, for samples that run beside the first.
        watch: Told after each sample, and asked after each turn whether to leave the rest. What it has seen already is
            passed over, and then constants are not given again.
        sizes: `tensor_sizes`, where they are known.

    Raises:
        ModelError: There is no such tensor, or the model does not load.
        DataError: The data set is empty, or a sample is bad.
    """
    constants = {name: array for name in tensors if (array := _constant(model, name)) is not None}
    if watch is None or not watch.seen:
        yield from constants.items()
    wanted = [name for name in tensors if name not in constants]
    known = tensor_sizes(model, wanted, dataset, threads) if sizes is None else sizes
    sizes = {name: known[name] for name in wanted}
    groups = _groups(sizes, max_memory_mb)
    total = len(dataset)
    turn = total if watch is None else max(watch.turn // dataset.batch_size, 1) * dataset.batch_size
    done = 0 if watch is None else watch.samples
    with progress.task(label, total * len(groups)) as advance:
        advance(done * len(groups))
        running: dict[str, _Run] = {}
        while done < total and not (watch is not None and watch.over):
            end = min(done + turn, total)
            for group in groups:
                seen = done if watch is None else max(watch.seen.get(group[0], 0), done)
                advance(seen - done)
                workers = _workers(sum(sizes[name] for name in group), spare_mb)
                run = running.pop(group[0], None) or _Run(Probe(model, group, threads), dataset, seen, workers)
                for name, array, valid in run.until(end, group):
                    yield name, array
                    if name == group[-1]:
                        advance(valid)
                        if watch is not None:
                            watch.saw(group[0], run.seen)
                if len(groups) == 1:
                    running[group[0]] = run  # or else each turn loads it again: one session at a time
            done = end
            if watch is not None and watch.is_over(done):
                advance((total - done) * len(groups))


class _Run:
    """One group's way through the data, which may be interrupted.

    Args:
        probe: Of the group.
        dataset: What it goes through.
        seen: Samples to pass over.
        workers: Samples that run at a time.
    """

    def __init__(self, probe: Probe, dataset: Dataset, seen: int, workers: int) -> None:
        self._batch, self._total = dataset.batch_size, len(dataset)
        skipped = -(-seen // self._batch)
        self.seen = min(skipped * self._batch, self._total)
        self._found = in_order(probe.run, islice(dataset, skipped, None), workers)

    def until(self, end: int, group: Sequence[str]) -> Iterator[tuple[str, np.ndarray, int]]:
        """(name, array, samples in it) of what is left of the first ``end`` samples, all names of a step in a row."""
        while self.seen < end:
            _, found = next(self._found)
            valid = min(self._batch, self._total - self.seen)
            self.seen += valid
            for name in group:
                yield name, without_repeats(found.pop(name), self._batch, valid), valid


def _workers(held: float, spare_mb: float) -> int:
    """Samples that may run at a time, by the bytes that one's tensors hold."""
    return max(1, min(cores(), 1 + int(spare_mb * 2**20 / (COPIES * held + THREAD_BYTES))))


def without_repeats(array: np.ndarray, batch: int, valid: int) -> np.ndarray:
    """An array of a fixed batch without the repeated samples that filled it up."""
    return array[:valid] if valid < batch and array.shape[:1] == (batch,) else array


def _groups(sizes: Mapping[str, float], max_memory_mb: float) -> list[list[str]]:
    groups: list[list[str]] = []
    held = 0.0
    for name, size in sizes.items():
        held += size
        if not groups or held > max_memory_mb * 2**20:
            groups.append([])
            held = size
        groups[-1].append(name)
    return groups


def tensor_sizes(model: ir.Model, tensors: Sequence[str], dataset: Dataset, threads: int = 1) -> dict[str, float]:
    """Bytes of each tensor on the first sample: a run in which every wanted tensor is asked for its shape alone.

    Args:
        model: It is not edited.
        tensors: Names of inputs and of what nodes of the main graph make.
        dataset: Samples that fit the model.
        threads: Threads of the session.

    Raises:
        ModelError: There is no such tensor, or the model does not load.
        DataError: The data set is empty, or its first sample is bad.
    """
    sample = next(iter(dataset), None)
    if sample is None:
        raise DataError("holds no samples", where=dataset.source)
    inputs = {value.name for value in model.graph.inputs}
    computed = [name for name in tensors if name not in inputs]
    sizes = {name: float(sample[name].nbytes) for name in tensors if name in inputs}
    if computed:
        asking = _with_outputs(model, computed, shapes_only=True)
        session = open_session(asking, threads=threads, arena=False, shapes_first=True)
        shapes = run_session(session, None, sample)
        sizes |= {n: float(np.prod(s) * BYTES_PER_VALUE) for n, s in zip(computed, shapes, strict=True)}
    return {name: sizes[name] for name in tensors}


def _with_outputs(model: ir.Model, tensors: Sequence[str], *, shapes_only: bool = False) -> ir.Model:
    clone = model.clone()
    values = {value.name: value for node in clone.graph for value in node.outputs}
    missing = next((name for name in tensors if name not in values), None)
    if missing is not None:
        raise ModelError(f"the graph has no tensor '{missing}'")
    wanted = [values[name] for name in tensors]
    clone.graph.outputs.clear()
    if shapes_only:
        nodes = [ir.node("Shape", [value]) for value in wanted]
        for index, node in enumerate(nodes):
            node.outputs[0].name = f"modelopt.shape.{index}"
            node.outputs[0].type = ir.TensorType(ir.DataType.INT64)
        clone.graph.extend(nodes)
        wanted = [node.outputs[0] for node in nodes]
    clone.graph.outputs.extend(wanted)
    return clone


def _constant(model: ir.Model, name: str) -> np.ndarray | None:
    return constant(model.graph.initializers.get(name))
