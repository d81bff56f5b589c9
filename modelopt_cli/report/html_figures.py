"""The figures of a page: cards, and a section for each thing that was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import Any

from modelopt_cli.format import (
    format_bytes,
    format_change,
    format_count,
    format_db,
    format_ms,
    format_percent,
    format_points,
    format_size,
    format_speed,
)
from modelopt_cli.report.html_details import is_empty
from modelopt_cli.report.html_facts import Facts, bar, folded, inside, note, section, table, words
from modelopt_cli.report.model import Accuracy, LatencyComparison, RunReport
from modelopt_cli.report.svg import Point, axis, histogram, interval_bar, range_bar, scale_to, scatter, stacked_bar
from modelopt_cli.report.verdict import PRUNED_POINTS, metric_label

QUANTILES = ("min_ms", "median_ms", "mean_ms", "p90_ms", "p95_ms", "p99_ms", "p999_ms", "stdev_ms", "runs", "outliers")
SIDES = ("original", "result")
VERSIONS = ("opset", "ir_version")


def cards(report: RunReport, facts: Facts) -> str:
    """The key figures."""
    return f'<div class="cards">{"".join(_cards(report, facts))}</div>'


def _cards(report: RunReport, facts: Facts) -> Iterator[str]:
    for index, found in enumerate(report.latency):
        speed = facts.show(f"/latency/{index}/ratio", format_speed) if found.significant else "no clear change"
        times = " → ".join(facts.show(f"/latency/{index}/{side}/median_ms", format_ms) for side in SIDES)
        yield _card(f"latency on {found.provider}", speed, times)
    ratio = report.result.file_bytes / max(report.original.file_bytes, 1)
    sizes = " → ".join(facts.show(f"/{side}/file_bytes", format_bytes) for side in SIDES)
    yield _card("file", escape(format_size(ratio)), sizes)
    if report.fidelity is not None:
        yield from _fidelity_cards(report, facts)
    if report.audit is not None and report.audit.integer_ops:
        share = facts.show("/audit/integer_mac_share", format_percent)
        yield _card("work in int8 kernels", share, "of the multiply-accumulates")
    zeros = report.result.sparsity, report.original.sparsity
    if zeros[0] - zeros[1] >= PRUNED_POINTS:
        counts = f"{facts.show('/result/nonzero_parameters', format_count)} of"
        yield _card(
            "zeros", format_percent(zeros[0]), f"{counts} {facts.show('/result/parameters', format_count)} left"
        )


def _fidelity_cards(report: RunReport, facts: Facts) -> Iterator[str]:
    assert report.fidelity is not None
    found = report.fidelity
    samples = f"{facts.show('/fidelity/samples')} {'random ' if found.random_inputs else ''}samples"
    if found.accuracy is not None:
        value = facts.show("/fidelity/accuracy/result", format_percent)
        before = facts.show("/fidelity/accuracy/original", format_percent)
        count = facts.show("/fidelity/accuracy/samples")
        change = escape(format_points(-found.accuracy.drop))
        yield _card(metric_label(found.accuracy.metric), value, f"was {before}: {change} on {count} samples")
        return
    scored = [at for at, each in enumerate(found.agreement) if each.top1 is not None]
    if scored:
        worst = min(scored, key=lambda at: found.agreement[at].top1 or 0.0)
        share = facts.show(f"/fidelity/agreement/{worst}/top1", format_percent)
        yield _card("same top-1", share, f"as the original, on {samples}; not accuracy: no labels")
    elif found.agreement:
        worst = min(range(len(found.agreement)), key=lambda at: found.agreement[at].sqnr_db)
        signal = facts.show(f"/fidelity/agreement/{worst}/sqnr_db", format_db)
        yield _card("signal to noise", signal, f"on {samples}; not accuracy: no labels")


def _card(name: str, value: str, more: str) -> str:
    """One figure; ``value`` and ``more`` are HTML."""
    title = f'<div class="name">{escape(name)}</div>'
    return f'<div class="card">{title}<div class="value">{value}</div><div class="more">{more}</div></div>'


def latency(report: RunReport, facts: Facts) -> str:
    """Quantiles of both models on one axis, and the ratio with its interval."""
    return "".join(
        section(f"Latency on {found.provider}", *_latency(found, facts, f"/latency/{index}"))
        for index, found in enumerate(report.latency)
    )


def _latency(found: LatencyComparison, facts: Facts, place: str) -> Iterator[str]:
    scale = scale_to(max(found.original.p95_ms, found.result.p95_ms))
    for side, times in zip(SIDES, (found.original, found.result), strict=True):
        yield _label(side, _median(facts, f"{place}/{side}", times.low_ms is not None))
        if times.histogram is not None:
            yield histogram(scale, times.histogram.low_ms, times.histogram.high_ms, times.histogram.counts, side)
        yield range_bar(scale, times.min_ms, times.median_ms, times.p90_ms, times.p95_ms, side)
    yield axis(scale, format_ms)
    yield note("Box: fastest run to 90th percentile; line: on to the 95th; upright: median, with its 95 % interval.")
    ratio, low, high = (facts.show(f"{place}/{name}", lambda v: f"{v:.3f}") for name in RATIO)
    shares = scale_to(max(1.0, found.ratio_high))
    yield _label("time as a share of the original's", f"<b>{ratio}</b> ({low} to {high})")
    yield interval_bar(shares, found.ratio, found.ratio_low, found.ratio_high, reference=1.0)
    yield axis(shares, lambda value: f"{value:g}")
    clear = "lies apart from 1" if found.significant else "holds 1: no significant difference"
    yield note(f"The dashed line is the original. The 95 % interval {clear}.")
    rows = [
        (escape("runs" if name == "runs" else words(name.removesuffix("_ms"))), *_both(facts, place, name))
        for name in QUANTILES
        if not is_empty(facts.at(f"{place}/original/{name}")) or not is_empty(facts.at(f"{place}/result/{name}"))
    ]
    yield folded("all quantiles", table(("", *SIDES), rows, numbers=[1, 2]))
    shapes = "; ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in found.shapes.items())
    counts = f"threads {facts.show(f'{place}/threads')}, batch {facts.show(f'{place}/batch')}"
    rebuilt = f"{facts.show(f'{place}/rebuilds')} pairs of sessions"
    stolen = f"{facts.show(f'{place}/stolen', format_percent)} of the time taken by other processes"
    yield f'<p class="note">{counts}, {rebuilt}, {stolen}; inputs {escape(shapes)}</p>'


def trade(report: RunReport, facts: Facts) -> str:
    """Latency against accuracy, a dot's area being the file; against agreement, or size, where there are no labels."""
    if not report.latency:
        return ""
    found, quality = report.latency[0], _quality(report)
    scores, name = quality if quality is not None else (None, "file")
    sides = (report.original, report.result)
    heights = scores or tuple(float(each.file_bytes) for each in sides)
    most = max(each.file_bytes for each in sides)
    points = [
        Point(side, times.median_ms, height, stats.file_bytes / most, side)
        for side, times, height, stats in zip(SIDES, (found.original, found.result), heights, sides, strict=True)
    ]
    picture = scatter(points, format_ms, format_bytes if scores is None else lambda v: format_percent(v), up=not scores)
    said = "lower" if scores is None else "higher"
    area = "" if scores is None else "; the area of a dot is the file's size"
    legend = note(f"To the left is faster, {said} is better{area}.")
    return section(f"{name} against latency", picture, legend)


