"""What `modelopt sensitivity` found, as a page of heat-maps or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path, PurePath
from typing import Any

from modelopt_cli.errors import UsageError
from modelopt_cli.format import format_count, format_percent
from modelopt_cli.graph.io import write_atomically
from modelopt_cli.report.html import document
from modelopt_cli.report.html_facts import Facts, note, section, table
from modelopt_cli.report.html_heat import db_heat, heat_cell
from modelopt_cli.report.serialize import encode_json

SUFFIXES = (".html", ".json")
MOST_ROWS = 500


def check_sensitivity_path(path: Path) -> None:
    """Refuse a suffix that no format has.

    Raises:
        UsageError: Unknown suffix.
    """
    if path.suffix.lower() not in SUFFIXES:
        message = f"no sensitivity report has the suffix '{path.suffix}'"
        raise UsageError(message, where=str(path), hint=f"use {', '.join(SUFFIXES)}")


def write_sensitivity(found: Mapping[str, Any], path: Path) -> None:
    """Write it in the format that the suffix names.

    Raises:
        UsageError: Unknown suffix.
        OutputError: The disk is full or the folder cannot be written.
    """
    check_sensitivity_path(path)
    text = encode_json(found) if path.suffix.lower() == ".json" else sensitivity_html(found)
    write_atomically(path, text.encode())


def sensitivity_html(found: Mapping[str, Any]) -> str:
    """A row for each group or layer, worst first, dark where it hurts; see `report.html.to_html` for the numbers."""
    facts = Facts(found)
    name = PurePath(str(found["model"])).name
    body = _groups(facts, found) if "groups" in found else _layers(facts, found)
    half = "" if "groups" in found else "half of "  # the other half is what the layers were fitted to
    where = f"{half}{facts.show('/samples')} samples of <code>{escape(str(found['judged_on']))}</code>"
    head = f"<header><h1>What hurts <code>{escape(name)}</code></h1>"
    return document(f"{name}: sensitivity", f'{head}<p class="soft">On {where}, worst first.</p></header>{body}')


def _groups(facts: Facts, found: Mapping[str, Any]) -> str:
    rows = []
    for at, row in enumerate(found["groups"][:MOST_ROWS]):
        place = f"/groups/{at}"
        errors = (_error(facts, f"{place}/{name}") for name in ("alone_db", "without_db"))
        kinds = escape(", ".join(dict.fromkeys(row["ops"])))
        rows.append((_name(row["group"]), kinds, escape(str(row["way"])), *errors))
    legend = "Signal to noise at the worst part of the outputs: with only this group in int8, and with all but it."
    whole = f'<p class="note">All groups in int8: {facts.show("/all_groups/sqnr_db")}.</p>'
    head = ("group", "operators", "ranges", "alone", "without it")
    return section("Groups in int8", whole, note(legend), table(head, rows, numbers=[3, 4], kind="heatmap"))


def _layers(facts: Facts, found: Mapping[str, Any]) -> str:
    labels = [format_percent(level, digits=0) + " zeros" for level in found["levels"]]
    rows = [_layer(facts, f"/layers/{at}", row) for at, row in enumerate(found["layers"][:MOST_ROWS])]
    legend = "Signal to noise at the outputs with zeros in this layer alone; below it the metric, where it has labels."
    judged = ""
    if found["accuracy"] is not None:
        judged = f'<p class="note">{escape(str(found["metric"]))} of the model: {facts.show("/accuracy", _score)}.</p>'
    head = ("layer", "weights", *labels)
    body = table(head, rows, numbers=range(1, len(head)), kind="heatmap")
    return section("Zeros in each layer", judged, note(legend), body)


def _layer(facts: Facts, place: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    cells = [_level(facts, f"{place}/levels/{at}", level) for at, level in enumerate(row["levels"])]
    return _name(row["layer"]), facts.show(f"{place}/weights", format_count), *cells


def _level(facts: Facts, place: str, level: Mapping[str, Any]) -> str:
    if level["sqnr_db"] is None:  # the outputs are no floats: the layer's own error
        return heat_cell(facts.show(f"{place}/layer_error", format_percent), level["layer_error"])
    score = "" if level["accuracy"] is None else f'<span class="level">{facts.show(f"{place}/accuracy", _score)}</span>'
    return heat_cell(facts.show(f"{place}/sqnr_db") + score, db_heat(level["sqnr_db"]))


def _error(facts: Facts, place: str) -> str:
    return heat_cell(facts.show(place), db_heat(facts.at(place)))


def _name(name: str) -> str:
    return f'<span class="mono">{escape(name)}</span>'


def _score(value: float) -> str:
    return f"{value:.4g}"
