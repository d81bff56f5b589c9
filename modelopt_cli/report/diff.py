"""Two reports of the same kind held against each other: the gate of a CI."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from modelopt_cli.errors import DataError
from modelopt_cli.profiling.statistics import LatencyComparison
from modelopt_cli.report.comparison import CompareReport
from modelopt_cli.report.model import Fidelity, RunReport
from modelopt_cli.report.profile import ProfileEntry, ProfileReport

AnyReport = RunReport | ProfileReport | CompareReport


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        name: What it is of; the same in both reports.
        value: In ``unit``.
        unit: ``bytes``, ``ms``, ``share`` (of the original's), ``metric`` or ``dB``.
        higher_is_better: Which way is good.
        low: Lower end of its 95 % interval, where there is one.
        high: Upper end.
    """

    name: str
    value: float
    unit: str
    higher_is_better: bool = False
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Change:
    """One figure in both reports.

    Attributes:
        old: Before.
        new: Now.
        worse: How much worse, as a share of the old value; negative when better.
        clear: Whether the intervals lie apart; also where there are none.
    """

    old: Figure
    new: Figure
    worse: float
    clear: bool

    def exceeds(self, limit: float) -> bool:
        """Whether it is worse by more than ``limit``, and not by noise."""
        return self.worse > limit and self.clear


@dataclass(frozen=True)
class ReportDiff:
    """All changes, and figures that only one report has."""

    changes: tuple[Change, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]


def diff_reports(old: AnyReport, new: AnyReport) -> ReportDiff:
    """Hold the figures of two reports against each other.

    Raises:
        DataError: They are of different kinds, or have no figure in common.
    """
    if old.kind != new.kind:
        raise DataError(f"a report of '{old.kind}' cannot be held against one of '{new.kind}'")
    before, after = ({figure.name: figure for figure in figures(report)} for report in (old, new))
    shared = [name for name in before if name in after]
    if not shared:
        raise DataError("the two reports have no figure in common", hint="were the models called the same?")
    changes = tuple(_change(before[name], after[name]) for name in shared)
    return ReportDiff(
        changes,
        tuple(name for name in before if name not in after),
        tuple(name for name in after if name not in before),
    )


def figures(report: AnyReport) -> Iterator[Figure]:
    """What of a report can be better or worse.

    Latency of a result is a share of its original's, measured in the same run: that holds on any machine. Where a
    profile had no baseline it is in milliseconds, which only hold on one.
    """
    if isinstance(report, ProfileReport):
        for model in report.models:
            yield Figure(f"file {model.model}", model.file_bytes, "bytes")
        for entry in report.entries:
            yield from _entry(entry)
        return
    result = report.result if isinstance(report, RunReport) else report.candidate_stats
    yield Figure("file", result.file_bytes, "bytes")
    for latency in report.latency:
        yield _latency(latency)
    if report.fidelity is not None:
        yield from _fidelity(report.fidelity)


def _entry(entry: ProfileEntry) -> Iterator[Figure]:
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in entry.shapes.items())
    what = f"{entry.model} on {entry.provider} ({shapes})"
    if entry.ratio is not None:
        yield Figure(f"latency {what}", entry.ratio.value, "share", low=entry.ratio.low, high=entry.ratio.high)
    else:
        latency = entry.latency
        yield Figure(f"latency {what}", latency.median_ms, "ms", low=latency.low_ms, high=latency.high_ms)
    if entry.footprint is not None:
        yield Figure(f"memory {what}", entry.footprint.session_bytes, "bytes")


def _latency(latency: LatencyComparison) -> Figure:
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in latency.shapes.items())
    name = f"latency on {latency.provider} ({shapes}, {latency.threads} threads)"
    return Figure(name, latency.ratio, "share", low=latency.ratio_low, high=latency.ratio_high)


def _fidelity(fidelity: Fidelity) -> Iterator[Figure]:
    if fidelity.accuracy is not None:
        accuracy = fidelity.accuracy
        yield Figure(accuracy.metric, accuracy.result, "metric", accuracy.higher_is_better)
    for output in fidelity.agreement:
        yield Figure(f"SQNR of {output.output}", output.sqnr_db, "dB", True)
        if output.top1 is not None:
            yield Figure(f"agreement of {output.output}", output.top1, "metric", True)


def _change(old: Figure, new: Figure) -> Change:
    difference = old.value - new.value if old.higher_is_better else new.value - old.value
    worse = difference / abs(old.value) if old.value else (0.0 if difference == 0 else float("inf"))
    if old.low is None or old.high is None or new.low is None or new.high is None:
        return Change(old, new, worse, True)
    return Change(old, new, worse, new.low > old.high or new.high < old.low)
