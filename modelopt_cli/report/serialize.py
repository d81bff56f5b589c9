"""The report as JSON, and back: versioned, so that an old tool refuses what it would misread."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json as encode

from modelopt_cli.errors import DataError
from modelopt_cli.report.comparison import COMPARE_SCHEMA, CompareReport
from modelopt_cli.report.model import SCHEMA, RunReport
from modelopt_cli.report.profile import PROFILE_SCHEMA, ProfileReport
from modelopt_cli.report.verdict import verdict

_KINDS: dict[str, Any] = {SCHEMA: RunReport, PROFILE_SCHEMA: ProfileReport, COMPARE_SCHEMA: CompareReport}
_Kind = TypeVar("_Kind", RunReport, ProfileReport, CompareReport)


def to_json(report: RunReport) -> str:
    """The report as indented JSON, ending with a newline.

    All fields of `RunReport`, and for those who only read: ``verdict`` and ``gates_met``. A number that is not finite
    (the SQNR of identical outputs) is the string ``"Infinity"``, which JSON has no number for.
    """
    return encode_json(report_content(report))


def report_content(report: RunReport) -> dict[str, Any]:
    """What `to_json` writes, as Python values."""
    return asdict(report) | {"verdict": verdict(report), "gates_met": report.gates_met}


def encode_json(content: Any) -> str:
    """Indented JSON, ending with a newline; numbers that are not finite are strings."""
    return encode(content, indent=2, inf_nan_mode="strings").decode() + "\n"


def from_json(text: str, where: str = "") -> RunReport:
    """Read what `to_json` wrote.

    Raises:
        DataError: Not JSON, not a report of ours, or one of a newer schema.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise DataError(f"is not JSON: {error}", where=where) from error
    _check_schema(content, where)
    return _validated(RunReport, content, where)


def read_report(text: str, where: str = "") -> RunReport | ProfileReport | CompareReport:
    """Read a report of any kind.

    Raises:
        DataError: Not JSON, not a report of ours, or one of a newer schema.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise DataError(f"is not JSON: {error}", where=where) from error
    schema = content.get("schema", "") if isinstance(content, dict) else ""
    name = str(schema).rpartition("/")[0]
    for ours, kind in _KINDS.items():
        if ours.rpartition("/")[0] == name:
            _check_schema(content, where, ours)
            found: RunReport | ProfileReport | CompareReport = _validated(kind, content, where)
            return found
    raise DataError(f"is not a report of modelopt (its schema is {schema!r})", where=where)


def _validated(kind: type[_Kind], content: Any, where: str) -> _Kind:
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"is not a valid report: {place}: {first['msg']}", where=where) from error


def _check_schema(content: Any, where: str, wanted: str = SCHEMA) -> None:
    ours, number = wanted.rsplit("/", 1)
    schema = content.get("schema") if isinstance(content, dict) else None
    name, _, version = schema.rpartition("/") if isinstance(schema, str) else ("", "", "")
    if name != ours or not version.isdigit():
        raise DataError(f"is not a report of modelopt (its schema is {schema!r}, not {wanted!r})", where=where)
    if int(version) > int(number):
        message = f"was written by a newer modelopt: schema {schema}, and this one reads up to {wanted}"
        raise DataError(message, where=where, hint="pip install -U modelopt-cli")
