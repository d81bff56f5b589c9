"""The one line that a person reads: what was gained, what it cost, and what could not be said."""

from __future__ import annotations

from modelopt_cli.format import format_db, format_percent, format_size, format_speed, format_times
from modelopt_cli.report.model import Accuracy, Fidelity, Gate, LatencyComparison, RunReport

PRUNED_POINTS = 0.05  # more zeros by this share of all weights: somebody pruned, and expects speed of it
NO_LABELS = "not accuracy: no labels given"
METRICS = {"top1": "top-1", "top5": "top-5"}


def verdict(report: RunReport) -> str:
    """One line, such as ``2.1x faster, 3.4x smaller, top-1 76.0 -> 75.9 %: within budget``."""
    said = [_speed(report), format_size(report.result.file_bytes / max(report.original.file_bytes, 1))]
    said.append(_fidelity(report.fidelity))
    return ", ".join(said) + _gates(report.gates)


def metric_label(metric: str) -> str:
    """A metric as the field writes it."""
    return METRICS.get(metric, metric)


def accuracy_text(accuracy: Accuracy) -> str:
    """``top-1 76.0 -> 75.9 %``."""
    return f"{metric_label(accuracy.metric)} {accuracy.original * 100:.1f} -> {accuracy.result * 100:.1f} %"


def speed_text(latency: LatencyComparison) -> str:
    """What one comparison says; a difference inside the interval is none."""
    return format_speed(latency.ratio) if latency.significant else "no significant difference in speed"


def gate_text(gate: Gate) -> str:
    """``min_speedup 1.5x (got 1.2x)``, in the unit that people use for it."""
    return f"{gate.name} {gate_value(gate, gate.limit)} (got {gate_value(gate, gate.value)})"


def gate_value(gate: Gate, value: float | None) -> str:
    """A limit or a measured value of one gate."""
    if value is None:
        return "not measured"
    if gate.name.endswith("speedup"):
        return f"{value:.2f}x" if value < 9.95 else format_times(value)
    if gate.name.endswith("sqnr"):
        return format_db(value)
    if gate.name.endswith("drop"):
        return f"{value * 100:.2f} points"
    if gate.name.endswith("ratio"):
        return f"{value:.3f}"
    return format_percent(value)


def _speed(report: RunReport) -> str:
    if not report.latency:
        return "speed not measured"
    first = report.latency[0]
    zeros = report.result.sparsity - report.original.sparsity
    if not first.significant and zeros >= PRUNED_POINTS:
        return "0 % faster: zeros do not speed up this provider"
    return speed_text(first)


def _fidelity(fidelity: Fidelity | None) -> str:
    if fidelity is None:
        return "fidelity not measured: no data given"
    if fidelity.accuracy is not None:
        return accuracy_text(fidelity.accuracy)
    note = "random inputs: says nothing about real ones" if fidelity.random_inputs else NO_LABELS
    matches = [each.top1 for each in fidelity.agreement if each.top1 is not None]
    if matches:
        return f"agreement {format_percent(min(matches))} ({note})"
    worst = min((each.sqnr_db for each in fidelity.agreement), default=None)
    return f"SQNR {format_db(worst)} ({note})" if worst is not None else "fidelity not measured: no outputs"


def _gates(gates: tuple[Gate, ...]) -> str:
    missed = [gate_text(gate) for gate in gates if not gate.met]
    if missed:
        return f": MISSED {', '.join(missed)}"
    return ": within budget" if gates else ""
