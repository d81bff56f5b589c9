"""A report with round numbers, to be changed field by field."""

from __future__ import annotations

import pytest
from report_examples import latency, stats

from modelopt_cli.report.model import (
    Accuracy,
    Audit,
    Fidelity,
    Gate,
    Notice,
    OutputAgreement,
    RunReport,
    SkipReport,
    StepReport,
)


@pytest.fixture
def report() -> RunReport:
    """An int8 run that went well."""
    return RunReport(
        model="models/net.onnx",
        output="models/net.int8.onnx",
        recipe={"version": 1, "name": "int8"},
        steps=(
            StepReport("fuse", {}, 61, (SkipReport("output is shared", 2, ("a", "b")),), 0.21, 115, 98),
            StepReport("quantize-static", {"calibrator": "mse"}, 49, (), 12.34, 98, 310),
        ),
        original=stats(18_663_000),
        result=stats(5_489_000, nodes=310),
        environment={"modelopt": "0.1.0", "cpus": 2},
        hashes={"model": "00ff"},
        latency=(latency(0.48),),
        fidelity=Fidelity(
            "eval.npz", 1000, (OutputAgreement("y", 31.26, 0.9991, 0.5, 0.985),), Accuracy("top1", 0.760, 0.759, 1000)
        ),
        audit=Audit(0.9712, {"QLinearConv": 49}, {"Gemm": 1}, 3, 385_187_552, 385_187_552),
        gates=(Gate("max_accuracy_drop", 0.01, 0.001, True, "top1 on 1000 samples"),),
        notices=(Notice("opset-raised", "opset raised from 11 to 13", "needed for per-channel weights"),),
        seconds=72.4,
    )