def _quality(report: RunReport) -> tuple[tuple[float, float], str] | None:
    """Of original and result, with its name; only what is a share."""
    found = report.fidelity
    if found is None:
        return None
    if found.accuracy is not None and 0 <= min(found.accuracy.original, found.accuracy.result) <= 1:
        return (found.accuracy.original, found.accuracy.result), metric_label(found.accuracy.metric)
    scores = [each.top1 for each in found.agreement if each.top1 is not None]
    return ((1.0, min(scores)), "agreement") if scores else None


RATIO = ("ratio", "ratio_low", "ratio_high")


def _both(facts: Facts, place: str, name: str) -> tuple[str, ...]:
    """One quantile of both sides; a dash where too few runs tell it."""
    text = format_percent if name == "outliers" else None
    places = (f"{place}/{side}/{name}" for side in SIDES)
    return tuple(facts.show(each, text) if facts.at(each) is not None else "–" for each in places)


def _median(facts: Facts, place: str, interval: bool) -> str:
    median = f"<b>{facts.show(f'{place}/median_ms')}</b>"
    return f"{median} ({facts.show(f'{place}/low_ms')} to {facts.show(f'{place}/high_ms')})" if interval else median


def _label(name: str, value: str) -> str:
    return f'<div class="label"><span>{escape(name)}</span><span class="v">{value}</span></div>'


def size(report: RunReport, facts: Facts) -> str:
    """Bytes of the weights by type, before and after, on one scale."""
    totals = [sum(each.weight_bytes_by_dtype.values()) for each in (report.original, report.result)]
    if not any(totals):
        return ""
    scale, parts = scale_to(max(totals)), []
    dtypes = list(dict.fromkeys((*report.result.weight_bytes_by_dtype, *report.original.weight_bytes_by_dtype)))
    for side, stats in zip(SIDES, (report.original, report.result), strict=True):
        named = [(dtype, count) for dtype, count in stats.weight_bytes_by_dtype.items() if count]
        texts = [
            f'<span class="of-type"><span class="key part{dtypes.index(dtype) % 4}"></span>{escape(dtype)} '
            f"{facts.show(inside(f'/{side}/weight_bytes_by_dtype', dtype), format_bytes)}</span>"
            for dtype, _ in named
        ]
        bars = [(f"{dtype}: {format_bytes(count)}", count, dtypes.index(dtype)) for dtype, count in named]
        parts += [_label(side, " ".join(texts)), stacked_bar(scale, bars)]
    legend = note("Bytes of weights by type; the rest of a file is its graph.")
    return section("Weights by type", *parts, axis(scale, format_bytes), legend)


