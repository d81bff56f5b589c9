from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.profiling.statistics import LatencyComparison, ratio_interval, student_quantile, summarize

REPEATS = 400


def measured(
    rng: np.random.Generator, truth: float, *, rebuilds: int, session: float, noise: float
) -> list[list[float]]:
    """Synthetic rounds: each rebuild has its own luck, each round its noise, some rounds a hiccup."""
    luck = rng.normal(0, session, rebuilds)
    rounds = rng.normal(0, noise, (rebuilds, 25)) + 0.3 * (rng.random((rebuilds, 25)) < 0.03)
    return (truth * np.exp(luck[:, None] + rounds)).tolist()


def alarms(truth: float, **spread: float) -> float:
    """Share of simulated comparisons whose interval leaves 1 outside."""
    rng = np.random.default_rng(7)
    intervals = [ratio_interval(measured(rng, truth, **spread)) for _ in range(REPEATS)]
    return float(np.mean([not i.low <= 1 <= i.high for i in intervals]))


@pytest.mark.parametrize("rebuilds", [2, 4, 8])
@pytest.mark.parametrize(("session", "noise"), [(0.003, 0.03), (0.01, 0.02), (0.015, 0.05)])
def test_a_file_against_itself_is_no_difference_in_95_of_100(rebuilds: int, session: float, noise: float) -> None:
    assert alarms(1.0, rebuilds=rebuilds, session=session, noise=noise) <= 0.05


@pytest.mark.parametrize(("session", "noise"), [(0.003, 0.03), (0.01, 0.02), (0.015, 0.05)])
def test_five_percent_slower_is_found_in_9_of_10(session: float, noise: float) -> None:
    assert alarms(1.05, rebuilds=8, session=session, noise=noise) >= 0.9


def test_rounds_do_not_narrow_what_only_rebuilds_can() -> None:
    rng = np.random.default_rng(1)
    few = ratio_interval([(np.exp(rng.normal(0, 0.001, 50))).tolist() for _ in range(4)])
    many = ratio_interval([(np.exp(rng.normal(0, 0.001, 5000))).tolist() for _ in range(4)])
    assert many.high - many.low > 0.9 * (few.high - few.low)


def test_the_value_is_the_median_of_medians() -> None:
    interval = ratio_interval([[0.5, 0.5, 9.0], [0.6, 0.1, 0.6], [0.7, 0.7, 0.7]])
    assert interval.value == pytest.approx(0.6)
    assert interval.low < 0.6 < interval.high


@given(st.lists(st.lists(st.floats(0.1, 10), min_size=1, max_size=6), min_size=1, max_size=5))
def test_swapping_the_two_models_turns_the_interval_over(rounds: list[list[float]]) -> None:
    one = ratio_interval(rounds)
    other = ratio_interval([[1 / ratio for ratio in each] for each in rounds])
    assert other.value == pytest.approx(1 / one.value)
    assert (other.low, other.high) == (pytest.approx(1 / one.high, rel=0.2), pytest.approx(1 / one.low, rel=0.2))


@given(st.lists(st.lists(st.floats(0.1, 10), min_size=1, max_size=6), min_size=1, max_size=5))
def test_the_same_ratios_give_the_same_interval(rounds: list[list[float]]) -> None:
    assert ratio_interval(rounds) == ratio_interval(rounds)


@pytest.mark.parametrize("rounds", [[], [[1.0], []]])
def test_an_interval_of_nothing_is_refused(rounds: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="each rebuild needs at least one round"):
        ratio_interval(rounds)


@pytest.mark.parametrize(("freedom", "table"), [(4, 2.776), (5, 2.571), (7, 2.365), (11, 2.201), (30, 2.042)])
def test_student_quantiles_are_those_of_the_tables(freedom: float, table: float) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(table, rel=0.005)


def test_percentiles_of_runs() -> None:
    latency = summarize(np.arange(1, 102, dtype=float))
    assert (latency.median_ms, latency.mean_ms, latency.min_ms, latency.runs) == (51, 51, 1, 101)
    assert (latency.p90_ms, latency.p95_ms, latency.p99_ms) == (91, 96, 100)
    assert latency.stdev_ms == pytest.approx(29.3, abs=0.01)
    assert summarize([2.0]).stdev_ms == 0.0
    with pytest.raises(ValueError, match="no runs"):
        summarize([])


@pytest.mark.parametrize(("low", "high", "significant"), [(0.9, 1.1, False), (0.9, 0.99, True), (1.01, 1.1, True)])
def test_significant_is_an_interval_without_one(low: float, high: float, significant: bool) -> None:
    one = summarize([1.0])
    comparison = LatencyComparison("cpu", 1, 1, {}, one, one, (low + high) / 2, low, high)
    assert comparison.significant is significant


def test_a_histogram_counts_all_but_the_slowest_runs() -> None:
    found = summarize([1.0] * 50 + [2.0] * 45 + [90.0] * 5)
    histogram = found.histogram
    assert histogram is not None
    assert (histogram.low_ms, histogram.high_ms) == (1.0, found.p95_ms)
    assert histogram.counts[0] == 50
    assert sum(histogram.counts) == 95
    assert summarize([1.0, 2.0]).histogram is None
    assert summarize([1.0] * 100).histogram is None


@pytest.mark.parametrize(("noise", "late", "outliers"), [(0.001, 1.05, 0.0), (0.001, 1.2, 0.1), (0.1, 1.2, 0.0)])
def test_outliers_are_far_from_the_others_and_from_the_median(noise: float, late: float, outliers: float) -> None:
    times = np.concatenate([1 + noise * np.linspace(-1, 1, 90), np.full(10, late)])
    assert summarize(times).outliers == outliers
    assert summarize([1.0] * 5).outliers == 0.0
