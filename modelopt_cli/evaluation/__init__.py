"""Accuracy with labels, agreement without."""

from modelopt_cli.evaluation.agreement import OutputAgreement
from modelopt_cli.evaluation.compare import Accuracy, Comparison, agreement, compare, evaluate
from modelopt_cli.evaluation.metrics import METRICS, AnyMetric, Metric, WholeMetric, choose_metric, find_metric

__all__ = [
    "METRICS",
    "Accuracy",
    "AnyMetric",
    "Comparison",
    "Metric",
    "OutputAgreement",
    "WholeMetric",
    "agreement",
    "choose_metric",
    "compare",
    "evaluate",
    "find_metric",
]
