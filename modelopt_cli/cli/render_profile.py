"""Tables of ``modelopt profile``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from modelopt_cli.cli.plots import Bar
from modelopt_cli.cli.tables import plain_table, short_names
from modelopt_cli.format import format_bytes, format_ms, format_percent, format_rate, format_speed
from modelopt_cli.profiling.placement import Placement
from modelopt_cli.profiling.throughput import Throughput
from modelopt_cli.report.profile import PerOp, ProfileEntry, ProfileReport, Ratio

NODES_SHOWN = 10
NAME_WIDTH = 30


def profile_tables(report: ProfileReport) -> Iterator[RenderableType]:
    """What was fed, one table (of one model, of a pair, or of many), then operators and what to mind."""
    shown = [entry for entry in report.entries if report.baseline is None or entry.ratio is not None]
    yield from _head(report, shown)
    yield ""
    if len(shown) == 1:
        before = next((each for each in report.entries if each is not shown[0]), None)
        yield from _single(report, shown[0]) if before is None else _pair(report, before, shown[0])
    else:
        yield _many(report)
    for entry in shown:
        if entry.placement is not None:
            yield ""
            yield from _placement(entry.placement)
        if entry.per_op is not None:
            yield ""
            yield from _per_op(entry)
    if report.findings:
        yield ""
    for finding in report.findings:
        yield Text(f"note: {finding.message} ({finding.advice})", style="yellow")


def speed_sentence(ratio: Ratio) -> str:
    """What a ratio with its interval lets one say, and no more."""
    return format_speed(ratio.value) if ratio.significant else "no significant difference in latency"


def _head(report: ProfileReport, shown: Sequence[ProfileEntry]) -> Iterator[str]:
    names = list(dict.fromkeys(entry.model for entry in shown))
    yield ", ".join(names) + (f" against {report.baseline}" if report.baseline else "")
    fed = list(dict.fromkeys(_shapes(entry) for entry in shown))
    threads = f"{report.threads} thread{'s' if report.threads > 1 else ''}"
    cpus = report.conditions[0].cpus if report.conditions else ()
    where = f" on processors {','.join(map(str, cpus))}" if 0 < len(cpus) <= 8 else ""
    yield (f"fed: {fed[0]}; " if len(fed) == 1 else f"{len(fed)} shapes; ") + threads + where
    if report.config:
        yield "session: " + ", ".join(f"{key}={value}" for key, value in report.config.items())
    if report.assumed:
        assumed = ", ".join(f"{name} = {size}" for name, size in report.assumed.items())
        yield f"nothing said the size of {assumed}: assumed; --shape or --calib says it"


def _shapes(entry: ProfileEntry) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in entry.shapes.items())


def _single(report: ProfileReport, entry: ProfileEntry) -> Iterator[RenderableType]:
    latency, footprint = entry.latency, entry.footprint
    table = plain_table(f"on {entry.provider}", "", right=[1])
    table.add_row("file", format_bytes(_file_bytes(report, entry.model)))
    median = format_ms(latency.median_ms)
    if latency.low_ms is not None and latency.high_ms is not None:
        median += f" [{format_ms(latency.low_ms)}, {format_ms(latency.high_ms)}]"
    table.add_row("latency, median [95 %]", median)
    table.add_row("mean +- stdev", f"{format_ms(latency.mean_ms)} +- {format_ms(latency.stdev_ms)}")
    table.add_row("min", format_ms(latency.min_ms))
    tail = " / ".join(map(format_ms, (latency.p90_ms, latency.p95_ms, latency.p99_ms)))
    table.add_row("p90 / p95 / p99", tail)
    if latency.p999_ms is not None:
        table.add_row("p99.9", format_ms(latency.p999_ms))
    table.add_row("runs timed", f"{latency.runs:,}")
    if entry.bound is not None:
        table.add_row("median without copies", format_ms(entry.bound.median_ms))
    for each in entry.throughput:
        text = f"{format_rate(each.runs_per_s)} runs/s, {each.cpu_use:.2f} processors{_energy(each)}"
        table.add_row(f"{each.streams} stream{'s' if each.streams > 1 else ''}", text)
    if footprint is not None:
        table.add_row("memory, peak", format_bytes(footprint.session_bytes))
        if footprint.steady_bytes is not None:
            table.add_row("memory, steady", format_bytes(footprint.steady_bytes))
        if footprint.device_bytes is not None:
            table.add_row("memory on the device", format_bytes(footprint.device_bytes))
        table.add_row("load", format_ms(footprint.load_ms))
        table.add_row("first run", format_ms(footprint.first_run_ms))
    yield table


def _energy(found: Throughput) -> str:
    drawn = (("", found.joules_per_run), (" on the device", found.device_joules_per_run))
    return "".join(f", {joules * 1e3:.3g} mJ a run{where}" for where, joules in drawn if joules is not None)


def _pair(report: ProfileReport, before: ProfileEntry, after: ProfileEntry) -> Iterator[RenderableType]:
    assert after.ratio is not None
    yield speed_sentence(after.ratio)
    table = plain_table(f"on {after.provider}", "baseline", "model", "share [95 %]", right=[1, 2, 3])
    sizes = _file_bytes(report, before.model), _file_bytes(report, after.model)
    table.add_row("file", *map(format_bytes, sizes), _share(*sizes))
    medians = before.latency.median_ms, after.latency.median_ms
    interval = f"{after.ratio.value:.2f} [{after.ratio.low:.2f}, {after.ratio.high:.2f}]"
    table.add_row("latency, median", *map(format_ms, medians), interval)
    for label, old, new in (
        ("latency, p90", before.latency.p90_ms, after.latency.p90_ms),
        ("latency, p99", before.latency.p99_ms, after.latency.p99_ms),
    ):
        table.add_row(label, format_ms(old), format_ms(new), _share(old, new))
    for old_rate, new_rate in zip(before.throughput, after.throughput, strict=True):
        rates = old_rate.runs_per_s, new_rate.runs_per_s
        table.add_row(f"runs/s, {old_rate.streams} streams", *map(format_rate, rates), _share(*rates))
    if before.footprint is not None and after.footprint is not None:
        peaks = before.footprint.session_bytes, after.footprint.session_bytes
        table.add_row("memory, peak", *map(format_bytes, peaks), _share(*peaks))
        if before.footprint.device_bytes is not None and after.footprint.device_bytes is not None:
            held = before.footprint.device_bytes, after.footprint.device_bytes
            table.add_row("memory on the device", *map(format_bytes, held), _share(*held))
        loads = before.footprint.load_ms, after.footprint.load_ms
        table.add_row("load", *map(format_ms, loads), _share(*loads))
        firsts = before.footprint.first_run_ms, after.footprint.first_run_ms
        table.add_row("first run", *map(format_ms, firsts), _share(*firsts))
    yield table


def _many(report: ProfileReport) -> RenderableType:
    """A row for each model, provider and shape; columns that would say the same in each row are left out."""
    names = dict(zip([m.model for m in report.models], short_names([m.model for m in report.models]), strict=True))
    several = {
        "model": len(names) > 1,
        "on": len({entry.provider for entry in report.entries}) > 1,
        "fed": len({_shapes(entry) for entry in report.entries}) > 1,
    }
    heads = [*(head for head, wanted in several.items() if wanted), "median", "p99", "samples/s"]
    heads += ["against baseline"] if report.baseline else []
    table = plain_table(*heads, right=range(len(heads) - (4 if report.baseline else 3), len(heads)))
    for entry in report.entries:
        cells = [names[entry.model]] if several["model"] else []
        cells += [entry.provider] if several["on"] else []
        cells += [_first_shape(entry)] if several["fed"] else []
        rate = entry.batch * 1e3 / entry.latency.median_ms
        cells += [format_ms(entry.latency.median_ms), format_ms(entry.latency.p99_ms), format_rate(rate)]
        cells += [_against(entry.ratio)] if report.baseline else []
        table.add_row(*cells)
    return table


def _first_shape(entry: ProfileEntry) -> str:
    """The first input's shape stands for all: they are swept together."""
    return "x".join(map(str, next(iter(entry.shapes.values()), [])))


