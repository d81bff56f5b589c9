"""Data to tables for a person: pure functions that return what rich prints; nothing here measures or decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from modelopt_cli.cli.doctor import Finding

OPS_SHOWN = 12
UNITS = ("B", "kB", "MB", "GB", "TB")


def human_bytes(size: float) -> str:
    """``1234567`` -> ``1.23 MB``: decimal units, three digits."""
    power = 0
    while size >= 999.5 and power < len(UNITS) - 1:
        size, power = size / 1000, power + 1
    return f"{size:.0f} {UNITS[0]}" if power == 0 else f"{size:.3g} {UNITS[power]}"


def plain_table(*headers: str, right: Sequence[int] = ()) -> Table:
    """A table without side walls: it copies well, and stays a table in a pipe."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for index, header in enumerate(headers):
        table.add_column(header, justify="right" if index in right else "left", overflow="fold")
    return table


def pass_list(passes: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One row per pass; a plug-in that cannot be imported keeps its row, with the reason."""
    table = plain_table("pass", "command", "effect", "needs", "what it does")
    for each in passes:
        if "broken" in each:
            table.add_row(each["name"], "", "", "", Text(f"cannot be imported: {each['broken']}", style="red"))
        else:
            needs = ", ".join(each["needs"])
            table.add_row(each["name"], each["family"], each["effect"], needs, each["summary"])
    return table


def pass_details(described: Mapping[str, Any]) -> Iterator[RenderableType]:
    """One pass: its text, then its options with type, default and range."""
    needs = f", needs {' and '.join(described['needs'])}" if described["needs"] else ""
    yield Text(
        f"{described['name']}: {described['effect']}, run by modelopt {described['family']}{needs}", style="bold"
    )
    yield ""
    yield described["description"]
    yield ""
    if not described["options"]:
        yield "It has no options."
        return
    table = plain_table("option", "type", "default", "meaning")
    for option in described["options"]:
        table.add_row(option["name"], option["type"], _literal(option["default"]), option["description"])
    yield table


def recipe_list(recipes: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One row per built-in recipe."""
    table = plain_table("recipe", "steps", "what it does")
    for each in recipes:
        table.add_row(each["name"], ", ".join(each["steps"]), each["description"])
    return table


def doctor_table(findings: Sequence[Finding]) -> RenderableType:
    """One row per check, the command that repairs it below."""
    styles = {"ok": "green", "missing": "yellow", "broken": "red"}
    table = plain_table("what", "state", "detail")
    for each in findings:
        table.add_row(each.name, Text(each.state, style=styles[each.state]), each.detail)
        if each.fix and each.state != "ok":
            table.add_row("", "", Text(each.fix, style="bold"))
    return table


def inspection(models: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """Facts of one or several models, side by side."""
    names = short_names([each["model"] for each in models])
    table = plain_table("", *names)
    rows = (
        ("file", lambda m: human_bytes(m["file_bytes"]) + (" with external data" if m["external_data"] else "")),
        ("parameters", lambda m: f"{m['parameters']:,}"),
        ("zeros", lambda m: f"{m['sparsity']:.1%}"),
        ("weights", lambda m: _weights(m["weight_bytes_by_dtype"])),
        ("nodes", lambda m: f"{m['nodes']:,}"),
        ("opsets", lambda m: ", ".join(f"{name or 'ai.onnx'} {number}" for name, number in m["opsets"].items())),
        ("IR version", lambda m: str(m["ir_version"])),
        ("producer", lambda m: m["producer"]),
        ("inputs", lambda m: "\n".join(_value(each) for each in m["inputs"])),
        ("outputs", lambda m: "\n".join(_value(each) for each in m["outputs"])),
    )
    for label, text in rows:
        table.add_row(label, *(text(each) for each in models))
    yield table
    yield ""
    yield _operators(models, names)


def short_names(labels: Sequence[str]) -> list[str]:
    """Paths without the folders that all of them share, so that a column head says where they differ."""
    if len(labels) < 2:
        return list(labels)
    parts = [PurePath(label).parts[:-1] for label in labels]
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False)))
    return [str(PurePath(*PurePath(label).parts[shared:])) for label in labels]


def _operators(models: Sequence[Mapping[str, Any]], heads: Sequence[str]) -> RenderableType:
    """Counts by operator; the frequent ones first, and the tail added up only where one model is shown."""
    names = sorted({op for each in models for op in each["ops"]}, key=lambda op: (-_most(models, op), op))
    shown = names if len(models) > 1 else names[:OPS_SHOWN]
    table = plain_table("operator", *heads, right=range(1, len(models) + 1))
    for op in shown:
        table.add_row(op, *(str(each["ops"].get(op, 0) or "") for each in models))
    rest = names[len(shown) :]
    if rest:
        count = sum(models[0]["ops"][op] for op in rest)
        table.add_row(f"{len(rest)} more", str(count))
    return table


def _most(models: Sequence[Mapping[str, Any]], op: str) -> int:
    return max(int(each["ops"].get(op, 0)) for each in models)


def _weights(bytes_by_dtype: Mapping[str, int]) -> str:
    return "\n".join(f"{dtype} {human_bytes(size)}" for dtype, size in bytes_by_dtype.items())


def _value(value: Mapping[str, Any]) -> str:
    shape = "?" if value["shape"] is None else "x".join("?" if d is None else str(d) for d in value["shape"])
    return f"{value['name']}: {value['type']} {shape or 'scalar'}"


def _literal(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(each) for each in value) + "]"
    return str(value)
