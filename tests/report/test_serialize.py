from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.errors import DataError, ExitCode
from modelopt_cli.report.model import Fidelity, OutputAgreement, RunReport
from modelopt_cli.report.serialize import from_json, to_json


def test_what_is_written_is_read_back(report: RunReport) -> None:
    assert from_json(to_json(report)) == report


@pytest.mark.parametrize("sqnr", [math.inf, -math.inf])
def test_identical_outputs_survive_json_which_has_no_infinity(report: RunReport, sqnr: float) -> None:
    same = replace(report, fidelity=Fidelity("c", 1, (OutputAgreement("y", sqnr, 1.0, 0.0),)))
    text = to_json(same)
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert from_json(text) == same


@given(st.floats(allow_nan=False), st.text())
def test_any_number_and_any_name_survive(value: float, name: str) -> None:
    agreement = OutputAgreement(name, value, 1.0, 0.0)
    fidelity = Fidelity(name, 1, (agreement,))
    assert from_json(to_json(replace(_bare(), fidelity=fidelity))).fidelity == fidelity


def test_readers_of_json_get_the_verdict_too(report: RunReport) -> None:
    content = json.loads(to_json(report))
    assert content["verdict"].startswith("2.1x faster")
    assert content["gates_met"] is True
    assert content["schema"] == "modelopt.report/1"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a report of modelopt"),
        ('{"schema": "other/1"}', "is not a report of modelopt"),
        ('{"schema": "modelopt.report/2"}', "written by a newer modelopt: schema modelopt.report/2"),
        ('{"schema": "modelopt.report/1"}', "is not a valid report: model: "),
    ],
)
def test_what_is_no_report_of_this_version_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint) as caught:
        from_json(text, "r.json")
    assert str(caught.value).startswith("r.json: ")
    assert caught.value.exit_code is ExitCode.INPUT


def _bare() -> RunReport:
    from report_examples import stats

    return RunReport("m.onnx", None, {}, (), stats(10), stats(5), {}, {})
