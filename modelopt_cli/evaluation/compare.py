"""Original and result on the same samples, in one pass over the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.errors import DataError
from modelopt_cli.evaluation.agreement import AgreementMeter, OutputAgreement, are_scores
from modelopt_cli.evaluation.interval import difference_interval, whole_difference_interval
from modelopt_cli.evaluation.metric import ByClass
from modelopt_cli.evaluation.metrics import AnyMetric, WholeMetric, find_metric
from modelopt_cli.evaluation.outputs import session_outputs
from modelopt_cli.profiling.session import open_session
from modelopt_cli.progress import Progress, Silent

Model = Path | bytes | ir.Model


@dataclass(frozen=True)
class Accuracy:
    """A metric with labels, on original and result.

    Attributes:
        metric: Its name.
        original: Its value on the original.
        result: Its value on the result.
        samples: How many it was measured on.
        drop_low: Lower end of the 95 % interval of `drop`, paired by sample; None when it was not taken.
        drop_high: Upper end.
        higher_is_better: False for errors.
        classes: For a mean over classes: class, its value on the original, and on the result; those that occur.
    """

    metric: str
    original: float
    result: float
    samples: int
    drop_low: float | None = None
    drop_high: float | None = None
    higher_is_better: bool = True
    classes: tuple[tuple[int, float, float], ...] = ()

    @property
    def drop(self) -> float:
        """How much worse the result is, in the metric's unit (a fraction for shares); negative when it is better."""
        difference = self.original - self.result
        return difference if self.higher_is_better else -difference

    @property
    def significant(self) -> bool:
        """Whether there is an interval and it leaves 0 out."""
        return self.drop_low is not None and self.drop_high is not None and not self.drop_low <= 0.0 <= self.drop_high


@dataclass(frozen=True)
class Comparison:
    """What one pass over the data says about a pair of models.

    Attributes:
        agreement: Per output, in the original's order.
        accuracy: None when no metric was asked for.
        samples: How many were compared.
    """

    agreement: tuple[OutputAgreement, ...]
    accuracy: Accuracy | None
    samples: int


def compare(
    reference: Model,
    candidate: Model,
    dataset: Dataset,
    metric: str | AnyMetric | None = None,
    *,
    threads: int = 1,
    max_samples: int | None = None,
    mask_threshold: float | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run both models over a dataset that fits them (see `data.bind`), samples on all processors at once.

    Args:
        reference: The original.
        candidate: The result: same inputs and outputs.
        dataset: Samples; labels are used only when ``metric`` is given.
        metric: A metric, or the name of one, measured on the first output.
        threads: Threads of each session; as many runs at once as processors allow.
        max_samples: At most this many, spread evenly; default all.
        mask_threshold: Also measure how far what lies above it overlaps, on every output.
        workers: Samples at a time, which each take memory; None for as many as the processors allow.
        progress: Where to say how far it is.

    Raises:
        DataError: The data is empty, damaged or not finite, has no ground truth for the metric, or does not run.
        ModelError: A model does not load.
        UsageError: There is no such metric.
    """
    data = dataset if max_samples is None else dataset.take(max_samples)
    chosen = find_metric(metric) if isinstance(metric, str) else metric
    truth = None if chosen is None else _truth(data, chosen)
    sessions = tuple(open_session(model, threads=threads, arena=False) for model in (reference, candidate))
    declared = sessions[0].get_outputs()
    names = [output.name for output in declared]
    dims = {dim for value in sessions[0].get_inputs() for dim in value.shape[1:]}
    meters = [AgreementMeter(each.name, mask_threshold, scores=are_scores(each.shape, dims)) for each in declared]
    kept: tuple[list[Any], list[Any]] = ([], [])
    found = session_outputs(sessions, names, data, progress or Silent(), "comparing", threads=threads, workers=workers)
    for index, pair in enumerate(found):
        for meter, ref, got in zip(meters, *pair, strict=True):
            if isinstance(ref, np.ndarray) and ref.dtype.kind in "fiub":
                meter.update(ref, got)
        if chosen is not None and truth is not None:
            for side, outputs in zip(kept, pair, strict=True):
                side.append(_keep(chosen, outputs[0], truth[index]))
    accuracy = None if chosen is None else _accuracy(chosen, *kept)
    return Comparison(tuple(meter.result() for meter in meters), accuracy, len(data))


def agreement(
    reference: Model,
    candidate: Model,
    dataset: Dataset,
    *,
    threads: int = 1,
    max_samples: int | None = None,
    mask_threshold: float | None = None,
    progress: Progress | None = None,
) -> tuple[OutputAgreement, ...]:
    """How the candidate's outputs follow the reference's, per output; see `compare`."""
    found = compare(
        reference,
        candidate,
        dataset,
        threads=threads,
        max_samples=max_samples,
        mask_threshold=mask_threshold,
        progress=progress,
    )
    return found.agreement


def evaluate(
    model: Model,
    dataset: Dataset,
    metric: str | AnyMetric,
    *,
    threads: int = 1,
    max_samples: int | None = None,
    progress: Progress | None = None,
) -> float:
    """A metric of one model, on its first output; arguments and errors as in `compare`."""
    data = dataset if max_samples is None else dataset.take(max_samples)
    chosen = find_metric(metric) if isinstance(metric, str) else metric
    truth = _truth(data, chosen)
    session = open_session(model, threads=threads, arena=False)
    names = [session.get_outputs()[0].name]
    found = session_outputs((session,), names, data, progress or Silent(), "evaluating", threads=threads)
    return _value(chosen, [_keep(chosen, outputs[0], truth[index]) for index, (outputs,) in enumerate(found)])


def _unbatched(output: np.ndarray) -> np.ndarray:
    return output[0] if output.ndim > 1 and output.shape[0] == 1 else output


def _truth(data: Dataset, metric: AnyMetric) -> np.ndarray:
    if metric.truth != "labels":
        return data.extra(metric.truth)
    labels = data.labels
    if labels is None:
        raise DataError(
            f"metric {metric.name} needs labels", where=data.source, hint="add an array 'labels', or ask for agreement"
        )
    return labels


def _keep(metric: AnyMetric, output: np.ndarray, truth: np.ndarray) -> Any:
    """What a metric needs of one sample."""
    if isinstance(metric, WholeMetric):
        return metric.keep(_unbatched(output), np.asarray(truth))
    return metric.sums(_unbatched(output), np.asarray(truth))


def _value(metric: AnyMetric, kept: list[Any]) -> float:
    if isinstance(metric, WholeMetric):
        return metric.score(kept)
    return float(metric.value(np.sum(kept, axis=0)))


def _accuracy(metric: AnyMetric, original: list[Any], result: list[Any]) -> Accuracy:
    ends = (
        whole_difference_interval(metric, original, result)
        if isinstance(metric, WholeMetric)
        else difference_interval(metric, np.stack(original), np.stack(result))
    )
    low, high = ends if ends is not None else (None, None)
    if low is not None and high is not None and not metric.higher_is_better:
        low, high = -high, -low
    values = _value(metric, original), _value(metric, result)
    classes = _classes(metric, original, result)
    return Accuracy(metric.name, *values, len(original), low, high, metric.higher_is_better, classes)


def _classes(metric: AnyMetric, original: list[Any], result: list[Any]) -> tuple[tuple[int, float, float], ...]:
    if not isinstance(metric, ByClass):
        return ()
    before, after = (metric.by_class(np.sum(kept, axis=0)) for kept in (original, result))
    pairs = enumerate(zip(before.tolist(), after.tolist(), strict=True))
    return tuple((index, old, new) for index, (old, new) in pairs if old == old and new == new)
