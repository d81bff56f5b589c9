"""Tables of ``passes``, ``recipes``, ``doctor`` and ``inspect``: data in, what rich prints out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from modelopt_cli.cli.tables import literal, plain_table, short_names
from modelopt_cli.format import format_bytes

if TYPE_CHECKING:
    from modelopt_cli.cli.doctor import Finding

OPS_SHOWN = 12


def pass_list(passes: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One row per pass; a plug-in that cannot be imported keeps its row, with the reason."""
    table = plain_table("pass", "step of", "effect", "what it does")
    for each in passes:
        if "broken" in each:
            table.add_row(each["name"], "", "", Text(f"cannot be imported: {each['broken']}", style="red"))
        else:
            needs = f" (needs {' and '.join(each['needs'])})" if each["needs"] else ""
            table.add_row(each["name"], each["family"], each["effect"], each["summary"] + needs)
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
        table.add_row(option["name"], option["type"], literal(option["default"]), option["description"])
    yield table


def recipe_list(recipes: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One row per built-in recipe."""
    table = plain_table("recipe", "what it does")
    for each in recipes:
        table.add_row(each["name"], each["description"])
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


def cache_lines(facts: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Where the cache is and what it holds, kind by kind."""
    cap = f"of {format_bytes(facts['max_bytes'])}" if facts["max_bytes"] else "(switched off)"
    yield f"{facts['folder']}: {format_bytes(facts['bytes'])} {cap}"
    if facts["kinds"]:
        table = plain_table("kind", "entries", "size", right=(1, 2))
        for kind in facts["kinds"]:
            table.add_row(kind["kind"], str(kind["entries"]), format_bytes(kind["bytes"]))
        yield ""
        yield table


def prunable_groups(facts: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Groups of channels that may leave, and what stays with the reason."""
    if facts["groups"]:
        table = plain_table("may shrink", "kind", "parts", "read by")
        for group in facts["groups"]:
            more = f" + {len(group['consumers']) - 1}" if len(group["consumers"]) > 1 else ""
            table.add_row(group["name"], group["kind"], str(group["size"]), group["consumers"][0] + more)
        yield table
    else:
        yield "nothing can be pruned"
    if facts["branches"]:
        table = plain_table("may leave the sum", "with")
        for branch in facts["branches"]:
            table.add_row(branch["name"], ", ".join(branch["producers"]))
        yield ""
        yield table
    if facts["held"]:
        table = plain_table("stays", "reason")
        for each in facts["held"]:
            table.add_row(each["name"], each["reason"])
        yield ""
        yield table


def inspection(models: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """Facts of one or several models, side by side."""
    names = short_names([each["model"] for each in models])
    table = plain_table("", *names)
    rows = (
        ("file", lambda m: format_bytes(m["file_bytes"]) + (" with external data" if m["external_data"] else "")),
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
    return "\n".join(f"{dtype} {format_bytes(size)}" for dtype, size in bytes_by_dtype.items())


def _value(value: Mapping[str, Any]) -> str:
    shape = "?" if value["shape"] is None else "x".join("?" if d is None else str(d) for d in value["shape"])
    return f"{value['name']}: {value['type']} {shape or 'scalar'}"
