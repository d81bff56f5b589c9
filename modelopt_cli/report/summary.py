"""The report as rows of text: the terminal and Markdown print the same ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from modelopt_cli.format import (
    format_bytes,
    format_change,
    format_count,
    format_db,
    format_ms,
    format_percent,
    format_points,
    format_seconds,
    format_size,
    format_speed,
)
from modelopt_cli.report.model import Accuracy, Audit, Fidelity, LatencyComparison, ModelStats, RunReport, StepReport
from modelopt_cli.report.verdict import gate_value, metric_label, verdict

BUSY_SHARE = 0.1  # of the measuring time taken by other processes: worth a line


@dataclass(frozen=True)
class Row:
    """One line of the main table."""

    label: str
    original: str
    result: str
    change: str


@dataclass(frozen=True)
class StepRow:
    """One pass: what it changed, and what it left as it was and why (one line for each reason)."""

    name: str
    changed: str
    nodes: str
    seconds: str
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class GateRow:
    """One requirement."""

    name: str
    limit: str
    value: str
    state: str
    note: str


@dataclass(frozen=True)
class Summary:
    """All that is printed of a report, in order."""

    verdict: str
    rows: tuple[Row, ...]
    steps: tuple[StepRow, ...]
    gates: tuple[GateRow, ...]
    notices: tuple[str, ...]


def summarize_report(report: RunReport) -> Summary:
    """The texts of a report; nothing is measured or decided here."""
    gates = (
        GateRow(g.name, gate_value(g, g.limit), gate_value(g, g.value), "met" if g.met else "MISSED", g.note)
        for g in report.gates
    )
    notices = [f"{n.message} ({n.advice})" if n.advice else n.message for n in report.notices]
    notices += [_busy_machine(latency) for latency in report.latency if latency.stolen >= BUSY_SHARE]
    return Summary(verdict(report), tuple(_rows(report)), tuple(map(_step, report.steps)), tuple(gates), tuple(notices))


def _rows(report: RunReport) -> Iterator[Row]:
    yield from _size_rows(report.original, report.result)
    for latency in report.latency:
        yield _latency_row(latency)
    if report.fidelity is not None:
        yield from _fidelity_rows(report.fidelity)
    if report.audit is not None:
        yield from _audit_rows(report.audit, quantized=_tells(report))


def _tells(report: RunReport) -> bool:
    """Whether somebody asks what ran on integers: a step quantizes, or something did."""
    audit = report.audit
    quantizes = any(step.name.startswith("quantize") for step in report.steps)
    return audit is not None and (quantizes or bool(audit.integer_ops or audit.leftover_qdq))


def _size_rows(original: ModelStats, result: ModelStats) -> Iterator[Row]:
    ratio = result.file_bytes / max(original.file_bytes, 1)
    yield Row("file", format_bytes(original.file_bytes), format_bytes(result.file_bytes), format_size(ratio))
    for method, after in result.compressed_bytes.items():
        if before := original.compressed_bytes.get(method):
            yield Row(f"file, {method}", format_bytes(before), format_bytes(after), format_size(after / before))
    yield _count_row("parameters", original.parameters, result.parameters)
    live, left = 1 - original.sparsity, 1 - result.sparsity
    yield Row("non-zero", format_percent(live), format_percent(left), format_points(left - live))
    yield _count_row("nodes", original.nodes, result.nodes)


def _count_row(label: str, original: int, result: int) -> Row:
    return Row(label, format_count(original), format_count(result), format_change(original, result))


def _latency_row(latency: LatencyComparison) -> Row:
    conditions = [latency.provider]
    conditions += [f"{latency.threads} threads"] if latency.threads != 1 else []
    conditions += [f"batch {latency.batch}"] if latency.batch != 1 else []
    # The ends of the interval of the ratio turn over when it is said as a speed-up.
    interval = f"({1 / latency.ratio_high:.2f}-{1 / latency.ratio_low:.2f}x)"
    change = format_speed(latency.ratio) if latency.significant else "no clear difference"  # 80 columns hold no more
    times = format_ms(latency.original.median_ms), format_ms(latency.result.median_ms)
    return Row(f"latency ({', '.join(conditions)})", *times, f"{change} {interval}")


def _busy_machine(latency: LatencyComparison) -> str:
    share = format_percent(latency.stolen, digits=0)
    return (
        f"other processes took {share} of the measuring time on {latency.provider}: the ratio leaves it out, "
        "the milliseconds may not (measure again when the machine is idle)"
    )


def _fidelity_rows(fidelity: Fidelity) -> Iterator[Row]:
    where = f"{fidelity.samples} random samples" if fidelity.random_inputs else f"{fidelity.samples} samples"
    if fidelity.accuracy is not None:
        yield _accuracy_row(fidelity.accuracy)
    scores = [each for each in fidelity.agreement if each.top1 is not None]
    if scores:
        worst = min(scores, key=lambda each: each.top1 or 0.0)
        name = f", worst: {worst.output}" if len(scores) > 1 else ""
        yield Row("top-1 agreement", "", format_percent(worst.top1 or 0.0), f"on {where}{name}")
    if fidelity.agreement:
        noisiest = min(fidelity.agreement, key=lambda each: each.sqnr_db)
        name = f", worst: {noisiest.output}" if len(fidelity.agreement) > 1 else ""
        yield Row("SQNR", "", format_db(noisiest.sqnr_db), f"on {where}{name}")


def _accuracy_row(accuracy: Accuracy) -> Row:
    values = format_percent(accuracy.original), format_percent(accuracy.result)
    return Row(metric_label(accuracy.metric), *values, f"{format_points(-accuracy.drop)} on {accuracy.samples} samples")


def _audit_rows(audit: Audit, *, quantized: bool) -> Iterator[Row]:
    left = (
        f"{audit.leftover_qdq} Q/DQ node{'s' if audit.leftover_qdq > 1 else ''} left over" if audit.leftover_qdq else ""
    )
    if audit.macs_original != audit.macs_result:
        yield _count_row("MACs", audit.macs_original, audit.macs_result)
    if quantized:
        yield Row("MACs in int8 kernels", "", format_percent(audit.integer_mac_share), left)


def _step(step: StepReport) -> StepRow:
    before, after = step.nodes_before, step.nodes_after
    nodes = str(after) if before == after else f"{before} -> {after}"
    skipped = tuple(f"{skip.count} skipped: {skip.reason}" for skip in step.skipped)
    return StepRow(step.name, f"{step.changed} changed", nodes, format_seconds(step.seconds), skipped)
