"""From run times to a ratio with an honest interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95

# Two sessions of one file differ by 1-3 % for as long as they live (memory layout, page colours), so the logarithm of
# their ratio spreads by about this much. Few rebuilds cannot estimate that spread alone: it enters as a prior worth
# PRIOR_REBUILDS observations, which is the moderated t of Smyth (2004), "Linear models and empirical Bayes methods".
SESSION_SPREAD = 0.01
PRIOR_REBUILDS = 4.0
# The standard error of a median is that of a mean times sqrt(pi / 2), for normal data.
MEDIAN_INFLATION = float(np.sqrt(np.pi / 2))
BOOTSTRAP_DRAWS = 200
P999_RUNS = 1000
HISTOGRAM_RUNS = 30
HISTOGRAM_BINS = 40
OUTLIER_SPREADS = 5.0
OUTLIER_SHARE = 0.1  # of the median: where runs hardly differ, five of their spreads are no more than 2 %
MAD_TO_STDEV = 1.4826  # of normal data


@dataclass(frozen=True)
class Histogram:
    """How many runs took how long, in intervals of one width.

    Attributes:
        low_ms: Where the first begins: the fastest run.
        high_ms: Where the last ends: the 95th percentile; the slowest runs are so slow that all others would be one.
        counts: Runs in each.
    """

    low_ms: float
    high_ms: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Latency:
    """Run time of one model, milliseconds per run.

    Attributes:
        p999_ms: The 99.9th percentile; None where fewer than `P999_RUNS` runs were timed, which do not tell.
        low_ms: Lower end of the 95 % interval of the median, rebuilt sessions being the unit; None where not taken.
        high_ms: Upper end.
        outliers: Share of runs further above the median than five robust standard deviations, and than 10 %.
        histogram: The distribution; None where fewer than `HISTOGRAM_RUNS` were timed.
    """

    median_ms: float
    mean_ms: float
    min_ms: float
    stdev_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    runs: int
    p999_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    outliers: float = 0.0
    histogram: Histogram | None = None


@dataclass(frozen=True)
class LatencyComparison:
    """Two models timed in alternation on one provider.

    Attributes:
        shapes: What was fed, by input.
        ratio: Result's time as a share of the original's: median over rebuilds of the median of per-round ratios.
        ratio_low: Lower end of the 95 % interval of ``ratio``.
        ratio_high: Upper end.
        rebuilds: How many times both sessions were built anew.
        stolen: Share of the time that other processes took, known for one thread on the CPU: the ratio leaves it out,
            and milliseconds are of undisturbed runs where there are enough.
        significant: Whether the interval excludes 1.
    """

    provider: str
    threads: int
    batch: int
    shapes: dict[str, list[int]]
    original: Latency
    result: Latency
    ratio: float
    ratio_low: float
    ratio_high: float
    rebuilds: int = 1
    stolen: float = 0.0

    @property
    def significant(self) -> bool:
        """Whether 1.0 lies outside of the interval."""
        return not self.ratio_low <= 1.0 <= self.ratio_high


@dataclass(frozen=True)
class Interval:
    """An estimate and the two ends of its interval."""

    value: float
    low: float
    high: float


def summarize(milliseconds: Sequence[float] | np.ndarray) -> Latency:
    """Mean, spread and percentiles of single runs.

    Raises:
        ValueError: No runs.
    """
    times = np.asarray(milliseconds, dtype=np.float64)
    if times.size == 0:
        raise ValueError("no runs were timed")
    p50, p90, p95, p99, p999 = (float(p) for p in np.percentile(times, [50, 90, 95, 99, 99.9]))
    spread = MAD_TO_STDEV * float(np.median(np.abs(times - p50)))
    return Latency(
        median_ms=p50,
        mean_ms=float(times.mean()),
        min_ms=float(times.min()),
        stdev_ms=float(times.std(ddof=1)) if times.size > 1 else 0.0,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        runs=int(times.size),
        p999_ms=p999 if times.size >= P999_RUNS else None,
        outliers=float((times > p50 + max(OUTLIER_SPREADS * spread, OUTLIER_SHARE * p50)).mean()),
        histogram=_histogram(times, p95) if times.size >= HISTOGRAM_RUNS else None,
    )


def _histogram(times: np.ndarray, high: float) -> Histogram | None:
    low = float(times.min())
    if not low < high:
        return None
    counts, _ = np.histogram(times, HISTOGRAM_BINS, (low, high))
    return Histogram(low, high, tuple(map(int, counts)))


def ratio_interval(rebuilds: Sequence[Sequence[float]], *, confidence: float = CONFIDENCE, seed: int = 0) -> Interval:
    """The ratio of two run times, with its interval, from per-round ratios grouped by rebuild of the sessions.

    The rebuild is the unit of observation: rounds of one pair of sessions share its luck, so a thousand of them do not
    narrow the interval. The variance between rebuild medians is moderated by the prior above, to which the sampling
    noise within a rebuild (bootstrapped over its rounds) is added; the quantile is Student's.

    Args:
        rebuilds: One sequence of positive ratios for each rebuild; none empty.
        confidence: Share of intervals that hold the truth.
        seed: Of the bootstrap: the same ratios give the same interval.

    Raises:
        ValueError: No rebuild, or one without rounds.
    """
    if not rebuilds or any(len(rounds) == 0 for rounds in rebuilds):
        raise ValueError("each rebuild needs at least one round")
    rng = np.random.default_rng(seed)
    logs = [np.log(np.asarray(rounds, dtype=np.float64)) for rounds in rebuilds]
    medians = np.array([np.median(rounds) for rounds in logs])
    within = float(np.mean([_median_variance(rounds, rng) for rounds in logs]))
    freedom = len(medians) - 1
    between = float(medians.var(ddof=1)) if freedom else 0.0
    prior = SESSION_SPREAD**2 + within
    variance = (PRIOR_REBUILDS * prior + freedom * between) / (PRIOR_REBUILDS + freedom)
    error = MEDIAN_INFLATION * float(np.sqrt(variance / len(medians)))
    reach = student_quantile(0.5 + confidence / 2, PRIOR_REBUILDS + freedom) * error
    center = float(np.median(medians))
    return Interval(float(np.exp(center)), float(np.exp(center - reach)), float(np.exp(center + reach)))


def student_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t, within 0.5 % from 4 degrees of freedom on.

    Cornish-Fisher expansion around the normal quantile: Abramowitz and Stegun, Handbook of Mathematical Functions,
    26.7.5.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + float(sum(term / freedom ** (power + 1) for power, term in enumerate(terms)))


def _median_variance(values: np.ndarray, rng: np.random.Generator) -> float:
    """Variance of the median, by bootstrap; 0 for a single value, about which nothing is known."""
    if values.size == 1:
        return 0.0
    draws = rng.choice(values, size=(BOOTSTRAP_DRAWS, values.size))
    return float(np.median(draws, axis=1).var())
