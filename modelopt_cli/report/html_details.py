"""What passes say of their work, of any form: plans, groups, layers with their sparsity and error, decisions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from modelopt_cli.report.html_facts import Facts, bar, folded, inside, note, table, words
from modelopt_cli.report.html_heat import db_heat, folded_curves, groups_html, heat_cell, is_curves, is_groups

MOST_ROWS = 200  # of one table: a page with a hundred thousand rows is read by nobody
LONG = 30  # letters of a text that wants a wide column
BARS_FROM = 3  # numbers of one kind that are worth comparing by eye


def details_html(facts: Facts, pointer: str, only: Mapping[str, Any] | None = None) -> str:
    """Any JSON value as HTML: objects as pairs, lists of objects as tables whose numbers have bars.

    Args:
        facts: The report.
        pointer: Where the value stands.
        only: The part of an object that is wanted; all of it by default.
    """
    value = facts.at(pointer) if only is None else only
    if isinstance(value, Mapping):
        return _object(facts, pointer, value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _list(facts, pointer, value)
    return facts.show(pointer)


def is_empty(value: Any) -> bool:
    """Whether there is nothing to show: null, an empty text or list, or only such; an object of counts that are 0."""
    if isinstance(value, Mapping):
        return all(is_empty(each) or (each == 0 and type(each) is int) for each in value.values())
    return value is None or (isinstance(value, str | Sequence) and not value)


def _object(facts: Facts, pointer: str, value: Mapping[str, Any]) -> str:
    shown = {key: each for key, each in value.items() if not is_empty(each)}
    if len(shown) >= BARS_FROM and _are_counts(shown):
        return _counts(facts, pointer, shown)
    if shown and all(_is_pair(each) for each in shown.values()):
        return _pairs(facts, pointer, shown)
    small = {key: each for key, each in shown.items() if not isinstance(each, Mapping | list | tuple)}
    pairs = "".join(
        f"<dt>{escape(words(key))}</dt><dd>{facts.show(inside(pointer, key))}</dd>" for key in list(small)[:MOST_ROWS]
    )
    large = "".join(_part(facts, inside(pointer, key), key) for key in shown if key not in small)
    return (f"<dl>{pairs}</dl>" if pairs else "") + _more(len(small)) + large


def _part(facts: Facts, pointer: str, key: str) -> str:
    """An object or a list under its name; a plan, which is all of a pass's settings, unfolds by a click."""
    if is_curves(facts.at(pointer)):
        return f"<h4>{escape(words(key))}</h4>{folded_curves(facts, pointer)}"
    if is_groups(facts.at(pointer)):
        return f"<h4>{escape(words(key))}</h4>{groups_html(facts, pointer)}"
    body = details_html(facts, pointer)
    return folded(words(key), body) if key == "plan" else f"<h4>{escape(words(key))}</h4>{body}"


def _counts(facts: Facts, pointer: str, value: Mapping[str, Any]) -> str:
    largest = _largest(value.values())
    rows = [(escape(words(key)), _cell(facts, inside(pointer, key), largest)) for key in list(value)[:MOST_ROWS]]
    return table(("", ""), rows, numbers=[1], kind="counts") + _more(len(value))


def _pairs(facts: Facts, pointer: str, value: Mapping[str, Any]) -> str:
    """Before and after, by name."""
    rows = [
        (
            f'<span class="mono">{escape(key)}</span>',
            *(_cell(facts, f"{inside(pointer, key)}/{at}", max(pair)) for at in (0, 1)),
        )
        for key, pair in list(value.items())[:MOST_ROWS]
    ]
    return table(("", "before", "after"), rows, numbers=[1, 2]) + _more(len(value))


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))


def _are_counts(value: Mapping[str, Any]) -> bool:
    """Whether they are counts of one kind: whole numbers by operator, not fields that each have a unit."""
    whole = all(_is_number(each) and isinstance(each, int) for each in value.values())
    return whole and not any(key.islower() for key in value)


def _list(facts: Facts, pointer: str, value: Sequence[Any]) -> str:
    places = [inside(pointer, index) for index in range(min(len(value), MOST_ROWS))]
    if value and all(isinstance(each, Mapping) for each in value):
        return _records(facts, places, value) + _more(len(value))
    if all((isinstance(each, str) and " " not in each) or _is_number(each) for each in value):
        return f"<p>{', '.join(facts.show(place) for place in places)}</p>" + _more(len(value))
    return f"<ul>{''.join(f'<li>{details_html(facts, place)}</li>' for place in places)}</ul>" + _more(len(value))


def _records(facts: Facts, places: Sequence[str], value: Sequence[Mapping[str, Any]]) -> str:
    columns = [key for key in dict.fromkeys(key for each in value for key in each)]
    columns = [key for key in columns if not all(is_empty(each.get(key)) for each in value)]
    largest = {key: _largest(each.get(key) for each in value) if len(value) > 1 else 0.0 for key in columns}
    numbers = [at for at, key in enumerate(columns) if any(_is_number(each.get(key)) for each in value)]
    rows = [
        tuple(_cell(facts, inside(place, key), largest[key]) if key in each else "" for key in columns)
        for place, each in zip(places, value, strict=False)
    ]
    return table([words(key).removesuffix(" ms").removesuffix(" db") for key in columns], rows, numbers)


def _cell(facts: Facts, pointer: str, largest: float) -> str:
    value = facts.at(pointer)
    if _is_number(value) and pointer.endswith("_db"):
        return heat_cell(facts.show(pointer), db_heat(value))
    if _is_number(value) and largest > 0 and math.isfinite(value):
        return facts.show(pointer) + bar(value / largest)
    if isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], str):
        return facts.show(inside(pointer, 0))
    if isinstance(value, str) and len(value) > LONG:
        return f'<span class="long">{facts.show(pointer)}</span>'
    if isinstance(value, Mapping | list | tuple) and not is_empty(value):
        return folded(f"{len(value)}", details_html(facts, pointer))
    return "" if is_empty(value) else facts.show(pointer)


def _largest(values: Any) -> float:
    """The largest of numbers that can be drawn from 0; 0 where one is negative."""
    numbers = [each for each in values if _is_number(each) and math.isfinite(each)]
    return 0.0 if not numbers or min(numbers) < 0 else float(max(numbers))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _more(count: int) -> str:
    return note(f"and {count - MOST_ROWS:,} more: in the JSON report") if count > MOST_ROWS else ""
