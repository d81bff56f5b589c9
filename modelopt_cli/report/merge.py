"""Reports of several machines in one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from modelopt_cli.profiling.statistics import Latency, LatencyComparison
from modelopt_cli.report.diff import AnyReport
from modelopt_cli.report.model import RunReport
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
    """

    machine: str
    model: str
    provider: str
    shape: str
    latency: Latency
    ratio: Ratio | None
    environment: dict[str, Any]


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
        for entry in report.entries:
            shape = _first(entry.shapes)
            yield MergedRow(machine, entry.model, entry.provider, shape, entry.latency, entry.ratio, facts)
        return
    names = _names(report)
    for latency in report.latency:
        yield from _pair(machine, names, latency, facts)


def _names(report: AnyReport) -> tuple[str, str]:
    if isinstance(report, RunReport):
        return report.model, report.output or f"{report.model} by {report.recipe.get('name', 'a recipe')}"
    assert not isinstance(report, ProfileReport)
    return report.original, report.candidate


def _pair(
    machine: str, names: tuple[str, str], latency: LatencyComparison, facts: dict[str, Any]
) -> Iterator[MergedRow]:
    ratio = Ratio(latency.ratio, latency.ratio_low, latency.ratio_high)
    shape = _first(latency.shapes)
    yield MergedRow(machine, names[0], latency.provider, shape, latency.original, None, facts)
    yield MergedRow(machine, names[1], latency.provider, shape, latency.result, ratio, facts)


def _first(shapes: dict[str, list[int]]) -> str:
    return "x".join(map(str, next(iter(shapes.values()), [])))
