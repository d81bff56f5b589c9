from __future__ import annotations

import csv
import io
from dataclasses import replace
from xml.etree import ElementTree as ET

from modelopt_cli.report.csv_rows import to_csv
from modelopt_cli.report.junit import to_junit
from modelopt_cli.report.model import Gate, RunReport


def test_each_gate_is_a_case_and_a_missed_one_a_failure(report: RunReport) -> None:
    missed = Gate("min_speedup", 3.0, 2.08, False, "on cpu")
    root = ET.fromstring(to_junit(replace(report, gates=(*report.gates, missed))))
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    cases = root.findall("testsuite/testcase")
    assert [(case.get("name"), case.get("classname")) for case in cases] == [
        ("max_accuracy_drop", "net.onnx"),
        ("min_speedup", "net.onnx"),
    ]
    assert cases[0].find("failure") is None
    failure = cases[1].find("failure")
    assert failure is not None
    assert failure.get("message") == "missed min_speedup 3.00x (got 2.08x)"
    assert failure.text == "on cpu"


def test_names_that_xml_cannot_hold_are_replaced(report: RunReport) -> None:
    root = ET.fromstring(to_junit(replace(report, model='a\x00<b>&".onnx')))
    case = root.find("testsuite/testcase")
    assert case is not None
    assert case.get("classname") == 'a�<b>&".onnx'


def test_a_row_holds_the_figures_unrounded(report: RunReport) -> None:
    (row,) = csv.DictReader(io.StringIO(to_csv(report)))
    assert report.audit is not None
    assert float(row["latency_ratio"]) == report.latency[0].ratio
    assert int(row["file_bytes_result"]) == report.result.file_bytes
    assert float(row["accuracy_result"]) == 0.759
    assert float(row["integer_mac_share"]) == report.audit.integer_mac_share
    assert (row["recipe"], row["gates_met"]) == ("int8", "1")


def test_every_row_has_the_same_columns_and_what_was_not_measured_is_empty(report: RunReport) -> None:
    bare = replace(report, latency=(), fidelity=None, audit=None, hashes={}, model='a,"b".onnx')
    (full,), (empty,) = (list(csv.DictReader(io.StringIO(to_csv(each)))) for each in (report, bare))
    assert full.keys() == empty.keys()
    assert (empty["latency_ratio"], empty["accuracy_result"], empty["sqnr_db"]) == ("", "", "")
    assert empty["model"] == 'a,"b".onnx'
