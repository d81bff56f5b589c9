"""Heat-maps: cells of a table that are the darker the more their number deserves a look."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from modelopt_cli.report.html_facts import Facts, folded, inside, note, table

FAITHFUL_DB, POOR_DB = 60.0, 10.0  # the ends of the scale for signal to noise: nothing to see, and a hundredth is noise
MOST_ROWS = 200
OPEN_ROWS = 40  # without scrolling inside of it


def heat_cell(text: str, heat: float | None, kind: str = "bad") -> str:
    """A cell's content on a ground of that strength.

    Args:
        text: HTML.
        heat: 0 to 1; None leaves the ground as it is.
        kind: ``bad`` for what costs, ``much`` for what is only much.
    """
    if heat is None:
        return text
    return f'<span class="heat {kind}" style="--heat:{min(max(heat, 0.0), 1.0):.2f}">{text}</span>'


def db_heat(sqnr_db: float | None) -> float | None:
    """How much a signal to noise ratio deserves a look."""
    if sqnr_db is None or math.isnan(sqnr_db):
        return None
    return (FAITHFUL_DB - sqnr_db) / (FAITHFUL_DB - POOR_DB)


def error_heat(errors: Sequence[float]) -> Callable[[float], float]:
    """Error -> heat, on a logarithmic scale over all of one map."""
    found = [math.log(each) for each in errors if each > 0 and math.isfinite(each)]
    low, span = (min(found), max(found) - min(found)) if found else (0.0, 0.0)

    def heat(error: float) -> float:
        if not error > 0:
            return 0.0
        return 1.0 if math.isinf(error) or span == 0 else (math.log(error) - low) / span

    return heat


def is_curves(value: Any) -> bool:
    """Whether a value of a pass's details is what its parts would cost at several levels."""
    rows = value.get("rows") if isinstance(value, Mapping) else None
    wanted = {"name", "levels", "errors"}
    return bool(rows) and all(isinstance(each, Mapping) and wanted <= each.keys() for each in rows or ())


def curves_html(facts: Facts, place: str) -> str:
    """A row for each part, a column for each level: what it would do to the outputs."""
    rows: Sequence[Mapping[str, Any]] = facts.at(place)["rows"]
    heat = error_heat([error for row in rows for error in row["errors"]])
    width = max(len(row["levels"]) for row in rows)
    cells = [
        _row(facts, inside(inside(place, "rows"), at), row, width, heat) for at, row in enumerate(rows[:MOST_ROWS])
    ]
    legend = (
        "Error at the outputs, as a share of their variance, if this part alone went to that level; dark costs most."
    )
    unit = facts.at(place).get("level")
    head = ("", *([""] * width))
    body = table(head, cells, numbers=range(1, width + 1), kind="heatmap")
    more = note(f"and {len(rows) - MOST_ROWS:,} more: in the JSON report") if len(rows) > MOST_ROWS else ""
    return note(f"{legend} Above each error: {unit}." if unit else legend) + body + more


def _row(
    facts: Facts, place: str, row: Mapping[str, Any], width: int, heat: Callable[[float], float]
) -> tuple[str, ...]:
    cells = []
    for at, error in enumerate(row["errors"]):
        level = f'<span class="level">{facts.show(f"{place}/levels/{at}", _level)}</span>'
        cells.append(heat_cell(f"{level}{facts.show(f'{place}/errors/{at}', _error)}", heat(error)))
    name = f'<span class="mono">{escape(str(row["name"]))}</span>'
    return name, *cells, *([""] * (width - len(cells)))


def _level(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value * 100:.3g} %"


def _error(value: float) -> str:
    return f"{value:.2g}"


def is_groups(value: Any) -> bool:
    """Whether a value of a pass's details is what its groups cost when each alone is in integers."""
    wanted = {"group", "ops", "way", "alone_db"}
    return isinstance(value, Sequence) and bool(value) and all(wanted <= set(each) for each in value)


def groups_html(facts: Facts, place: str) -> str:
    """A row for each group in integers, the one that costs most first; what stayed float stands elsewhere."""
    rows: Sequence[Mapping[str, Any]] = facts.at(place)
    shown = [at for at, row in enumerate(rows) if row["way"] != "float"]
    shown.sort(key=lambda at: math.inf if rows[at]["alone_db"] is None else rows[at]["alone_db"])
    if not shown:
        return ""
    cells = [_group(facts, inside(place, at), rows[at]) for at in shown[:MOST_ROWS]]
    legend = "Signal to noise at the outputs with nothing but this group in integers: dark costs most. "
    legend += "A dash: there was no time for it. Times are under the profiler, in float and in the result."
    head = ("group", "operators", "way", "float", "result", "signal to noise")
    body = table(head, cells, numbers=range(3, len(head)), kind="heatmap groups")
    more = note(f"and {len(shown) - MOST_ROWS:,} more: in the JSON report") if len(shown) > MOST_ROWS else ""
    return note(legend) + (f'<div class="tall">{body}</div>' if len(shown) > OPEN_ROWS else body) + more


def _group(facts: Facts, place: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    name = f'<span class="mono">{facts.show(f"{place}/group")}</span>'
    ops = ", ".join(facts.show(f"{place}/ops/{at}") for at in range(len(row["ops"])))
    times = ("–" if row[key] is None else facts.show(f"{place}/{key}") for key in ("float_ms", "result_ms"))
    error = row["alone_db"]
    cell = "–" if error is None else heat_cell(facts.show(f"{place}/alone_db"), db_heat(error))
    return name, ops, facts.show(f"{place}/way"), *times, cell


def folded_curves(facts: Facts, place: str) -> str:
    """The map, unfolded by a click where it is long."""
    body = curves_html(facts, place)
    return body if len(facts.at(place)["rows"]) <= 30 else folded(f"{len(facts.at(place)['rows'])} rows", body)
