from __future__ import annotations

from dataclasses import replace

import pytest

from modelopt_cli.errors import UsageError
from modelopt_cli.evaluation.agreement import OutputAgreement
from modelopt_cli.evaluation.compare import Accuracy
from modelopt_cli.graph.stats import ModelStats
from modelopt_cli.pipeline.gates import check_gates, check_measurable
from modelopt_cli.profiling.statistics import Latency, LatencyComparison
from modelopt_cli.recipe.schema import Require
from modelopt_cli.report.model import Fidelity, RunReport

STATS = ModelStats(
    file_bytes=1000,
    parameters=10,
    nonzero_parameters=10,
    nodes=3,
    ops={},
    opset=17,
    ir_version=8,
    weight_bytes_by_dtype={},
)
LATENCY = Latency(1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 10)
SCORES = OutputAgreement("scores", sqnr_db=20.0, cosine=0.99, max_abs_error=0.1, top1=0.97)
EMBEDDING = OutputAgreement("embedding", sqnr_db=15.0, cosine=0.93, max_abs_error=0.1)


def report(**changes: object) -> RunReport:
    timing = LatencyComparison(
        "cpu", 1, 1, {}, LATENCY, LATENCY, ratio=0.5, ratio_low=0.45, ratio_high=0.55, rebuilds=4
    )
    base = RunReport(
        model="m",
        output=None,
        recipe={},
        steps=(),
        original=STATS,
        result=replace(STATS, file_bytes=300),
        environment={},
        hashes={},
        latency=(timing,),
        fidelity=Fidelity("data", 100, (SCORES, EMBEDDING)),
    )
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("require", "value", "met"),
    [
        (Require(max_size_ratio=0.35), 0.3, True),
        (Require(max_size_ratio=0.25), 0.3, False),
        (Require(min_speedup=1.9), 2.0, True),
        (Require(min_speedup=2.5), 2.0, False),
        (Require(max_latency_ratio=0.5), 0.5, True),
        (Require(max_latency_ratio=0.4), 0.5, False),
        (Require(min_agreement=0.93), 0.93, True),  # the worst output counts: the embedding's cosine
        (Require(min_agreement=0.95), 0.93, False),
        (Require(min_sqnr=15), 15.0, True),
        (Require(min_sqnr=16), 15.0, False),
    ],
)
def test_holds_each_requirement_against_its_figure(require: Require, value: float, met: bool) -> None:
    (gate,) = check_gates(require, report())
    assert gate.value == pytest.approx(value)
    assert gate.met is met


def test_accuracy_budget_is_a_drop_in_fractions() -> None:
    lost = Accuracy("top1", 0.760, 0.755, 1500, drop_low=0.0, drop_high=0.01)
    told = report(fidelity=Fidelity("data", 1500, (SCORES,), lost))
    (met,) = check_gates(Require(max_accuracy_drop=0.005), told)
    (missed,) = check_gates(Require(max_accuracy_drop=0.004), told)
    assert (met.met, missed.met) == (True, False)
    assert met.value == pytest.approx(0.005)


def test_says_when_the_interval_straddles_the_limit() -> None:
    (unsure,) = check_gates(Require(min_speedup=1.9), report())
    (sure,) = check_gates(Require(min_speedup=1.5), report())
    assert "includes the limit" in unsure.note
    assert "includes the limit" not in sure.note


def test_no_requirement_is_no_gate_and_met() -> None:
    assert check_gates(Require(), report()) == ()
    assert report().gates_met


@pytest.mark.parametrize(
    ("require", "given", "says"),
    [
        (Require(max_accuracy_drop=0.01), {"labels": False, "data": True, "profile": True}, "min_agreement"),
        (Require(min_agreement=0.9), {"labels": False, "data": False, "profile": True}, "--calib"),
        (Require(min_sqnr=20), {"labels": False, "data": False, "profile": True}, "--calib"),
        (Require(min_speedup=2), {"labels": True, "data": True, "profile": False}, "latency"),
    ],
)
def test_refuses_what_it_cannot_measure(require: Require, given: dict[str, bool], says: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_measurable(require, **given)
    assert says in str(refused.value)


def test_accepts_what_it_can_measure() -> None:
    check_measurable(Require(max_accuracy_drop=0.01, min_speedup=2), labels=True, data=True, profile=True)


@pytest.mark.parametrize(
    ("drop", "low", "high", "says"),
    [
        (0.004, -0.011, 0.003 + 0.016, "cannot exclude a drop above 0.50; about 45,000 samples would settle it"),
        (0.001, -0.001, 0.003, "95 % interval of the drop -0.10 to +0.30 points"),
        (0.020, 0.004, 0.036, "cannot exclude a drop below 0.50; about 230 samples would settle it"),
        (0.005, -0.011, 0.021, "cannot exclude a drop above 0.50"),
    ],
)
def test_says_how_sure_the_accuracy_budget_is(drop: float, low: float, high: float, says: str) -> None:
    accuracy = Accuracy("top1", 0.76, 0.76 - drop, 200, low, high)
    (gate,) = check_gates(Require(max_accuracy_drop=0.005), report(fidelity=Fidelity("d", 200, (), accuracy)))
    assert gate.note.endswith(says)
