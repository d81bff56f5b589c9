"""The rows of several reports as a file: a page with plots, a table for a comment, columns for a spreadsheet, JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path, PurePath

from modelopt_cli.errors import UsageError
from modelopt_cli.format import format_bytes, format_ms, format_percent
from modelopt_cli.graph.io import write_atomically
from modelopt_cli.report.html import document
from modelopt_cli.report.html_facts import Facts, bar, note, section, table
from modelopt_cli.report.markdown import markdown_table
from modelopt_cli.report.merge import MergedRow
from modelopt_cli.report.serialize import encode_json
from modelopt_cli.report.svg import Point, scatter
from modelopt_cli.report.verdict import metric_label

COLUMNS = ("machine", "model", "on", "median", "p99", "share of its original's")


def merged_csv(rows: Sequence[MergedRow]) -> str:
    """A line of names, then a line for each row; milliseconds, bytes, shares; what was not measured is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ("machine", "model", "provider", "shape", "median_ms", "p99_ms", "ratio", "ratio_low", "ratio_high")
    writer.writerow((*names, "file_bytes", "measure", "quality"))
    for row in rows:
        ratio = ("", "", "") if row.ratio is None else (row.ratio.value, row.ratio.low, row.ratio.high)
        place = row.machine, row.model, row.provider, row.shape
        more = _empty(row.file_bytes), row.measure, _empty(row.quality)
        writer.writerow((*place, row.latency.median_ms, row.latency.p99_ms, *ratio, *more))
    return out.getvalue()


def merged_markdown(rows: Sequence[MergedRow]) -> str:
    """One table, GitHub-flavoured."""
    cells = (
        (
            row.machine,
            _name(row),
            _place(row),
            format_ms(row.latency.median_ms),
            format_ms(row.latency.p99_ms),
            share(row),
        )
        for row in rows
    )
    return "\n".join(markdown_table(COLUMNS, cells, align=":--|:--|:--|--:|--:|--:")).rstrip() + "\n"


def merged_html(rows: Sequence[MergedRow]) -> str:
    """The table, and for each machine and provider what is gained against what is given."""
    facts = Facts({"rows": [asdict(row) for row in rows]})
    most = max((row.latency.median_ms for row in rows), default=0.0) or 1.0
    cells = [_row(facts, f"/rows/{at}", row, most) for at, row in enumerate(rows)]
    body = f"<header><h1>{len(rows)} results</h1></header>"
    body += section("Latency", table(COLUMNS, cells, numbers=[3, 4, 5]))
    places = dict.fromkeys(
        (row.machine, row.provider, row.shape, row.measure) for row in rows if row.quality is not None
    )
    plots = (_trade([row for row in rows if _key(row) == key]) for key in places)
    return document("modelopt: merged reports", f'{body}<div class="columns">{"".join(plots)}</div>')


def merged_json(rows: Sequence[MergedRow]) -> str:
    """What ``--json`` prints."""
    return encode_json([asdict(row) for row in rows])


WRITERS: Mapping[str, Callable[[Sequence[MergedRow]], str]] = {
    ".html": merged_html,
    ".md": merged_markdown,
    ".csv": merged_csv,
    ".json": merged_json,
}


def check_merged_path(path: Path) -> None:
    """Refuse a suffix that no format has.

    Raises:
        UsageError: Unknown suffix.
    """
    if path.suffix.lower() not in WRITERS:
        known = ", ".join(WRITERS)
        raise UsageError(f"no table has the suffix '{path.suffix}'", where=str(path), hint=f"use {known}")


def write_merged(rows: Sequence[MergedRow], path: Path) -> None:
    """Write the rows in the format that the suffix names.

    Raises:
        UsageError: Unknown suffix.
        OutputError: The disk is full or the folder cannot be written.
    """
    check_merged_path(path)
    write_atomically(path, WRITERS[path.suffix.lower()](rows).encode())


def share(row: MergedRow) -> str:
    """The ratio with its interval; empty without one."""
    return "" if row.ratio is None else f"{row.ratio.value:.2f} [{row.ratio.low:.2f}, {row.ratio.high:.2f}]"


def _row(facts: Facts, place: str, row: MergedRow, most: float) -> tuple[str, ...]:
    median = facts.show(f"{place}/latency/median_ms") + bar(row.latency.median_ms / most)
    ends = (
        [facts.show(f"{place}/ratio/{end}", lambda v: f"{v:.2f}") for end in ("value", "low", "high")]
        if row.ratio
        else []
    )
    ratio = f"<b>{ends[0]}</b> [{ends[1]}, {ends[2]}]" if ends else ""
    labels = escape(row.machine), f"<code>{escape(_name(row))}</code>", escape(_place(row))
    return *labels, median, facts.show(f"{place}/latency/p99_ms"), ratio


def _trade(rows: Sequence[MergedRow]) -> str:
    """Latency against quality; a dot's area is the file."""
    most = max((row.file_bytes or 0 for row in rows), default=0) or 1
    models = list(
        {(_name(row), row.file_bytes, row.quality): row for row in rows}.values()
    )  # one original, many results
    points = [_point(row, most) for row in models]
    first = rows[0]
    where = f"{first.machine}, {_place(first)}"
    sizes = "; ".join(f"{_name(row)} {format_bytes(row.file_bytes)}" for row in models if row.file_bytes)
    legend = note(f"To the left is faster, higher is better; the area of a dot is the file's size: {sizes}.")
    picture = scatter(points, format_ms, format_percent, up=False)
    return section(f"{metric_label(first.measure)} against latency on {where}", picture, legend)


def _point(row: MergedRow, most: int) -> Point:
    kind = "original" if row.ratio is None else "result"
    return Point(_name(row), row.latency.median_ms, row.quality or 0.0, (row.file_bytes or 0) / most, kind)


def _key(row: MergedRow) -> tuple[str, str, str, str]:
    return row.machine, row.provider, row.shape, row.measure


def _name(row: MergedRow) -> str:
    return PurePath(row.model).name


def _place(row: MergedRow) -> str:
    return row.provider + (f", {row.shape}" if row.shape else "")


def _times(row: MergedRow) -> tuple[str, str]:
    return format_ms(row.latency.median_ms), format_ms(row.latency.p99_ms)


def _empty(value: float | None) -> float | str:
    return "" if value is None else value
