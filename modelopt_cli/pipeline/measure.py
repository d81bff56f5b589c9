"""Measure original and result on the same inputs: latency in alternation, fidelity sample by sample, the audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.data.synthetic import RandomDataset
from modelopt_cli.evaluation.compare import compare
from modelopt_cli.graph.compressed import compressed_bytes
from modelopt_cli.graph.io import SourceModel, model_bytes, weight_bytes
from modelopt_cli.pipeline.result_file import ResultFile
from modelopt_cli.profiling.audit import Audit, audit
from modelopt_cli.profiling.feeds import Feeds
from modelopt_cli.profiling.placement import Placement, place
from modelopt_cli.profiling.providers import parse_provider
from modelopt_cli.profiling.statistics import LatencyComparison
from modelopt_cli.profiling.timing import Setting, compare_latency
from modelopt_cli.progress import Progress
from modelopt_cli.report.model import Fidelity
from modelopt_cli.targets.target import Target

AGREEMENT_SAMPLES = 64  # enough to see a collapse on calibration data; a held-out set given by --eval is used whole


@dataclass(frozen=True)
class Subject:
    """The pair under test.

    Attributes:
        source: The original.
        model: The result as a graph.
        file: The result's serialized form, or None above 2 GB.
        feeds: One batch of inputs for latency and audit.
        target: What the result is meant for.
    """

    source: SourceModel
    model: ir.Model
    file: ResultFile | None
    feeds: Feeds
    target: Target

    @property
    def original(self) -> Path | ir.Model:
        """What a session opens of the original."""
        return self.source.path or self.source.model

    @property
    def result(self) -> Path | bytes | ir.Model:
        """What a session opens of the result."""
        return self.file.source if self.file is not None else self.model

    @property
    def result_bytes(self) -> int:
        """File bytes of the result."""
        return self.file.size if self.file is not None else weight_bytes(self.model)


def measure_compressed(subject: Subject) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes of original and result once compressed, by method; nothing for models of several files or above 2 GB."""
    source = subject.source
    if subject.file is None or source.uses_external_data:
        return {}, {}
    original = source.path if source.path is not None else model_bytes(source.model)
    return compressed_bytes(original), compressed_bytes(subject.file.source)


def measure_latency(
    subject: Subject, providers: Sequence[str], threads: int, budget_s: float
) -> tuple[LatencyComparison, ...]:
    """Original and result in alternation, on each provider.

    Raises:
        ProviderError: A provider did not take one of them.
    """
    return tuple(
        compare_latency(
            subject.original,
            subject.result,
            subject.feeds.arrays,
            provider=provider,
            threads=threads,
            budget_s=budget_s,
        )
        for provider in providers
    )


def left_to_others(subject: Subject, providers: Sequence[str], threads: int) -> list[Placement]:
    """Where each provider but the CPU's runs the result, as far as it left nodes to another one."""
    wanted = [name for name in providers if parse_provider(name).names != ("CPUExecutionProvider",)]
    found = (place(subject.result, subject.feeds.arrays, Setting(name, threads)) for name in wanted)
    return [placement for placement in found if placement.fallbacks]


def measure_fidelity(
    subject: Subject, data: Dataset | None, metric: str | None, *, held_out: bool, progress: Progress
) -> Fidelity | None:
    """Agreement on ``data``, and accuracy where it has the ground truth that the metric wants; None without data.

    Args:
        subject: The pair.
        data: Samples bound to the model, or None.
        metric: Name of the metric, or None for agreement only.
        held_out: Whether ``data`` was given for evaluation; calibration data is only looked at in part.
        progress: Where to say how far it is.

    Raises:
        DataError: The data does not run, or lacks the ground truth.
    """
    if data is None:
        return None
    found = compare(
        subject.original,
        subject.result,
        data,
        metric,
        max_samples=None if held_out else AGREEMENT_SAMPLES,
        workers=None if held_out else 1,  # so few samples are not worth the memory of several at a time
        progress=progress,
    )
    return Fidelity(data.source, found.samples, found.agreement, found.accuracy, data.source == RandomDataset.source)


def measure_audit(subject: Subject) -> Audit | None:
    """What the target runs of the result as integer kernels; None where it does not tell."""
    return audit(subject.result, subject.original, subject.feeds.arrays, subject.target)
