"""Write what a run made: the model first, then what describes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from modelopt_cli.graph.io import replacing, save_model, write_atomically
from modelopt_cli.pipeline.runner import CompressResult
from modelopt_cli.report.model import RunReport
from modelopt_cli.report.write import write_report


def write_result(
    result: CompressResult,
    output: Path,
    *,
    reports: Sequence[Path] = (),
    depfile: Path | None = None,
    depends_on: Sequence[Path] = (),
) -> RunReport:
    """Write the model, its reports and its dependency file, each whole or not at all.

    Args:
        result: What `compress` gave.
        output: The model's file.
        reports: One file per format, by suffix.
        depfile: Where to write a make rule that says what ``output`` was made from.
        depends_on: Those files.

    Returns:
        The report, with the output's name in it.

    Raises:
        OutputError: The disk is full or a folder cannot be written; what was there before is still there.
    """
    if result.file is not None:
        with replacing(output) as stream:
            result.file.copy_to(stream)
    else:
        save_model(result.model, output)
    report = replace(result.report, output=str(output))
    write_descriptions(report, output, reports=reports, depfile=depfile, depends_on=depends_on)
    return report


def write_descriptions(
    report: RunReport,
    output: Path,
    *,
    reports: Sequence[Path] = (),
    depfile: Path | None = None,
    depends_on: Sequence[Path] = (),
) -> None:
    """Write what describes a model that is there already; arguments and errors as of `write_result`."""
    for path in reports:
        write_report(report, path)
    if depfile is not None:
        write_atomically(depfile, make_rule(output, depends_on).encode())


def make_rule(target: Path, sources: Sequence[Path]) -> str:
    """A rule as ``gcc -MMD -MP`` writes it: with an empty rule per source, so that a removed one is no error."""
    names = [_escape(source) for source in sources]
    phony = "".join(f"\n{name}:\n" for name in names)
    return f"{_escape(target)}: {' '.join(names)}\n{phony}"


def _escape(path: Path) -> str:
    return str(path).replace("$", "$$").replace("#", "\\#").replace(" ", "\\ ")
