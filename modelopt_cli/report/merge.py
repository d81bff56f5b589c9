"""Reports of several machines in one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from modelopt_cli.profiling.statistics import Latency, LatencyComparison
from modelopt_cli.report.comparison import CompareReport
from modelopt_cli.report.diff import AnyReport
from modelopt_cli.report.model import Fidelity, RunReport
from modelopt_cli.report.profile import ProfileReport, Ratio


@dataclass(frozen=True)
class MergedRow:
    """One model on one machine and provider.

    Attributes:
        machine: The processor as it calls itself, or the name of the report.
        model: As the report names it.
        provider: As the user named it there.
        shape: Of the first input.
        latency: Milliseconds.
        ratio: Against the original or the baseline, measured on that machine; None without one.
        environment: Versions there.
        file_bytes: Of the model; None where the report does not say.
        quality: Share of right answers where there were labels, else of answers as the original's; None without data.
        measure: What ``quality`` is: a metric's name, or ``agreement``.
    """

    machine: str
    model: str
    provider: str
    shape: str
    latency: Latency
    ratio: Ratio | None
    environment: dict[str, Any]
    file_bytes: int | None = None
    quality: float | None = None
    measure: str = ""


def merge_reports(reports: Sequence[tuple[str, AnyReport]]) -> list[MergedRow]:
    """Rows of all reports, in order.

    Args:
        reports: Name (used where the report does not say the processor) and report.
    """
    return [row for name, report in reports for row in _rows(name, report)]


def _rows(name: str, report: AnyReport) -> Iterator[MergedRow]:
    facts = report.environment
    machine = str(facts.get("processor") or name)
    if facts.get("cpus"):
        machine += f", {facts['cpus']} CPUs"
    if isinstance(report, ProfileReport):
        sizes = {each.model: each.file_bytes for each in report.models}
        for entry in report.entries:
            shape, size = _first(entry.shapes), sizes.get(entry.model)
            yield MergedRow(machine, entry.model, entry.provider, shape, entry.latency, entry.ratio, facts, size)
        return
    sides = _sides(report)
    for latency in report.latency:
        yield from _pair(machine, sides, latency, facts)


@dataclass(frozen=True)
class _Side:
    """One model of a pair: what its rows say besides times."""

    name: str
    file_bytes: int
    quality: float | None
    measure: str


def _sides(report: RunReport | CompareReport) -> tuple[_Side, _Side]:
    before, after = _names(report)
    sizes = (
        (report.original.file_bytes, report.result.file_bytes)
        if isinstance(report, RunReport)
        else (report.original_stats.file_bytes, report.candidate_stats.file_bytes)
    )
    measure, first, second = _quality(report.fidelity)
    return _Side(before, sizes[0], first, measure), _Side(after, sizes[1], second, measure)


def _quality(found: Fidelity | None) -> tuple[str, float | None, float | None]:
    """What is judged by, and both models' share."""
    if found is not None and found.accuracy is not None:
        return found.accuracy.metric, found.accuracy.original, found.accuracy.result
    scores = [each.top1 for each in found.agreement if each.top1 is not None] if found is not None else []
    return ("agreement", 1.0, min(scores)) if scores else ("", None, None)


def _names(report: RunReport | CompareReport) -> tuple[str, str]:
    if isinstance(report, RunReport):
        return report.model, report.output or f"{report.model} by {report.recipe.get('name', 'a recipe')}"
    return report.original, report.candidate


def _pair(
    machine: str, sides: tuple[_Side, _Side], latency: LatencyComparison, facts: dict[str, Any]
) -> Iterator[MergedRow]:
    shape = _first(latency.shapes)
    ratios = None, Ratio(latency.ratio, latency.ratio_low, latency.ratio_high)
    for side, times, ratio in zip(sides, (latency.original, latency.result), ratios, strict=True):
        more = side.file_bytes, side.quality, side.measure
        yield MergedRow(machine, side.name, latency.provider, shape, times, ratio, facts, *more)


def _first(shapes: dict[str, list[int]]) -> str:
    return "x".join(map(str, next(iter(shapes.values()), [])))
