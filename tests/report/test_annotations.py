from __future__ import annotations

from dataclasses import replace

from modelopt_cli.report.annotations import github_annotations
from modelopt_cli.report.model import Gate, RunReport


def test_a_run_that_went_well_is_a_notice_and_warnings(report: RunReport) -> None:
    assert list(github_annotations(report)) == [
        "::notice title=models/net.onnx by int8::2.1x faster, 3.4x smaller, top-1 76.0 -> 75.9 %25: within budget",
        "::warning title=models/net.onnx::opset raised from 11 to 13 (needed for per-channel weights)",
    ]


def test_a_missed_gate_is_an_error(report: RunReport) -> None:
    missed = replace(report, gates=(Gate("min_speedup", 3.0, 2.08, False), *report.gates), notices=())
    errors = [line for line in github_annotations(missed) if line.startswith("::error")]
    assert errors == ["::error title=models/net.onnx%3A requirement missed::min_speedup 3.00x (got 2.08x)"]


def test_a_name_cannot_begin_a_command_of_its_own(report: RunReport) -> None:
    lines = list(github_annotations(replace(report, model="a,b:c\n::error::x%\r")))
    assert not any("\n" in line or "\r" in line for line in lines)
    assert lines[0].startswith("::notice title=a%2Cb%3Ac%0A%3A%3Aerror%3A%3Ax%25%0D by int8::")
