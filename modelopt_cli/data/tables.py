"""Text that holds numbers: JSON lines of token ids, and CSV."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelopt_cli.data.dataset import LABEL_NAMES
from modelopt_cli.data.members import Member, RowsMember
from modelopt_cli.errors import DataError

MASK = "attention_mask"
_IDS = re.compile(r"(^|_)(input_)?ids$|tokens?$")


def json_lines(path: Path) -> dict[str, Member]:
    """The members of a ``.jsonl`` file: one object a line, input -> a list of numbers (nested for more axes).

    A line that is a bare list stands for the only input of the model. Lines may differ in length: each becomes a
    sample as long as it is. Where token ids come without ``attention_mask``, there is one of ones.

    Raises:
        DataError: Not JSON, lines with other keys than the first, or values that are no numbers.
    """
    rows = list(_json_rows(path))
    if not rows:
        raise DataError("holds no samples", where=str(path))
    columns: dict[str, list[np.ndarray]] = {name: [] for name in rows[0]}
    for number, row in enumerate(rows, 1):
        if row.keys() != columns.keys():
            raise DataError(f"has {_keys(row)}, but the first line has {_keys(rows[0])}", where=f"{path}:{number}")
        for name, value in row.items():
            columns[name].append(_numbers(value, name, f"{path}:{number}"))
    members: dict[str, Member] = {name: _member(name, values, path) for name, values in columns.items()}
    ids = next((name for name in members if _IDS.search(name)), None)
    if ids is not None and MASK not in members:
        ones = tuple(np.ones(value.shape, np.int64) for value in columns[ids])
        members[MASK] = RowsMember(MASK, ones, (path,))
    return members


def csv_table(path: Path) -> dict[str, Member]:
    """The members of a ``.csv`` file with a header.

    Columns called ``labels``, ``label`` or ``y`` are ground truth. ``name[0]``, ``name[1]`` ... are the elements of the
    input ``name``; a file without such columns holds one input of as many numbers as it has other columns.

    Raises:
        DataError: No header, no rows, rows of another length, or cells that are no numbers.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = list(csv.reader(file))
    if len(lines) < 2:
        raise DataError("needs a header and at least one row", where=str(path))
    header = [name.strip() for name in lines[0]]
    cells = [_csv_row(row, header, f"{path}:{number}") for number, row in enumerate(lines[1:], 2) if row]
    members: dict[str, Member] = {}
    for name, places in _groups(header).items():
        values = [np.asarray([row[place] for place in places]) for row in cells]
        if name in LABEL_NAMES:
            values = [value.reshape(()) for value in values]
        members[name] = _member(name, values, path)
    return members


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"is not JSON: {error}", where=f"{path}:{number}") from error
            if not isinstance(row, dict | list):
                raise DataError("must be an object or a list", where=f"{path}:{number}")
            yield row if isinstance(row, dict) else {"": row}


def _numbers(value: Any, name: str, where: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "iufb" or (array.size == 0 and array.dtype.kind == "f" and value != []):
        raise DataError(f"'{name}' is no number and no list of numbers", where=where)
    return array


def _member(name: str, values: Sequence[np.ndarray], path: Path) -> RowsMember:
    """One type for all rows: float32 when any is a float, else int64 (or bool)."""
    kinds = {value.dtype.kind for value in values if value.size}
    dtype = np.float32 if "f" in kinds else np.bool_ if kinds == {"b"} else np.int64
    if len({value.ndim for value in values}) > 1:
        raise DataError(f"'{name}' has another number of axes in some lines", where=str(path))
    return RowsMember(name, tuple(value.astype(dtype) for value in values), (path,))


def _csv_row(row: list[str], header: list[str], where: str) -> list[float | int]:
    if len(row) != len(header):
        raise DataError(f"has {len(row)} cells, the header {len(header)}", where=where)
    return [_cell(text, name, where) for text, name in zip(row, header, strict=True)]


def _cell(text: str, name: str, where: str) -> float | int:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise DataError(f"column '{name}': '{text}' is no number", where=where) from None


def _groups(header: Sequence[str]) -> Mapping[str, list[int]]:
    matches = [re.fullmatch(r"(.+)\[(\d+)\]", name) for name in header]
    named = any(matches)
    groups: dict[str, list[tuple[int, int]]] = {}
    for place, (name, match) in enumerate(zip(header, matches, strict=True)):
        key = match[1] if match else name if named or name in LABEL_NAMES else ""
        groups.setdefault(key, []).append((int(match[2]) if match else place, place))
    return {key: [place for _, place in sorted(each)] for key, each in groups.items()}


def _keys(row: Mapping[str, Any]) -> str:
    return ", ".join(f"'{name}'" for name in row) if any(row) else "a bare list"
