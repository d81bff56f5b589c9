"""Ranges and channel statistics of a model's tensors, over a stream of samples, in memory that stays flat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from modelopt_cli.cache import Cache
from modelopt_cli.calibration.channels import ChannelAccumulator
from modelopt_cli.calibration.memory import DEFAULT_MB, WorkingMemory
from modelopt_cli.calibration.observers import make_observer
from modelopt_cli.calibration.probe import probe_in_groups
from modelopt_cli.calibration.ranges import ChannelStats, ObserverName, ObserverOptions, Range
from modelopt_cli.calibration.saved import SavedStatistics, statistics_key
from modelopt_cli.calibration.watch import RangeChoices, RangeWatch
from modelopt_cli.data.dataset import Dataset
from modelopt_cli.progress import Progress, Silent


def collect_ranges(
    model: ir.Model,
    tensors: Sequence[str],
    dataset: Dataset,
    *,
    observer: ObserverName | Mapping[str, ObserverName] = "minmax",
    options: ObserverOptions | None = None,
    threads: int = 1,
    max_memory_mb: float = DEFAULT_MB,
    progress: Progress | None = None,
) -> dict[str, Range]:
    """The range of each tensor over all samples of a dataset that fits the model (see `data.bind`).

    Args:
        model: The model in float; it is not edited.
        tensors: Names of values of the main graph: inputs, node outputs or initializers.
        dataset: Samples; gone through once per group of tensors.
        observer: How a range follows from the values; one for all, or by tensor (``minmax`` for those left out).
        options: Settings of the observers.
        threads: Threads of the runtime.
        max_memory_mb: Bound on the tensors of one sample held at once; above it they are collected group by group.
        progress: Where to say how far it is.

    Returns:
        Ranges in the order of ``tensors``. They do not depend on the grouping, nor (but for ``moving-average``) on the
        order of the samples or on how they are cut into batches.

    Raises:
        ModelError: There is no such tensor, or the runtime cannot load the model.
        DataError: The data set is empty, damaged, not finite, or the model does not run on it.
    """
    settings = options or ObserverOptions()
    names = list(dict.fromkeys(tensors))
    chosen = (
        dict.fromkeys(names, observer) if isinstance(observer, str) else {n: observer.get(n, "minmax") for n in names}
    )
    observers = {name: make_observer(chosen[name], settings) for name in names}
    found = probe_in_groups(
        model,
        names,
        dataset,
        threads=threads,
        max_memory_mb=max_memory_mb,
        progress=progress or Silent(),
        label="calibrating",
    )
    for name, array in found:
        observers[name].update(array)
    return {name: observers[name].range() for name in names}


def collect_range_choices(
    model: ir.Model,
    tensors: Sequence[str],
    dataset: Dataset,
    observers: Sequence[ObserverName],
    *,
    options: ObserverOptions | None = None,
    threads: int = 1,
    memory: WorkingMemory | None = None,
    progress: Progress | None = None,
    cache: Cache | None = None,
) -> RangeChoices:
    """As `collect_ranges`, by each of ``observers``; the data is left when the ranges have settled (see `RangeWatch`).

    Args:
        model: As for `collect_ranges`, like the others that are not named here.
        tensors: As there.
        dataset: As there.
        observers: The rules, each of which gives a range.
        options: As there.
        threads: As there.
        memory: What may be held; by default as there, one sample at a time.
        progress: As there.
        cache: Where the answer may lie already, or the half of it that an interrupted run left, and is stored.

    Raises:
        ModelError: There is no such tensor, or the runtime cannot load the model.
        DataError: The data set is empty, damaged, not finite, or the model does not run on it.
    """
    names = list(dict.fromkeys(tensors))
    settings, sink, memory = options or ObserverOptions(), progress or Silent(), memory or WorkingMemory()
    watch = RangeWatch(names, observers, settings)
    saved = None
    if cache is not None:
        key = statistics_key(model, names, dataset, observers, settings)
        saved = SavedStatistics(cache, key, memory.tensors_mb)
        if (known := saved.finished()) is not None:
            return known
        if saved.resume(watch):
            done = min(watch.seen.values(), default=0)
            sink.note(f"calibration goes on at sample {done} of {len(dataset)}, where it was interrupted")
        saved.follow(watch)
    found = probe_in_groups(
        model,
        names,
        dataset,
        threads=threads,
        max_memory_mb=memory.tensors_mb,
        spare_mb=memory.spare_mb,
        progress=sink,
        label="calibrating",
        watch=watch,
    )
    for name, array in found:
        watch.update(name, array)
    choices = watch.choices()
    if saved is not None:
        saved.finish(choices)
    return choices


def collect_channel_stats(
    model: ir.Model,
    tensors: Sequence[str],
    dataset: Dataset,
    axis: int | Mapping[str, int],
    *,
    threads: int = 1,
    max_memory_mb: float = DEFAULT_MB,
    progress: Progress | None = None,
) -> dict[str, ChannelStats]:
    """Extremes and the first two moments of each channel of each tensor, for bias correction and equalization.

    Args:
        model: The model in float; it is not edited.
        tensors: Names of values of the main graph.
        dataset: Samples; gone through once per group of tensors.
        axis: Which axis counts channels (1 for images, -1 for tokens); one for all, or by tensor.
        threads: Threads of the runtime.
        max_memory_mb: As in `collect_ranges`.
        progress: Where to say how far it is.

    Raises:
        ModelError: There is no such tensor, or the runtime cannot load the model.
        DataError: The data set is empty, damaged, not finite, or the model does not run on it.
    """
    names = list(dict.fromkeys(tensors))
    accumulators = {name: ChannelAccumulator(axis if isinstance(axis, int) else axis[name]) for name in names}
    found = probe_in_groups(
        model,
        names,
        dataset,
        threads=threads,
        max_memory_mb=max_memory_mb,
        progress=progress or Silent(),
        label="collecting statistics",
    )
    for name, array in found:
        accumulators[name].update(array)
    return {name: accumulators[name].stats() for name in names}
