"""The inside of the models on a page: layers as a heat-map, time by kernel before and after, the graph that ran."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from modelopt_cli.format import format_count, format_ms, format_percent
from modelopt_cli.report.html_facts import Facts, bar, folded, note, section, table
from modelopt_cli.report.html_heat import db_heat, heat_cell
from modelopt_cli.report.inside import Kernel, Kernels
from modelopt_cli.report.lanes import lanes_of, lanes_svg
from modelopt_cli.report.model import RunReport

MOST_ROWS = 300
TYPES_SHOWN = 14
PARTS_SHOWN = 12
OPEN_ROWS = 40  # of the graph, without scrolling inside of it


def layers(report: RunReport, facts: Facts) -> str:
    """Every layer: type of its weights, zeros, error."""
    packed = all(each.parameters is None for each in report.layers)
    silent = all(each.sqnr_db is None for each in report.layers)
    rows = [_layer(facts, at, packed, silent) for at in range(min(len(report.layers), MOST_ROWS))]
    if not rows:
        return ""
    head = ["layer", "operator", "weights"]
    head += [] if packed else ["parameters", "zeros"]
    head += [] if silent else ["signal to noise"]
    legend = "Signal to noise of what each layer computes, with all errors before it, on a few samples: dark is noisy. "
    legend += "A dash: packed weights, or a tensor that the original has not or has on another scale."
    body = table(head, rows, numbers=range(3, len(head)), kind="heatmap layers") + _left_out(len(report.layers))
    return section("Layers", note(legend), _tall(body, len(rows)))


def _layer(facts: Facts, at: int, packed: bool, silent: bool) -> tuple[str, ...]:
    place = f"/layers/{at}"
    row = facts.at(place)
    cells = [f'<span class="mono">{facts.show(f"{place}/node")}</span>', *_texts(facts, place, "op_type", "weights")]
    if not packed:
        known = row["parameters"] is not None
        cells.append(facts.show(f"{place}/parameters", format_count) if known else "–")
        zeros = heat_cell(facts.show(f"{place}/sparsity", format_percent), row["sparsity"], "much") if known else "–"
        cells.append(zeros)
    if not silent:
        error = row["sqnr_db"]
        cells.append("–" if error is None else heat_cell(facts.show(f"{place}/sqnr_db"), db_heat(error)))
    return tuple(cells)


def _texts(facts: Facts, place: str, *names: str) -> list[str]:
    return [facts.show(f"{place}/{name}") for name in names]


def times(report: RunReport, facts: Facts) -> str:
    """Time of each type of kernel before and after, and of each part of the network."""
    found = report.kernels
    if found is None or not found.types:
        return ""
    runs = facts.show("/kernels/runs")
    how = f'<p class="note">Under the profiler, which takes its share; lower quartile of {runs} runs each.</p>'
    parts = _parts(found, facts)
    return section(
        "Time by kernel", _types(found, facts), how, folded("by part of the network", parts) if parts else ""
    )


def _types(found: Kernels, facts: Facts) -> str:
    most = max(max(each.original_ms, each.result_ms) for each in found.types) or 1.0
    rows = []
    for at, each in enumerate(found.types[:TYPES_SHOWN]):
        place = f"/kernels/types/{at}"
        before = _time(facts, place, "original", each.original_ms, each.original_count, most)
        after = _time(facts, place, "result", each.result_ms, each.result_count, most)
        rows.append((f"<code>{escape(each.op_type)}</code>", before, after))
    return table(("kernel", "original", "result"), rows, numbers=[1, 2]) + _left_out(len(found.types), TYPES_SHOWN)


def _time(facts: Facts, place: str, side: str, ms: float, count: int, most: float) -> str:
    if not count:
        return "–"
    times = f'<span class="soft">{facts.show(f"{place}/{side}_count")} ×</span> '
    return times + facts.show(f"{place}/{side}_ms", format_ms) + bar(ms / most, side)


def _parts(found: Kernels, facts: Facts) -> str:
    shared = [at for at, each in enumerate(found.sections) if each.ms and each.baseline_ms][:PARTS_SHOWN]
    most = max((max(found.sections[at].ms, found.sections[at].baseline_ms) for at in shared), default=1.0)
    rows = []
    for at in shared:
        part, place = found.sections[at], f"/kernels/sections/{at}"
        before = facts.show(f"{place}/baseline_ms", format_ms) + bar(part.baseline_ms / most, "original")
        after = facts.show(f"{place}/ms", format_ms) + bar(part.ms / most, "result")
        rows.append((f'<span class="mono">{escape(_named(part.nodes))}</span>', before, after))
    return table(("part", "original", "result"), rows, numbers=[1, 2]) if rows else ""


def graph(report: RunReport, facts: Facts) -> str:
    """What runs of the result, top to bottom, as a graph: filled is integer."""
    found = report.kernels
    if found is None or not found.graph:
        return ""
    kernels = found.graph[:MOST_ROWS]
    lanes = lanes_of([each.reads for each in kernels])
    width, picture = lanes_svg(lanes, [each.kind for each in kernels])
    most = max(each.ms for each in kernels) or 1.0
    rows = "".join(_kernel(each, facts, f"/kernels/graph/{at}", most) for at, each in enumerate(kernels))
    body = f'<div class="graph" style="--lanes:{width}px">{picture}{rows}</div>' + _left_out(len(found.graph))
    title = "What was quantized" if any(each.kind == "integer" for each in found.graph) else "What runs"
    return section(title, "".join(_legend(found)), _tall(body, len(kernels)))


def _legend(found: Kernels) -> Iterator[str]:
    kinds = dict.fromkeys(each.kind for each in found.graph)
    names = {"integer": "on 8-bit integers", "conversion": "conversion", "float": "on floats, and the rest"}
    keys = (f'<span class="key {kind}"></span>{names[kind]}' for kind in names if kind in kinds)
    yield f'<p class="note">Each kernel that the runtime runs of the result, in order. {" ".join(keys)}</p>'


def _kernel(each: Kernel, facts: Facts, place: str, most: float) -> str:
    of = escape(_named(each.nodes or (each.name,)))
    name = f'<span class="of mono" title="{escape(", ".join(each.nodes[:8]))}">{of}</span>'
    time = f'<span class="n">{facts.show(f"{place}/ms", format_ms)}{bar(each.ms / most, each.kind)}</span>'
    return f'<div class="kernel {each.kind}"><b>{escape(each.op_type)}</b>{name}{time}</div>'


def _named(nodes: tuple[str, ...]) -> str:
    """The nodes of the file, without what only carries numbers between formats."""
    own = [name for name in nodes if not name.endswith((".q", ".dq", ".cast", "_bias.dq"))] or list(nodes)
    return (own[0] if own else "") + (f" + {len(own) - 1}" if len(own) > 1 else "")


def _tall(body: str, rows: int) -> str:
    return f'<div class="tall">{body}</div>' if rows > OPEN_ROWS else body


def _left_out(count: int, shown: int = MOST_ROWS) -> str:
    return note(f"and {count - shown:,} more: in the JSON report") if count > shown else ""