def _against(ratio: Ratio | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]" + ("" if ratio.significant else " same")


def _placement(placement: Placement) -> Iterator[RenderableType]:
    table = plain_table("provider", "nodes", "share", "time", right=[1, 2, 3])
    for each in placement.shares:
        share, time = format_percent(each.node_share), format_percent(each.time_share)
        table.add_row(each.provider, str(each.nodes), share, time)
    yield table
    for fallback in placement.fallbacks:
        yield f"{fallback.count} {fallback.op_type} fell back to {fallback.provider}: {fallback.reason}"


def _per_op(entry: ProfileEntry) -> Iterator[RenderableType]:
    assert entry.per_op is not None
    per_op = entry.per_op
    total = sum(op.ms for op in per_op.types) or 1.0
    table = plain_table("operator", "nodes", "time", "share", "", right=[1, 2, 3])
    for op in per_op.types:
        share = op.ms / total
        table.add_row(op.op_type, str(op.count), format_ms(op.ms), format_percent(share), Bar(share))
    yield table
    yield ""
    yield _nodes(per_op, total)
    if per_op.sections:
        yield ""
        yield _sections(per_op)
    peak = per_op.peak
    yield (
        f"peak: {peak.float_ops / 1e9:.3g} GFLOP/s float, {peak.integer_ops / 1e9:.3g} GOP/s int8, "
        f"{peak.bytes / 1e9:.3g} GB/s, measured"
    )


def _nodes(per_op: PerOp, total: float) -> RenderableType:
    table = plain_table("slowest nodes", "operator", "time", "share", "of peak", right=[2, 3, 4])
    for op in per_op.nodes[:NODES_SHOWN]:
        peak = per_op.roofline.get(op.name)
        of_peak = "" if peak is None else format_percent(min(peak, 1.0), digits=0)
        name = _short(op.nodes or (op.name,))
        table.add_row(name, op.op_type, format_ms(op.ms), format_percent(op.ms / total), of_peak)
    return table


def _sections(per_op: PerOp) -> RenderableType:
    table = plain_table("beside the baseline", "runs as", "baseline", "model", right=[2, 3])
    for each in per_op.sections[:NODES_SHOWN]:
        kinds = _short(each.op_types, width=20)
        table.add_row(_short(each.nodes), kinds, format_ms(each.baseline_ms), format_ms(each.ms))
    return table


def _short(names: Sequence[str], width: int = NAME_WIDTH) -> str:
    """The first name, its middle left out where it is long, and how many there are besides."""
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    first, room = (names[0] if names else ""), width - len(more)
    if len(first) > room:
        tail = (room - 2) * 2 // 3
        first = f"{first[: room - 2 - tail]}..{first[-tail:]}"
    return first + more


def _file_bytes(report: ProfileReport, model: str) -> int:
    return next(each.file_bytes for each in report.models if each.model == model)


def _share(old: float, new: float) -> str:
    return f"{new / old:.2f}" if old else ""
