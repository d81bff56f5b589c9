from __future__ import annotations

import math
from dataclasses import replace

from report_examples import latency, stats

from modelopt_cli.report.model import Fidelity, Gate, OutputAgreement, RunReport
from modelopt_cli.report.verdict import verdict


def without_labels(top1: float | None, sqnr: float = 31.26, *, random: bool = False) -> Fidelity:
    return Fidelity("calib.npz", 64, (OutputAgreement("y", sqnr, 0.999, 0.5, top1),), random_inputs=random)


def test_a_run_that_went_well(report: RunReport) -> None:
    assert verdict(report) == "2.1x faster, 3.4x smaller, top-1 76.0 -> 75.9 %: within budget"


def test_without_gates_there_is_no_budget_to_be_within(report: RunReport) -> None:
    assert verdict(replace(report, gates=())) == "2.1x faster, 3.4x smaller, top-1 76.0 -> 75.9 %"


def test_a_difference_inside_the_interval_is_none(report: RunReport) -> None:
    noisy = replace(report, latency=(latency(0.97, spread=0.05),))
    assert verdict(noisy).startswith("no significant difference in speed, 3.4x smaller")


def test_slower_is_said_aloud(report: RunReport) -> None:
    assert verdict(replace(report, latency=(latency(1.2),))).startswith("1.2x SLOWER, ")


def test_larger_is_said_aloud(report: RunReport) -> None:
    assert "faster, 1.3x LARGER, " in verdict(replace(report, result=stats(24_261_900)))


def test_zeros_that_bring_no_speed(report: RunReport) -> None:
    pruned = replace(report, result=stats(18_663_000, zeros=2_326_004), latency=(latency(0.99, spread=0.02),), gates=())
    expected = "0 % faster: zeros do not speed up this provider, same size, top-1 76.0 -> 75.9 %"
    assert verdict(pruned) == expected


def test_zeros_that_come_with_speed_are_not_blamed(report: RunReport) -> None:
    assert verdict(replace(report, result=stats(18_663_000, zeros=2_326_004))).startswith("2.1x faster, ")


def test_without_labels_agreement_is_not_called_accuracy(report: RunReport) -> None:
    unlabelled = replace(report, fidelity=without_labels(0.985), gates=())
    assert verdict(unlabelled) == "2.1x faster, 3.4x smaller, agreement 98.5 % (not accuracy: no labels given)"


def test_outputs_that_are_no_scores_are_judged_by_noise(report: RunReport) -> None:
    dense = replace(report, fidelity=without_labels(None), gates=())
    assert verdict(dense) == "2.1x faster, 3.4x smaller, SQNR 31.3 dB (not accuracy: no labels given)"
    same = replace(report, fidelity=without_labels(None, sqnr=math.inf), gates=())
    assert "SQNR identical" in verdict(same)


def test_random_inputs_are_named(report: RunReport) -> None:
    drawn = replace(report, fidelity=without_labels(0.985, random=True), gates=())
    assert verdict(drawn).endswith("agreement 98.5 % (random inputs: says nothing about real ones)")


def test_what_was_not_measured_is_said(report: RunReport) -> None:
    bare = replace(report, latency=(), fidelity=None, gates=())
    assert verdict(bare) == "speed not measured, 3.4x smaller, fidelity not measured: no data given"


def test_missed_gates_are_named_with_both_figures(report: RunReport) -> None:
    gates = (Gate("min_speedup", 2.5, 2.0833, False), *report.gates, Gate("max_accuracy_drop", 0.0005, 0.001, False))
    assert verdict(replace(report, gates=gates)).endswith(
        ": MISSED min_speedup 2.50x (got 2.08x), max_accuracy_drop 0.05 points (got 0.10 points)"
    )


def test_a_gate_that_could_not_be_measured_is_not_met(report: RunReport) -> None:
    gates = (Gate("min_sqnr", 30.0, None, False),)
    assert verdict(replace(report, gates=gates)).endswith(": MISSED min_sqnr 30.0 dB (got not measured)")
