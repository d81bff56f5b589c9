"""The report as a comment on a pull request: the verdict and the table at a glance, the rest folded away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath

from modelopt_cli.format import format_seconds
from modelopt_cli.report.model import RunReport
from modelopt_cli.report.summary import Summary, summarize_report
from modelopt_cli.report.usage import python_snippet

REASONS_SHOWN = 12  # of each step; .html and .json have them all
LONGEST = 300  # characters of one


def to_markdown(report: RunReport) -> str:
    """GitHub-flavoured Markdown, ending with a newline."""
    summary = summarize_report(report)
    return "\n".join(_lines(report, summary)).rstrip() + "\n"


def _lines(report: RunReport, summary: Summary) -> Iterator[str]:
    yield f"**{_text(summary.verdict)}**"
    yield ""
    yield _subject(report)
    yield ""
    for notice in summary.notices:
        yield f"> {_text(notice)}"
        yield ""
    rows = ((row.label, row.original, row.result, row.change) for row in summary.rows)
    yield from markdown_table(("", "original", "result", "change"), rows, align=":--|--:|--:|:--")
    if summary.gates:
        gates = ((gate.name, gate.limit, gate.value, gate.state, gate.note) for gate in summary.gates)
        yield from markdown_table(("required", "limit", "measured", "", ""), gates, align=":--|--:|--:|:--|:--")
    yield from _steps(report, summary)
    if report.usage is not None:
        yield ""
        yield f"Run it (onnxruntime {report.usage.lowest_onnxruntime} or newer):"
        yield ""
        yield "```python"
        yield python_snippet(report.usage, report.output)
        yield "```"


def _reasons(skipped: Sequence[str]) -> str:
    """The first of them: a comment on GitHub holds 65,536 characters."""
    said = [reason if len(reason) <= LONGEST else f"{reason[:LONGEST]} ..." for reason in skipped[:REASONS_SHOWN]]
    more = len(skipped) - len(said)
    return "; ".join(said) + (f"; {more} more reason{'s' if more > 1 else ''}" if more > 0 else "")


def _subject(report: RunReport) -> str:
    result = f" to `{PurePath(report.output).name}`" if report.output else ""
    return f"`{PurePath(report.model).name}`{result} by recipe `{report.recipe.get('name', 'without a name')}`"


def _steps(report: RunReport, summary: Summary) -> Iterator[str]:
    yield f"<details><summary>{len(summary.steps)} steps in {format_seconds(report.seconds)}</summary>"
    yield ""
    rows = ((s.name, s.changed, s.nodes, s.seconds, _reasons(s.skipped)) for s in summary.steps)
    yield from markdown_table(("step", "", "nodes", "time", "skipped"), rows, align=":--|--:|--:|--:|:--")
    yield "</details>"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> Iterator[str]:
    """The lines of a table, an empty one last; cells are plain text."""
    yield _line(head)
    yield f"|{align}|"
    for row in rows:
        yield _line(row)
    yield ""


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_text, cells))} |"


def _text(text: str) -> str:
    """Names of the user's stay text: no cell borders, markup or tags of theirs."""
    for mark in "\\`*_|<>":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
