from __future__ import annotations

from pathlib import Path

import pytest

from modelopt_cli.errors import OutputError, UsageError
from modelopt_cli.report.markdown import to_markdown
from modelopt_cli.report.model import RunReport
from modelopt_cli.report.serialize import from_json
from modelopt_cli.report.write import write_report


def test_the_suffix_is_the_format(report: RunReport, tmp_path: Path) -> None:
    write_report(report, tmp_path / "r.json")
    write_report(report, tmp_path / "r.MD")
    assert from_json((tmp_path / "r.json").read_text()) == report
    assert (tmp_path / "r.MD").read_text() == to_markdown(report)


@pytest.mark.parametrize("name", ["r.pdf", "r"])
def test_an_unknown_suffix_is_refused_with_those_there_are(report: RunReport, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"use \.json, \.md, \.html, \.xml, \.csv"):
        write_report(report, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_an_error_in_one_line(report: RunReport, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory"):
        write_report(report, tmp_path / "no" / "r.json")
