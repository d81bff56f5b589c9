"""Tables of ``modelopt compare`` and ``modelopt report``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from rich.console import RenderableType
from rich.text import Text

from modelopt_cli.cli.render_evaluate import accuracy_lines, agreement_table
from modelopt_cli.cli.tables import plain_table, short_names
from modelopt_cli.format import (
    format_bytes,
    format_count,
    format_db,
    format_ms,
    format_size,
    format_speed,
)
from modelopt_cli.report.comparison import CompareReport, Divergence
from modelopt_cli.report.diff import Change, Figure, ReportDiff
from modelopt_cli.report.merge import MergedRow
from modelopt_cli.report.profile import Ratio

LAYERS_SHOWN = 5


def comparison_lines(report: CompareReport) -> Iterator[RenderableType]:
    """Size and speed, then what the outputs say, then where the models part."""
    yield f"{report.candidate} against {report.original}"
    yield ""
    yield _facts(report)
    if report.fidelity is None:
        yield ""
        yield "no data: the outputs were not compared; --eval FILE compares them"
        return
    accuracy = report.fidelity.accuracy
    if accuracy is not None:
        yield ""
        content = asdict(accuracy) | {"baseline": accuracy.original, "value": accuracy.result, "drop": accuracy.drop}
        yield accuracy_lines(content)
    yield ""
    yield f"agreement on {report.fidelity.samples} samples" + ("" if accuracy else " (not accuracy: no labels)")
    yield ""
    yield agreement_table([asdict(each) for each in report.fidelity.agreement])
    if report.divergence is not None:
        yield ""
        yield from _divergence(report.divergence)


def _facts(report: CompareReport) -> RenderableType:
    before, after = report.original_stats, report.candidate_stats
    table = plain_table("", "original", "candidate", "change", right=[1, 2])
    ratio = after.file_bytes / max(before.file_bytes, 1)
    table.add_row("file", format_bytes(before.file_bytes), format_bytes(after.file_bytes), format_size(ratio))
    table.add_row("parameters", format_count(before.parameters), format_count(after.parameters), "")
    table.add_row("nodes", str(before.nodes), str(after.nodes), "")
    for each in report.latency:
        times = format_ms(each.original.median_ms), format_ms(each.result.median_ms)
        said = format_speed(each.ratio) if each.significant else "no significant difference"
        table.add_row(f"latency ({each.provider})", *times, f"{said} [{each.ratio_low:.2f}, {each.ratio_high:.2f}]")
    return table


def _divergence(found: Divergence) -> Iterator[RenderableType]:
    shared = f"{len(found.tensors)} inner tensors on {found.samples} samples"
    if found.first is None:
        yield f"no layer hands on noise below {format_db(found.below_db)} ({shared})"
        if below := sum(each.sqnr_db < found.below_db for each in found.tensors):
            yield f"{below} below it are no loss: rescaled together with what reads them"
    else:
        where = f"{found.first.op_type} '{found.first.node}' ({format_db(found.first.sqnr_db)})"
        yield f"first layer below {format_db(found.below_db)}: {where}, of {shared}"
    if found.largest_loss is not None:
        each, loss = found.largest_loss
        yield f"most is lost at {each.op_type} '{each.node}': {loss:.1f} dB"
    yield ""
    table = plain_table("noisiest layers", "operator", "SQNR", right=[2])
    for each in sorted(found.tensors, key=lambda each: each.sqnr_db)[:LAYERS_SHOWN]:
        table.add_row(each.node, each.op_type, format_db(each.sqnr_db))
    yield table


def diff_lines(diff: ReportDiff, limit: float | None) -> Iterator[RenderableType]:
    """Each figure before and now; what exceeds the limit in red."""
    table = plain_table("", "old", "new", "change", right=[1, 2, 3])
    for change in diff.changes:
        missed = limit is not None and change.exceeds(limit)
        table.add_row(change.new.name, _value(change.old), _value(change.new), _worse(change, missed=missed))
    yield table
    for label, names in (("the old", diff.only_old), ("the new", diff.only_new)):
        for name in names:
            yield f"only in {label} report: {name}"


def merged_table(rows: Sequence[MergedRow]) -> RenderableType:
    """One row for each model on each machine and provider; what would be the same in every row has no column."""
    labels = list(dict.fromkeys(row.model for row in rows))
    names = dict(zip(labels, short_names(labels), strict=True))
    facts = {
        "machine": [row.machine for row in rows],
        "model": [names[row.model] for row in rows],
        "on": [row.provider for row in rows],
        "fed": [row.shape for row in rows],
        "median": [format_ms(row.latency.median_ms) for row in rows],
        "p99": [format_ms(row.latency.p99_ms) for row in rows],
        "share [95 %]": ["" if row.ratio is None else _interval(row.ratio) for row in rows],
    }
    told = {head: cells for head, cells in facts.items() if head in ("model", "median", "p99") or len(set(cells)) > 1}
    table = plain_table(*told, right=[n for n, head in enumerate(told) if head in ("median", "p99", "share [95 %]")])
    for cells in zip(*told.values(), strict=True):
        table.add_row(*cells)
    return table


def _interval(ratio: Ratio) -> str:
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def _value(figure: Figure) -> str:
    if figure.unit == "bytes":
        return format_bytes(figure.value)
    if figure.unit == "ms":
        return format_ms(figure.value)
    return format_db(figure.value) if figure.unit == "dB" else f"{figure.value:.3f}"


def _worse(change: Change, *, missed: bool) -> Text:
    if abs(change.worse) < 0.0005:
        return Text("same")
    said = f"{abs(change.worse) * 100:.1f} % {'worse' if change.worse > 0 else 'better'}"
    return Text(said + ("" if change.clear else " (noise)"), style="red" if missed else "")
