"""How sure is a difference of two metrics on the same samples?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelopt_cli.evaluation.metric import Metric, WholeMetric

Z_95 = 1.959964
RESAMPLES = 2000
CHUNK = 100  # resamples at once: an index matrix of 100 x samples


def difference_interval(metric: Metric, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """95 % interval of ``value(first) - value(second)``, paired by sample.

    Yes-or-no answers, one per sample: the adjusted Wald interval for matched proportions (Agresti and Min 2005, Stat.
    Med. 24), which keeps a width when no answer changed. Everything else: percentile bootstrap over samples, 2000
    resamples of a fixed seed.

    Args:
        metric: Both were measured by it.
        first: Sums per sample, shape [samples, k].
        second: Likewise.
    """
    if metric.counts_hits and bool((first[:, 1] == 1).all()):
        return _matched_proportions(first[:, 0], second[:, 0])
    return _bootstrap(metric, first, second)


def _matched_proportions(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    # half a pseudo-count in each of the four cells of the two-by-two table
    n = len(first) + 2
    lost = float(((first > 0) & (second == 0)).sum()) + 0.5
    won = float(((first == 0) & (second > 0)).sum()) + 0.5
    difference = (lost - won) / n
    spread = Z_95 * float(np.sqrt(lost + won - (lost - won) ** 2 / n)) / n
    return max(difference - spread, -1.0), min(difference + spread, 1.0)


def _bootstrap(metric: Metric, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    n = len(first)
    differences = []
    for _ in range(0, RESAMPLES, CHUNK):
        weights = rng.multinomial(n, np.full(n, 1 / n), size=CHUNK).astype(np.float64)
        differences.append(metric.value(weights @ first) - metric.value(weights @ second))
    low, high = np.quantile(np.concatenate(differences), [0.025, 0.975])
    return float(low), float(high)


def whole_difference_interval(
    metric: WholeMetric, first: Sequence[Any], second: Sequence[Any]
) -> tuple[float, float] | None:
    """As `difference_interval`, for a metric of all samples at once; None where it is too dear for a bootstrap.

    Args:
        metric: Both were measured by it.
        first: What it kept of each sample.
        second: Likewise.
    """
    if not metric.resamples or len(first) < 2:
        return None
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(metric.resamples):
        drawn = rng.integers(0, len(first), len(first))
        differences.append(metric.score([first[i] for i in drawn]) - metric.score([second[i] for i in drawn]))
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)
