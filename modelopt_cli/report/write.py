"""A report to a file; the suffix is the format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.io import write_atomically
from modelopt_cli.report.csv_rows import to_csv
from modelopt_cli.report.html import to_html
from modelopt_cli.report.junit import to_junit
from modelopt_cli.report.markdown import to_markdown
from modelopt_cli.report.model import RunReport
from modelopt_cli.report.serialize import to_json

WRITERS: Mapping[str, Callable[[RunReport], str]] = {
    ".json": to_json,
    ".md": to_markdown,
    ".html": to_html,
    ".xml": to_junit,
    ".csv": to_csv,
}
PAGE_S = 10.0  # of each pass for a page, which alone shows what the parts of its work cost
DETAILED = (".json", ".html")  # these show every layer and kernel; for the others they are not measured


def check_report_path(path: Path) -> None:
    """Refuse a suffix that no format has, before any long work.

    Raises:
        UsageError: Unknown suffix.
    """
    if path.suffix.lower() not in WRITERS:
        raise UsageError(
            f"no report format has the suffix '{path.suffix}'", where=str(path), hint=f"use {', '.join(WRITERS)}"
        )


def write_report(report: RunReport, path: Path) -> None:
    """Write the report in the format that the suffix names: the whole new file, or the old one untouched.

    Raises:
        UsageError: Unknown suffix.
        OutputError: The disk is full or the folder cannot be written.
    """
    check_report_path(path)
    write_atomically(path, WRITERS[path.suffix.lower()](report).encode())
