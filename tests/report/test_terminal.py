"""The report in a terminal or a pipe: the verdict first, whole at 80 columns, no colour, plain where Unicode is not."""

from __future__ import annotations

import io
import sys
from dataclasses import replace

import pytest
from report_examples import inside, latency

from modelopt_cli.cli.console import print_payload
from modelopt_cli.cli.render import report_lines
from modelopt_cli.profiling.statistics import Histogram
from modelopt_cli.report.model import Gate, Notice, RunReport, SkipReport


@pytest.fixture
def crowded(report: RunReport) -> RunReport:
    """Long names and reasons, two providers, a missed requirement, distributions of run times."""
    step = replace(report.steps[0], skipped=(SkipReport("a reason of many words " * 8, 3, ("n" * 200,)),))
    gates = (Gate("min_speedup", 3.0, 2.08, False, "on cpu"), Gate("max_accuracy_drop", 0.01, 0.001, True, "top1"))
    notices = (Notice("n", "a note of many words " * 10, "and advice"),)
    timed = inside(report).latency[0]
    histogram = Histogram(4.0, 5.5, (3, 30, 9, 1))
    timed = replace(timed, result=replace(timed.result, histogram=histogram))
    both = timed, latency(1.01, spread=0.05, provider="openvino")
    return replace(report, steps=(step,), gates=gates, notices=notices, latency=both)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_it_fits_80_columns_in_a_pipe(crowded: RunReport, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "80")
    print_payload(*report_lines(crowded))
    stream.flush()
    text = raw.getvalue().decode(encoding)
    lines = text.splitlines()
    assert lines[0].startswith("2.1x faster, 3.4x smaller, top-1 76.0 -> 75.9 %: MISSED min_speedup")
    assert [line for line in lines if len(line) > 80 and "written" not in line] == []
    assert "\x1b" not in text
    place = next(at for at, line in enumerate(lines) if line.startswith("run times, 0 to 10.9 ms"))
    before, after = lines[place + 1], lines[place + 2]
    assert before.startswith("original") and after.startswith("result")
    assert len(after) < len(before.rstrip()) - 20  # the faster one lies to the left
