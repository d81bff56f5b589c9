"""Several models in one call: each is run whatever becomes of the others, and a table at the end says what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from modelopt_cli.cli.boundary import explain
from modelopt_cli.cli.console import print_error, print_json, print_payload, say
from modelopt_cli.cli.jobs import Job
from modelopt_cli.cli.run import annotate, gate_error, is_wanted
from modelopt_cli.errors import ExitCode, ModelOptError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from modelopt_cli.report.model import RunReport


@dataclass(frozen=True)
class Outcome:
    """How one model ended.

    Attributes:
        job: Which it was.
        report: What was measured; None when it failed.
        code: Exit code that it would have had alone.
        said: The first line of what went wrong.
    """

    job: Job
    report: RunReport | None
    code: int = ExitCode.OK
    said: str = ""


def run_many(
    jobs: Sequence[Job],
    execute: Callable[[Job], RunReport | None],
    more: Callable[[RunReport], Iterable[RenderableType]] | None,
) -> None:
    """Run all jobs, then print the table or the list of reports.

    Args:
        jobs: In the order of the command line.
        execute: Runs one, and gives None for a dry run.
        more: What to print of each report.

    Raises:
        typer.Exit: The code of the first that failed; 1 when some only missed a requirement.
    """
    flags = jobs[0].flags
    outcomes = []
    for number, job in enumerate(jobs, 1):
        if not flags.quiet:
            say(f"{number} of {len(jobs)}: {job.model}")
        outcome = _try(job, execute)
        outcomes.append(outcome)
        if outcome.report is not None and flags.annotations == "github":
            annotate(outcome.report)
        if outcome.report is not None and more is not None and not flags.as_json:
            print_payload(f"{job.model}:", *more(outcome.report), "")
    if not flags.dry_run:
        _print(outcomes, as_json=flags.as_json)
    failed = [each.code for each in outcomes if each.code not in (ExitCode.OK, ExitCode.GATE)]
    if code := next(iter(failed), max(each.code for each in outcomes)):
        raise typer.Exit(code)


def _try(job: Job, execute: Callable[[Job], RunReport | None]) -> Outcome:
    try:
        report = execute(job)
        if report is None or report.gates_met:
            return Outcome(job, report)
        missed = gate_error(report, job.output, written=is_wanted(report, job.flags))
        missed.where = f"{job.model}: {missed.where}"
        error: Exception = missed
    except (ModelOptError, MemoryError) as caught:
        report, error = None, caught
    code, lines = explain(error)
    print_error(lines)
    return Outcome(job, report, code, lines[0].removeprefix("modelopt: error: ").removeprefix(f"{job.model}: "))


def _print(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    if as_json:
        print_json([_content(each) for each in outcomes])
        return
    from modelopt_cli.cli.render import batch_table

    rows = [(each.job.model, each.report, each.said) for each in outcomes]
    print_payload(batch_table(rows))


def _content(outcome: Outcome) -> dict[str, Any]:
    from modelopt_cli.report.serialize import report_content

    if outcome.report is None:
        return {"model": outcome.job.model, "error": outcome.said, "exit_code": outcome.code}
    return report_content(outcome.report)
