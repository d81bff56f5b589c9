"""Ranges and channel statistics of a model's tensors, over a stream of samples, in memory that stays flat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.calibration.channels import ChannelAccumulator
from modelopt_cli.calibration.observers import MinMax, Observer, make_observer
from modelopt_cli.calibration.probe import probe_in_groups
from modelopt_cli.calibration.ranges import ChannelStats, ObserverName, ObserverOptions, Range
from modelopt_cli.data.dataset import Dataset
from modelopt_cli.progress import Progress, Silent

MAX_MEMORY_MB = 256.0
SETTLED_GROWTH = 0.002  # mean growth of the ranges, as a share of their widths, over `SETTLING_SAMPLES` more samples
SETTLING_SAMPLES = 16
COUNTED_VALUES = 1 << 16  # of one array, for a histogram: more of them say the same and cost half of the calibration


def collect_ranges(
    model: ir.Model,
    tensors: Sequence[str],
    dataset: Dataset,
    *,
    observer: ObserverName | Mapping[str, ObserverName] = "minmax",
    options: ObserverOptions | None = None,
    threads: int = 1,
    max_memory_mb: float = MAX_MEMORY_MB,
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


@dataclass(frozen=True)
class RangeChoices:
    """Ranges by several rules from one pass over the data.

    Attributes:
        ranges: Observer -> tensor -> range.
        samples: How many samples were looked at before the ranges had settled; all where they had not.
    """

    ranges: dict[ObserverName, dict[str, Range]]
    samples: int


def collect_range_choices(
    model: ir.Model,
    tensors: Sequence[str],
    dataset: Dataset,
    observers: Sequence[ObserverName],
    *,
    options: ObserverOptions | None = None,
    threads: int = 1,
    max_memory_mb: float = MAX_MEMORY_MB,
    progress: Progress | None = None,
) -> RangeChoices:
    """As `collect_ranges`, by each of ``observers``; the data is left when the ranges have settled.

    They have when smallest and largest values moved by less than `SETTLED_GROWTH` of the widths, in the mean over the
    tensors, in two turns of `SETTLING_SAMPLES` samples running.

    Raises:
        ModelError: There is no such tensor, or the runtime cannot load the model.
        DataError: The data set is empty, damaged, not finite, or the model does not run on it.
    """
    names = list(dict.fromkeys(tensors))
    extremes = {name: MinMax() for name in names}
    watching: dict[ObserverName, dict[str, Observer]] = {
        observer: {name: make_observer(observer, options or ObserverOptions()) for name in names}
        for observer in observers
        if observer != "minmax"
    }
    settling = _Settling(extremes)
    found = probe_in_groups(
        model,
        names,
        dataset,
        threads=threads,
        max_memory_mb=max_memory_mb,
        progress=progress or Silent(),
        label="calibrating",
        enough=settling.is_over,
    )
    for name, array in found:
        extremes[name].update(array)
        for each in watching.values():
            each[name].update(_thinned(array))
    ranges = {observer: {name: each[name].range() for name in names} for observer, each in watching.items()}
    if "minmax" in observers:
        ranges["minmax"] = {name: extremes[name].range() for name in names}
    return RangeChoices(ranges, settling.samples)


def _thinned(array: np.ndarray) -> np.ndarray:
    """Evenly spread values of a large array, with its smallest and largest."""
    flat = array.reshape(-1)
    if flat.size <= COUNTED_VALUES:
        return flat
    stride = (flat.size // COUNTED_VALUES + 1) | 1  # odd: it does not run along a column of the picture
    return np.concatenate((flat[::stride], [flat.min(), flat.max()])).astype(flat.dtype)


class _Settling:
    """Whether the ranges of a group of tensors still move."""

    def __init__(self, extremes: Mapping[str, MinMax]) -> None:
        self._extremes = extremes
        self._widths: dict[str, float] = {}
        self._quiet: dict[str, int] = {}
        self.samples = 0

    def is_over(self, group: Sequence[str], seen: int) -> bool:
        self.samples = max(self.samples, seen)
        if seen % SETTLING_SAMPLES:
            return False
        key, growth = group[0], 0.0
        for name in group:
            width = max(self._extremes[name].high, 0.0) - min(self._extremes[name].low, 0.0)
            growth += 1 - self._widths.get(name, 0.0) / width if width > 0 else 0.0
            self._widths[name] = width
        calm = growth < SETTLED_GROWTH * len(group)
        self._quiet[key] = self._quiet.get(key, 0) + 1 if calm else 0
        return self._quiet[key] >= 2


def collect_channel_stats(
    model: ir.Model,
    tensors: Sequence[str],
    dataset: Dataset,
    axis: int | Mapping[str, int],
    *,
    threads: int = 1,
    max_memory_mb: float = MAX_MEMORY_MB,
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
