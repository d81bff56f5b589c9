from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from html_page import Page, find

from modelopt_cli.errors import UsageError
from modelopt_cli.report.merge import MergedRow, merge_reports
from modelopt_cli.report.merge_write import merged_csv, merged_html, merged_json, merged_markdown, write_merged
from modelopt_cli.report.model import RunReport


@pytest.fixture
def rows(report: RunReport) -> list[MergedRow]:
    there = replace(report, environment={"processor": "big|box", "cpus": 64}, output="out/<b>.onnx")
    return merge_reports([("here", report), ("there", there)])


def test_rows_know_what_was_lost_and_how_large_they_are(rows: list[MergedRow]) -> None:
    assert [(row.file_bytes, row.measure, row.quality) for row in rows[:2]] == [
        (18_663_000, "top1", 0.76),
        (5_489_000, "top1", 0.759),
    ]


def test_agreement_stands_in_where_there_are_no_labels(report: RunReport) -> None:
    assert report.fidelity is not None
    rows = merge_reports([("a", replace(report, fidelity=replace(report.fidelity, accuracy=None)))])
    assert [(row.measure, row.quality) for row in rows] == [("agreement", 1.0), ("agreement", 0.985)]


def test_the_page_shows_the_json_and_names_stay_text(rows: list[MergedRow]) -> None:
    text = merged_html(rows)
    page, content = Page(text), {"rows": json.loads(merged_json(rows))}
    assert page.open == []
    assert not any(tag == "b.onnx" for tag, _ in page.tags)
    assert len(page.facts) == 4 * 2 + 2 * 3
    for pointer, value, _ in page.facts:
        assert json.loads(value) == find(content, pointer)
    assert text.count("top-1 against latency") == 2  # a plot for each machine
    assert text.count('class="point result"') == 2


def test_columns_and_a_comment(rows: list[MergedRow]) -> None:
    table = list(csv.DictReader(merged_csv(rows).splitlines()))
    assert [row["ratio"] for row in table] == ["", "0.48", "", "0.48"]
    assert table[3]["machine"] == "big|box, 64 CPUs"
    lines = merged_markdown(rows).splitlines()
    assert lines[0].startswith("| machine | model |")
    assert len(lines) == 2 + 4
    assert "big\\|box" in lines[4]


def test_a_suffix_without_a_format_is_refused(rows: list[MergedRow], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no table has the suffix"):
        write_merged(rows, tmp_path / "a.pdf")
    write_merged(rows, tmp_path / "a.json")
    assert len(json.loads((tmp_path / "a.json").read_text())) == 4
