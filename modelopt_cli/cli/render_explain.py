"""The audit of a plan as a table: each group, integer or float or dynamic, why, milliseconds and decibels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from modelopt_cli.cli.tables import plain_table
from modelopt_cli.format import format_db, format_ms

if TYPE_CHECKING:
    from rich.console import RenderableType

    from modelopt_cli.report.model import RunReport


def explained_lines(report: RunReport) -> Iterator[RenderableType]:
    """A table per quantizing step: slowest groups first, float ones by reason after them."""
    for step in report.steps:
        rows = step.details.get("groups")
        if rows is None:
            continue
        yield ""
        yield from step.details["decisions"]
        yield ""
        table = plain_table("group", "nodes", "way", "float", "result", "alone", right=(3, 4, 5))
        integer = [row for row in rows if row["way"] != "float"]
        for row in sorted(_blocks(integer), key=lambda row: -(row["float_ms"] or 0.0)):
            table.add_row(*_cells(row))
        yield table
        yield from _reasons(rows)


def _blocks(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Repeated blocks of one decision as one row with a count: sums of milliseconds, the worst error."""
    found: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        key = (row["way"], row["block"]) if row.get("block") else (row["way"], "", row["group"])
        found.setdefault(key, []).append(row)
    return [members[0] if len(members) == 1 else _block(members) for members in found.values()]


def _block(members: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    row = dict(members[0], group=f"{members[0]['group']} (x{len(members)})")
    for key in ("float_ms", "result_ms"):
        known = [each[key] for each in members if each[key] is not None]
        row[key] = sum(known) if known else None
    errors = [each["alone_db"] for each in members if each["alone_db"] is not None]
    row["alone_db"] = min(errors) if errors else None
    return row


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    ops = row["ops"]
    nodes = ops[0] + (f" + {len(ops) - 1}" if len(ops) > 1 else "")
    error = "" if row["alone_db"] is None else format_db(row["alone_db"])
    return row["group"], nodes, row["way"], _ms(row["float_ms"]), _ms(row["result_ms"]), error


def _ms(value: float | None) -> str:
    return "" if value is None else format_ms(value)


def _reasons(rows: list[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """Why: one line per reason, with the time that all it holds for takes."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["way"], row["why"]), []).append(row)
    table = plain_table("way", "groups", "float", "why", right=(1, 2))
    for (way, why), members in sorted(found.items(), key=lambda item: -_total(item[1])):
        kinds = ", ".join(dict.fromkeys(row["ops"][0] for row in members if row["ops"]))
        table.add_row(way, str(len(members)), format_ms(_total(members)), f"{why} ({kinds})" if kinds else why)
    yield ""
    yield table


def _total(rows: list[Mapping[str, Any]]) -> float:
    return float(sum(row["float_ms"] or 0.0 for row in rows))