def fidelity(report: RunReport, facts: Facts) -> str:
    """Accuracy where there are labels, and how each output follows the original's."""
    found = report.fidelity
    if found is None:
        return section("Fidelity", note("Not measured: no data was given."))
    where = f"{facts.show('/fidelity/samples')} {'random ' if found.random_inputs else ''}samples"
    source = f'<p class="note">On {where} ({escape(found.source)}).</p>'
    accuracy = _accuracy(found.accuracy, facts) if found.accuracy is not None else ""
    return section("Fidelity", accuracy, _agreement(facts), source)


def _accuracy(accuracy: Accuracy, facts: Facts) -> str:
    name = metric_label(accuracy.metric)
    places = (f"/fidelity/accuracy/{side}" for side in SIDES)
    values = [f"<b>{facts.show(place, lambda v: format_percent(v, 2))}</b>" for place in places]
    scale = scale_to(1.0)
    bars = (
        _label(f"{name}, {side}", text) + range_bar(scale, 0.0, value, value, value, side)
        for side, text, value in zip(SIDES, values, (accuracy.original, accuracy.result), strict=True)
        if 0 <= value <= 1
    )
    drawn = "".join(bars)
    return (drawn + axis(scale, lambda v: f"{v * 100:.0f} %")) if drawn else _label(name, " → ".join(values))


def _agreement(facts: Facts) -> str:
    rows = facts.at("/fidelity/agreement")
    shown = [key for key in (rows[0] if rows else ()) if key != "output" and any(_tells(each[key]) for each in rows)]
    best = max(each["sqnr_db"] for each in rows) if len(rows) > 1 else 0.0  # bars compare: one needs none
    cells = [
        (f"<code>{escape(row['output'])}</code>", *(_agreement_cell(facts, at, key, row[key], best) for key in shown))
        for at, row in enumerate(rows)
    ]
    names = {"sqnr_db": "signal to noise", "top1": "same top-1"}
    head = ("output", *(names.get(key, words(key)) for key in shown))
    return table(head, cells, numbers=range(1, len(head))) if rows else ""


def _tells(value: object) -> bool:
    """Whether a measure says something: not taken, or nothing wrong, is left out."""
    return value is not None and not (isinstance(value, int) and value == 0)


def _agreement_cell(facts: Facts, at: int, key: str, value: float | None, best: float) -> str:
    place = f"/fidelity/agreement/{at}/{key}"
    if value is None:
        return "–"
    if key == "sqnr_db":
        return facts.show(place) + (bar(value / best) if best > 0 else "")
    if key == "cosine":
        return facts.show(place, lambda v: f"{v:.5f}")
    return facts.show(place, format_percent if key in ("top1", "mask_iou") else None)


def audit(report: RunReport, facts: Facts) -> str:
    """What ran on integers, read off the runtime."""
    found = report.audit
    if found is None or not (found.integer_ops or found.leftover_qdq):
        return ""
    share = facts.show("/audit/integer_mac_share", format_percent)
    rows = [
        (f"<code>{escape(op)}</code>", kind, facts.show(inside(f"/audit/{field}", op)))
        for field, kind, ops in (("integer_ops", "integer", found.integer_ops), ("float_ops", "float", found.float_ops))
        for op in ops
    ]
    scale = scale_to(1.0)
    left = facts.show("/audit/leftover_qdq")
    macs = facts.show("/audit/macs_result", format_count)
    return section(
        "What the runtime ran",
        _label("multiply-accumulates in int8 kernels", f"<b>{share}</b> of {macs}"),
        stacked_bar(scale, [("in int8 kernels", found.integer_mac_share, 0)]),
        axis(scale, lambda v: f"{v * 100:.0f} %"),
        table(("kernel", "computes on", "count"), rows, numbers=[2]),
        f'<p class="note">{left} x QuantizeLinear or DequantizeLinear stayed as a node of its own.</p>',
    )


def model(report: RunReport, facts: Facts) -> str:
    """Size and counts before and after."""
    counts = ("parameters", "nonzero_parameters", "nodes")
    rows = [_change_row(facts, "file_bytes", format_bytes)]
    rows += [_change_row(facts, name, format_count) for name in counts]
    rows += [_change_row(facts, name, str) for name in VERSIONS]
    return section("Model", table(("", *SIDES, "change"), rows, numbers=[1, 2, 3]))


def _change_row(facts: Facts, name: str, text: Callable[[Any], str]) -> tuple[str, ...]:
    before, after = (facts.at(f"/{side}/{name}") for side in SIDES)
    change = "" if name in VERSIONS else format_change(before, after)
    return words(name), *(facts.show(f"/{side}/{name}", text) for side in SIDES), escape(change)


def operators(report: RunReport, facts: Facts) -> str:
    """How many of each operator, before and after."""
    before, after = report.original.ops, report.result.ops
    most = max((*before.values(), *after.values()), default=1)
    rows = []
    for op in dict.fromkeys((*before, *after)):
        counts = [
            facts.show(inside(f"/{side}/ops", op)) + bar(ops[op] / most) if op in ops else "–"
            for side, ops in zip(SIDES, (before, after), strict=True)
        ]
        rows.append((f"<code>{escape(op)}</code>", *counts))
    return section("Operators", table(("", *SIDES), rows, numbers=[1, 2]))
