"""What a report that is looked at holds besides: layers and kernels of the pair."""

from __future__ import annotations

from dataclasses import replace

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.pipeline.kernels import measure_kernels
from modelopt_cli.pipeline.layers import layers_of
from modelopt_cli.pipeline.measure import Subject
from modelopt_cli.progress import Progress
from modelopt_cli.report.model import RunReport


def look_inside(report: RunReport, subject: Subject, data: Dataset | None, progress: Progress) -> RunReport:
    """The report with its layers, and with its kernels where latency was measured.

    Raises:
        DataError: The data does not run.
        ModelError: A model does not load with its inner tensors as outputs.
    """
    layers = layers_of(subject.source.model, subject.model, data, progress)
    if not report.latency:
        return replace(report, layers=layers)
    first = report.latency[0]
    kernels = measure_kernels(subject, first.provider, first.threads, first.original.median_ms)
    return replace(report, layers=layers, kernels=kernels)
