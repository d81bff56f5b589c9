"""Lines that GitHub Actions shows beside a run and on its pull request.

Source: "Workflow commands for GitHub Actions", docs.github.com: ``::error title=...::message``, where ``%``, line ends
and, in properties, ``:`` and ``,`` are escaped. The runner reads them from stdout and stderr alike.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelopt_cli.report.model import RunReport
from modelopt_cli.report.summary import summarize_report
from modelopt_cli.report.verdict import gate_text


def github_annotations(report: RunReport) -> Iterator[str]:
    """The verdict as a notice, each missed gate as an error, each note as a warning; without line ends."""
    summary = summarize_report(report)
    name = str(report.recipe.get("name", "modelopt"))
    yield _command("notice", f"{report.model} by {name}", summary.verdict)
    for gate in report.gates:
        if not gate.met:
            yield _command("error", f"{report.model}: requirement missed", gate_text(gate))
    for text in summary.notices:
        yield _command("warning", report.model, text)


def _command(level: str, title: str, message: str) -> str:
    return f"::{level} title={_data(title).replace(':', '%3A').replace(',', '%2C')}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
