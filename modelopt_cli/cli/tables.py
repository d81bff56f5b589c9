"""What all tables have in common."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import PurePath
from typing import Any

from rich import box
from rich.table import Table


def plain_table(*headers: str, right: Sequence[int] = ()) -> Table:
    """A table without side walls: it copies well, and stays a table in a pipe."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for index, header in enumerate(headers):
        table.add_column(header, justify="right" if index in right else "left", overflow="fold")
    return table


def short_names(labels: Sequence[str]) -> list[str]:
    """Paths without the folders that all of them share, so that a column head says where they differ."""
    if len(labels) < 2:
        return list(labels)
    parts = [PurePath(label).parts[:-1] for label in labels]
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False)))
    return [str(PurePath(*PurePath(label).parts[shared:])) for label in labels]


def literal(value: Any) -> str:
    """A value as YAML writes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(literal(each) for each in value) + "]"
    return str(value)
