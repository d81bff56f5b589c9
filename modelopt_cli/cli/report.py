"""``modelopt report``: reports held against each other, and put together."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelopt_cli.cli.console import print_json, print_payload
from modelopt_cli.cli.options import Debug, Json
from modelopt_cli.cli.profile_options import parse_share
from modelopt_cli.errors import DataError, GateError

if TYPE_CHECKING:
    from modelopt_cli.report.diff import AnyReport, Change

group = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Hold reports against each other, or join them in one table."
)

Old = Annotated[Path, typer.Argument(metavar="OLD", help="Report of before, as JSON.", show_default=False)]
New = Annotated[Path, typer.Argument(metavar="NEW", help="Report of now.", show_default=False)]
Reports = Annotated[
    list[Path], typer.Argument(metavar="REPORT...", help="Reports of one or several machines.", show_default=False)
]
MergedFile = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Write the table too: .html (with plots), .md, .csv or .json."),
]
FailAbove = Annotated[
    str | None,
    typer.Option("--fail-above", metavar="5%", help="Exit 1 when a figure is worse by more, and not by noise."),
]


@group.command("diff")
def diff(old: Old, new: New, fail_above: FailAbove = None, as_json: Json = False, debug: Debug = False) -> None:
    """What is better and what is worse than in an older report; a gate for CI."""
    limit = parse_share(fail_above, "--fail-above")
    from modelopt_cli.report.diff import diff_reports

    found = diff_reports(_read(old), _read(new))
    if as_json:
        print_json(asdict(found))
    else:
        from modelopt_cli.cli.render_compare import diff_lines

        print_payload(*diff_lines(found, limit))
    if limit is not None:
        _gate([change for change in found.changes if change.exceeds(limit)], str(fail_above))


@group.command("merge")
def merge(reports: Reports, report: MergedFile = None, as_json: Json = False, debug: Debug = False) -> None:
    """One table of the latencies in several reports, of one or several machines."""
    from modelopt_cli.report.merge import merge_reports
    from modelopt_cli.report.merge_write import check_merged_path, write_merged

    if report is not None:
        check_merged_path(report)
    rows = merge_reports([(path.stem, _read(path)) for path in reports])
    if report is not None:
        write_merged(rows, report)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    from modelopt_cli.cli.render_compare import merged_table

    print_payload(merged_table(rows))


def _read(path: Path) -> AnyReport:
    from modelopt_cli.report.serialize import read_report

    try:
        return read_report(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise DataError(f"cannot be read: {reason}", where=str(path)) from error


def _gate(missed: list[Change], limit: str) -> None:
    if missed:
        what = "; ".join(f"{each.new.name} is {each.worse * 100:.1f} % worse" for each in missed)
        raise GateError(f"{what}: more than {limit}", where="--fail-above")
