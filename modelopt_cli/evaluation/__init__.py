"""Accuracy with labels, agreement without."""

from modelopt_cli.evaluation.agreement import OutputAgreement
from modelopt_cli.evaluation.compare import Accuracy, Comparison, agreement, compare, evaluate
from modelopt_cli.evaluation.metrics import METRICS, Metric, find_metric

__all__ = [
    "METRICS",
    "Accuracy",
    "Comparison",
    "Metric",
    "OutputAgreement",
    "agreement",
    "compare",
    "evaluate",
    "find_metric",
]
