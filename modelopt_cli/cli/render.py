"""A report for a person: the verdict first, one table at a glance, then a line per pass. Nothing here decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.plots import Distribution
from modelopt_cli.cli.tables import literal, plain_table, short_names
from modelopt_cli.format import format_bytes, format_ms, format_seconds
from modelopt_cli.report.summary import GateRow, StepRow, Summary, summarize_report

if TYPE_CHECKING:
    from modelopt_cli.report.model import RunReport

PLOT_WIDTH = 64  # with its label, inside of 80 columns
REASONS_SHOWN = 3  # of each pass; the report file has them all


def report_lines(report: RunReport) -> Iterator[RenderableType]:
    """What ``compress`` prints."""
    summary = summarize_report(report)
    yield Text(summary.verdict, style="bold" if report.gates_met else "bold red")
    yield ""
    yield _main_table(summary)
    yield from _distributions(report)
    if summary.gates:
        yield ""
        yield _gates(summary.gates)
    yield ""
    yield from _steps(summary.steps)
    if summary.notices:
        yield ""
    for notice in summary.notices:
        yield Text(f"note: {notice}", style="yellow")
    if report.output is not None:
        yield ""
        yield f"written: {report.output}"


def _main_table(summary: Summary) -> Table:
    table = plain_table("", "original", "result", "change", right=[1, 2])
    for row in summary.rows:
        table.add_row(row.label, row.original, row.result, row.change)
    return table


def _distributions(report: RunReport) -> Iterator[RenderableType]:
    """Where the run times of both models lie, on one line from 0 on; of the first provider."""
    first = report.latency[0] if report.latency else None
    if first is None or first.original.histogram is None or first.result.histogram is None:
        return
    top = max(first.original.histogram.high_ms, first.result.histogram.high_ms)
    yield ""
    yield f"run times, 0 to {format_ms(top)}"
    yield Distribution("original", first.original.histogram, top, PLOT_WIDTH)
    yield Distribution("result  ", first.result.histogram, top, PLOT_WIDTH)


def _gates(gates: tuple[GateRow, ...]) -> Table:
    table = plain_table("required", "limit", "measured", "", right=[1, 2])
    for gate in gates:
        state = f"{gate.state} ({gate.note})" if gate.note else gate.state
        table.add_row(gate.name, gate.limit, gate.value, Text(state, style="" if gate.state == "met" else "red"))
    return table


def _steps(steps: tuple[StepRow, ...]) -> Iterator[RenderableType]:
    """A line per pass, the most frequent reasons for what it left alone below."""
    cells = [(step.name, step.changed, f"{step.nodes} nodes", step.seconds) for step in steps]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for step, texts in zip(steps, cells, strict=True):
        padded = [text.ljust(width) for text, width in zip(texts[:3], widths, strict=False)]
        yield "   ".join([*padded, texts[3].rjust(widths[3])])
        for reason in step.skipped[:REASONS_SHOWN]:
            yield Padding(Text(reason, style="dim"), (0, 0, 0, 2))
        more = len(step.skipped) - REASONS_SHOWN
        if more > 0:
            yield Text(f"  {more} more reason{'s' if more > 1 else ''}: see --report FILE or --json", style="dim")


def batch_table(rows: Sequence[tuple[str, RunReport | None, str]]) -> Table:
    """A line for each model: (name, report, what went wrong)."""
    table = plain_table("model", "", "written")
    names = short_names([name for name, _, _ in rows])
    for name, (_, report, said) in zip(names, rows, strict=True):
        if report is None:
            table.add_row(name, Text(f"failed: {said}", style="red"), "")
        else:
            style = "" if report.gates_met else "red"
            table.add_row(name, Text(summarize_report(report).verdict, style=style), report.output or "")
    return table


def plan_lines(plan: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What a run would do, for ``--dry-run``."""
    recipe = plan["recipe"]
    yield f"model        {plan['model']}"
    yield f"output       {plan['output']}"
    yield f"recipe       {recipe['name']}, seed {recipe['seed']}"
    target = recipe["target"]
    yield f"target       {target['provider']}, isa {target['isa']}, dialect {target['dialect']}"
    yield f"calibration  {plan['calibration'] or 'none'}"
    yield f"evaluation   {plan['evaluation'] or 'none'}"
    for number, step in enumerate(recipe["steps"], 1):
        options = ", ".join(f"{name}={literal(value)}" for name, value in step["with"].items())
        yield f"step {number}       {step['pass']}" + (f" ({options})" if options else "")
    required = [f"{name} {limit:g}" for name, limit in recipe["require"].items() if limit is not None]
    yield f"require      {', '.join(required) or 'nothing'}"
    takes = plan["takes"]
    free = f" of {format_bytes(takes['free_bytes'])} free" if takes["free_bytes"] is not None else ""
    needed = format_bytes(takes["memory_bytes"])
    yield f"takes        about {format_seconds(takes['seconds'])} and {needed} of memory{free}"
