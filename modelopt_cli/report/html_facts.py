"""Values of the report on a page: each knows where it stands in the JSON, and its text is made of that very value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from pydantic_core import to_json as encode

from modelopt_cli.format import format_bytes, format_db, format_ms, format_percent, format_seconds

# How a number reads, by the words of its field's name.
_FORMATS: Mapping[str, Callable[[float], str]] = {
    "bytes": format_bytes,
    "db": format_db,
    "ms": format_ms,
    "seconds": format_seconds,
    "share": format_percent,
    "sparsity": format_percent,
    "stolen": format_percent,
}


class Facts:
    """The content of a report, read by JSON pointers (RFC 6901: ``/latency/0/ratio``).

    Args:
        content: What the JSON report holds.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content

    def at(self, pointer: str) -> Any:
        """The value at a pointer.

        Raises:
            KeyError: There is none.
        """
        value: Any = self._content
        for step in pointer.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            value = value[int(key)] if isinstance(value, Sequence) else value[key]
        return value

    def show(self, pointer: str, text: Callable[[Any], str] | None = None) -> str:
        """The value as HTML: ``text`` of it, and the value itself with its place for machines.

        Args:
            pointer: Where it stands.
            text: How it reads; by default, by the name of its field.
        """
        value = self.at(pointer)
        read = text(value) if text is not None else value_text(pointer.rpartition("/")[2], value)
        raw = encode(value, inf_nan_mode="strings").decode()
        return f'<span data-path="{escape(pointer)}" data-value="{escape(raw)}">{escape(read)}</span>'


def inside(pointer: str, key: str | int) -> str:
    """The pointer to ``key`` below ``pointer``."""
    return f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"


def value_text(name: str, value: Any) -> str:
    """A value of a field that has no format of its own, as a person reads it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        found = next((_FORMATS[word] for word in name.split("_") if word in _FORMATS), None)
        if found is not None:
            return found(value)
        return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return str(value)


def words(name: str) -> str:
    """A field's name as words."""
    return name.replace("_", " ")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = (), kind: str = "") -> str:
    """A table of HTML cells, wider than a phone where it must be.

    Args:
        head: Plain text.
        rows: Cells as HTML.
        numbers: Columns that are set to the right.
        kind: Its class in the style sheet.
    """
    right = set(numbers)
    kinds = [' class="n"' if index in right else "" for index in range(len(head))]
    top = "".join(f'<th scope="col"{each}>{escape(name)}</th>' for name, each in zip(head, kinds, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{each}>{cell}</td>' for cell, each in zip(row, kinds, strict=True))}</tr>" for row in rows
    )
    shape = f' class="{kind}"' if kind else ""
    return f'<div class="scroll"><table{shape}><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def bar(share: float, kind: str = "") -> str:
    """A bar below a number of a table, as long as ``share`` (0 to 1) of the cell; ``kind`` is its class."""
    return f'<span class="{f"bar {kind}".strip()}" style="--share:{min(max(share, 0.0), 1.0):.3f}"></span>'


def section(title: str, *parts: str) -> str:
    """A part of the page; nothing where it has no content."""
    body = "".join(parts)
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def folded(title: str, body: str) -> str:
    """Something that is unfolded by a click."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def note(text: str) -> str:
    """A line of explanation."""
    return f'<p class="note">{escape(text)}</p>'
