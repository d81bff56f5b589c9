"""The recipe's ``require`` section, held against what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from modelopt_cli.errors import UsageError
from modelopt_cli.recipe.schema import Require
from modelopt_cli.report.model import Accuracy, Fidelity, Gate, LatencyComparison, RunReport

EXACT = 1e-9  # 0.005 of 200 samples is one answer, and a comparison of floats must not fail it


def check_measurable(require: Require, *, labels: bool, data: bool, profile: bool) -> None:
    """Refuse a requirement that this run cannot measure, before any long work.

    Raises:
        UsageError: Accuracy without labels, agreement without data, or speed with profiling off.
    """
    if require.max_accuracy_drop is not None and not labels:
        raise UsageError(
            "max_accuracy_drop needs labelled evaluation data",
            where="require",
            hint="give --eval with labels, or use min_agreement or min_sqnr",
        )
    wants_agreement = require.min_agreement is not None or require.min_sqnr is not None
    if wants_agreement and not data:
        raise UsageError("min_agreement and min_sqnr need data", where="require", hint="give --calib or --eval")
    wants_speed = require.min_speedup is not None or require.max_latency_ratio is not None
    if wants_speed and not profile:
        raise UsageError("a speed budget needs the latency measurement", where="require", hint="do not switch it off")


def check_gates(require: Require, report: RunReport) -> tuple[Gate, ...]:
    """Every requirement with its measured value; shares are fractions."""
    return tuple(_gates(require, report))


def _gates(require: Require, report: RunReport) -> Iterator[Gate]:
    accuracy = report.fidelity.accuracy if report.fidelity else None
    if require.max_accuracy_drop is not None and accuracy is not None:
        yield _accuracy_gate(require.max_accuracy_drop, accuracy)
    if require.min_agreement is not None and report.fidelity is not None:
        yield _at_least("min_agreement", require.min_agreement, agreement_share(report.fidelity))
    if require.min_sqnr is not None and report.fidelity is not None:
        yield _at_least("min_sqnr", require.min_sqnr, min(o.sqnr_db for o in report.fidelity.agreement))
    if require.max_size_ratio is not None:
        yield _at_most("max_size_ratio", require.max_size_ratio, report.result.file_bytes / report.original.file_bytes)
    if require.min_speedup is not None:
        limit = require.min_speedup
        yield _speed_gate("min_speedup", limit, report.latency, lambda ratio: 1 / ratio, lambda v: v >= limit)
    if require.max_latency_ratio is not None:
        limit = require.max_latency_ratio
        yield _speed_gate("max_latency_ratio", limit, report.latency, lambda ratio: ratio, lambda v: v <= limit)


def agreement_share(fidelity: Fidelity) -> float:
    """The worst output's agreement: share of equal top-1 where outputs are scores, mean cosine elsewhere."""
    return min(o.top1 if o.top1 is not None else o.cosine for o in fidelity.agreement)


def _at_least(name: str, limit: float, value: float) -> Gate:
    return Gate(name, limit, value, value >= limit)


def _at_most(name: str, limit: float, value: float) -> Gate:
    return Gate(name, limit, value, value <= limit)


def _accuracy_gate(limit: float, accuracy: Accuracy) -> Gate:
    met = accuracy.drop <= limit + EXACT
    note = f"{accuracy.metric} on {accuracy.samples} samples{_certainty(limit, accuracy)}"
    return Gate("max_accuracy_drop", limit, accuracy.drop, met, note)


def _certainty(limit: float, accuracy: Accuracy) -> str:
    """With what confidence a limit holds, or is missed, and how many samples would settle it where none does."""
    low, high = accuracy.drop_low, accuracy.drop_high
    if low is None or high is None:
        return ""
    interval = f", 95 % interval of the drop {low * 100:+.2f} to {high * 100:+.2f} points"
    if high <= limit or low > limit:
        return interval
    doubt = "cannot exclude a drop above" if accuracy.drop <= limit + EXACT else "cannot exclude a drop below"
    text = f"{interval}: {doubt} {limit * 100:.2f}"
    needed = samples_to_settle(limit, accuracy.drop, low, high, accuracy.samples)
    return text if needed is None else f"{text}; about {needed:,} samples would settle it"


def samples_to_settle(limit: float, drop: float, low: float, high: float, samples: int) -> int | None:
    """Samples after which the interval of a drop would leave the limit out, if the drop stayed what it is.

    The width of an interval falls with the square root of the number of samples. None where the drop is the limit.

    Args:
        limit: The largest drop allowed.
        drop: The one that was measured.
        low: Lower end of its interval.
        high: Upper end.
        samples: How many it was measured on.
    """
    distance = abs(limit - drop)
    if distance < EXACT:
        return None
    width = high - drop if drop <= limit else drop - low
    needed = samples * (width / distance) ** 2
    return int(round(needed, 2 - len(str(int(needed)))))  # two digits: it is an estimate


def _speed_gate(
    name: str,
    limit: float,
    latency: tuple[LatencyComparison, ...],
    of_ratio: Callable[[float], float],
    holds: Callable[[float], bool],
) -> Gate:
    """The first provider decides: it is the target. The note says so when the interval straddles the limit."""
    first = latency[0]
    value = of_ratio(first.ratio)
    sure = holds(of_ratio(first.ratio_low)) == holds(of_ratio(first.ratio_high))
    note = f"on {first.provider}" + ("" if sure else "; the interval of the measurement includes the limit")
    return Gate(name, limit, value, holds(value), note)
