from __future__ import annotations

from dataclasses import replace

from report_examples import latency

from modelopt_cli.report.model import Audit, RunReport
from modelopt_cli.report.summary import GateRow, Row, StepRow, summarize_report


def test_the_table_of_a_run(report: RunReport) -> None:
    assert summarize_report(report).rows == (
        Row("file", "18.7 MB", "5.49 MB", "3.4x smaller"),
        Row("parameters", "4.65 M", "4.65 M", "same"),
        Row("non-zero", "100 %", "100 %", "same"),
        Row("nodes", "115", "310", "+170 %"),
        Row("latency (cpu)", "10.0 ms", "4.80 ms", "2.1x faster (2.04-2.13x)"),
        Row("top-1", "76.0 %", "75.9 %", "-0.1 points on 1000 samples"),
        Row("top-1 agreement", "", "98.5 %", "on 1000 samples"),
        Row("SQNR", "", "31.3 dB", "on 1000 samples"),
        Row("MACs in int8 kernels", "", "97.1 %", "3 Q/DQ nodes left over"),
    )


def test_the_steps_gates_and_notices_of_a_run(report: RunReport) -> None:
    summary = summarize_report(report)
    assert summary.steps == (
        StepRow("fuse", "61 changed", "115 -> 98", "0.21 s", ("2 skipped: output is shared",)),
        StepRow("quantize-static", "49 changed", "98 -> 310", "12.3 s", ()),
    )
    assert summary.gates == (GateRow("max_accuracy_drop", "1.00 points", "0.10 points", "met", "top1 on 1000 samples"),)
    assert summary.notices == ("opset raised from 11 to 13 (needed for per-channel weights)",)


def test_a_line_fits_80_columns(report: RunReport) -> None:
    undecided = latency(0.97, spread=0.05, provider="tensorrt")
    rows = summarize_report(replace(report, latency=(undecided,))).rows
    assert rows[4].change == "no clear difference (0.98-1.09x)"
    widths = [max(len(getattr(row, column)) for row in rows) for column in ("label", "original", "result", "change")]
    assert sum(widths) + 3 * 2 <= 80


def test_conditions_other_than_the_default_are_named(report: RunReport) -> None:
    wide = replace(latency(0.5), threads=16, batch=8)
    assert summarize_report(replace(report, latency=(wide,))).rows[4].label == "latency (cpu, 16 threads, batch 8)"


def test_macs_show_up_when_structure_was_removed(report: RunReport) -> None:
    pruned = replace(report, audit=Audit(0.0, {}, {"Conv": 49}, 0, 400_000_000, 200_000_000))
    assert Row("MACs", "400 M", "200 M", "-50 %") in summarize_report(pruned).rows


def test_a_busy_machine_is_said_and_a_quiet_one_is_not(report: RunReport) -> None:
    busy = replace(report, latency=(replace(latency(0.5), stolen=0.34),))
    notes = summarize_report(busy).notices
    assert notes[1].startswith("other processes took 34 % of the measuring time on cpu: ")
    quiet = replace(report, latency=(replace(latency(0.5), stolen=0.05),))
    assert len(summarize_report(quiet).notices) == 1


def test_a_run_that_does_not_quantize_says_nothing_of_integers(report: RunReport) -> None:
    assert report.audit is not None
    idle = replace(report.audit, integer_mac_share=0.0, integer_ops={}, leftover_qdq=0)
    fused = replace(report, audit=idle, steps=report.steps[:1])
    assert not [row for row in summarize_report(fused).rows if "int8" in row.label]
    in_vain = summarize_report(replace(report, audit=idle)).rows
    assert [row.result for row in in_vain if "int8" in row.label] == ["0 %"]
