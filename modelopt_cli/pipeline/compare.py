"""Two models held against each other: size, latency, accuracy, agreement, and where they part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from modelopt_cli.data.binding import BoundDataset, bind
from modelopt_cli.data.files import FileDataset
from modelopt_cli.evaluation import compare
from modelopt_cli.evaluation.metrics import AnyMetric
from modelopt_cli.graph.io import SourceModel
from modelopt_cli.graph.stats import model_stats
from modelopt_cli.pipeline.divergence import BELOW_DB, find_divergence
from modelopt_cli.pipeline.provenance import environment
from modelopt_cli.profiling.timing import Budget, Setting, measure
from modelopt_cli.profiling.trial import runnable_feeds
from modelopt_cli.progress import Progress, Silent
from modelopt_cli.report.comparison import CompareReport
from modelopt_cli.report.model import Fidelity


@dataclass(frozen=True)
class CompareOptions:
    """How to compare.

    Attributes:
        data: Samples, with labels or without; None leaves the outputs uncompared.
        metric: For labelled samples; None takes top-1.
        providers: Where latency is measured.
        threads: Of every session.
        batch: Batch size of the latency measurement.
        shapes: Whole shapes by input, likewise.
        budget: For timing, on each provider.
        below_db: Signal to noise under which a tensor has diverged.
        progress: Where to say how far it is.
    """

    data: FileDataset | None = None
    metric: str | AnyMetric | None = None
    providers: tuple[str, ...] = ("cpu",)
    threads: int = 1
    batch: int = 1
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    below_db: float = BELOW_DB
    progress: Progress = field(default_factory=Silent)


def compare_models(original: SourceModel, candidate: SourceModel, options: CompareOptions) -> CompareReport:
    """Measure everything that can be said of a pair.

    Raises:
        DataError: The data does not fit the original, or does not run.
        ModelError: A model cannot be loaded or run.
        ProviderError: A provider is missing.
    """
    data = None if options.data is None else bind(options.data, original.model)
    sample = None if data is None else next(iter(data))
    pair = [_openable(original), _openable(candidate)]
    feeds = runnable_feeds(pair[0], original.model, sample, batch=options.batch, shapes=options.shapes)
    latency = []
    for provider in options.providers:
        with options.progress.task(f"timing on {provider}"):
            found = measure(pair, feeds.arrays, Setting(provider, options.threads), options.budget)
        latency.append(found.comparisons[0])
    hashes = {"original": original.sha256, "candidate": candidate.sha256}
    return CompareReport(
        original=original.label,
        candidate=candidate.label,
        original_stats=model_stats(original.model, original.file_bytes),
        candidate_stats=model_stats(candidate.model, candidate.file_bytes),
        latency=tuple(latency),
        fidelity=None if data is None else _fidelity(pair, data, options),
        divergence=None
        if data is None
        else find_divergence(
            original.model, candidate.model, data, below_db=options.below_db, progress=options.progress
        ),
        environment=environment(),
        hashes=hashes if data is None else hashes | {"evaluation": data.digest()},
    )


def _fidelity(pair: list[Path | ir.Model], data: BoundDataset, options: CompareOptions) -> Fidelity:
    metric = options.metric if options.metric is not None or data.labels is None else "top1"
    found = compare(pair[0], pair[1], data, metric, threads=options.threads, progress=options.progress)
    return Fidelity(data.source, found.samples, found.agreement, found.accuracy)


def _openable(source: SourceModel) -> Path | ir.Model:
    return source.path if source.path is not None else source.model
