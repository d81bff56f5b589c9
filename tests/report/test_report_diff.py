"""What counts as worse, and what is noise."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_examples import latency, stats

from modelopt_cli.errors import DataError
from modelopt_cli.report.diff import diff_reports, figures
from modelopt_cli.report.merge import merge_reports
from modelopt_cli.report.model import RunReport
from modelopt_cli.report.serialize import read_report, to_json


def test_a_report_has_figures_with_directions(report: RunReport) -> None:
    found = {each.name: each for each in figures(report)}
    assert found["file"].value == 5_489_000
    assert not found["file"].higher_is_better
    assert found["top1"].higher_is_better
    assert found["SQNR of y"].unit == "dB"


def test_worse_by_more_than_the_limit_and_not_by_noise(report: RunReport) -> None:
    slower = replace(report, latency=(latency(0.60),), result=stats(5_600_000))
    changes = {change.new.name: change for change in diff_reports(report, slower).changes}
    speed = next(change for name, change in changes.items() if name.startswith("latency"))
    assert speed.worse == pytest.approx(0.25)
    assert speed.exceeds(0.2)
    assert not speed.exceeds(0.3)
    assert not changes["file"].exceeds(0.05)
    assert changes["file"].exceeds(0.01)
    assert not changes["top1"].exceeds(0.0)


def test_intervals_that_overlap_fail_no_gate(report: RunReport) -> None:
    wide = replace(report, latency=(latency(0.60, spread=0.4),))
    speed = next(c for c in diff_reports(report, wide).changes if c.new.name.startswith("latency"))
    assert not speed.clear
    assert not speed.exceeds(0.05)


def test_better_is_negative(report: RunReport) -> None:
    speed = next(
        c for c in diff_reports(report, replace(report, latency=(latency(0.24),))).changes if "latency" in c.new.name
    )
    assert speed.worse == pytest.approx(-0.5)


def test_figures_of_one_report_only_are_named(report: RunReport) -> None:
    found = diff_reports(report, replace(report, fidelity=None))
    assert set(found.only_old) == {"top1", "SQNR of y", "agreement of y"}
    assert found.only_new == ()


def test_a_report_comes_back_from_json_by_its_schema(report: RunReport) -> None:
    assert read_report(to_json(report)) == report
    with pytest.raises(DataError, match="is not a report of modelopt"):
        read_report('{"schema": "other/1"}')
    with pytest.raises(DataError, match="newer modelopt"):
        read_report(to_json(report).replace("modelopt.report/1", "modelopt.report/9"))


def test_merged_rows_name_their_machine(report: RunReport) -> None:
    there = replace(report, environment={"processor": "A chip", "cpus": 8})
    rows = merge_reports([("here", report), ("there", there)])
    assert [row.machine for row in rows] == ["here, 2 CPUs"] * 2 + ["A chip, 8 CPUs"] * 2
    assert rows[0].ratio is None
    assert rows[1].ratio is not None
    assert rows[1].ratio.value == 0.48
