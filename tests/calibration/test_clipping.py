import numpy as np
import pytest

from modelopt_cli.calibration.clipping import entropy_range, mse_range, percentile_range
from modelopt_cli.calibration.histogram import Histogram


def histogram(values: np.ndarray) -> Histogram:
    found = Histogram()
    found.update(values.astype(np.float32))
    return found


def grid_error(values: np.ndarray, low: float, high: float, *, symmetric: bool) -> float:
    """Mean squared error of a real 8-bit grid over [low, high] with zero on it."""
    if symmetric:
        reach = max(-low, high)
        step, first, last = reach / 127, -127, 127
    else:
        step = (max(high, 0) - min(low, 0)) / 255
        zero = round(-min(low, 0) / step)
        first, last = -zero, 255 - zero
    quantized = np.clip(np.round(values / step), first, last) * step
    return float(np.mean((values - quantized) ** 2))


rng = np.random.default_rng(0)
DISTRIBUTIONS = {
    "normal": rng.standard_normal(100_000),
    "heavy tail": rng.standard_t(2.5, 100_000),
    "after relu": np.maximum(rng.laplace(size=100_000), 0),
    "after silu": (x := 3 * rng.standard_normal(100_000)) / (1 + np.exp(-x)),
    "one outlier": np.append(rng.standard_normal(100_000), 60.0),
    "negative": -np.abs(rng.standard_normal(100_000)),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("percentile", [99.0, 99.9, 99.99])
def test_percentiles_are_exact_to_a_bin(name, percentile):
    values = DISTRIBUTIONS[name]
    nonzero, found = values[values != 0], histogram(values)
    low, high = percentile_range(found, percentile)
    tails = np.quantile(nonzero, [1 - percentile / 100, percentile / 100])
    expected_low = min(tails[0], 0.0) if values.min() < 0 else values.min()
    expected_high = max(tails[1], 0.0) if values.max() > 0 else values.max()
    # within a bin where values are dense; where they are sparse, between its neighbours in the sample
    assert low == pytest.approx(expected_low, abs=2 * found.width, rel=0.03)
    assert high == pytest.approx(expected_high, abs=2 * found.width, rel=0.03)


def test_few_values_are_not_clipped():
    values = np.linspace(-3, 5, 50)
    assert percentile_range(histogram(values), 99.9) == pytest.approx((-3, 5), rel=1e-6)


def test_zeros_do_not_move_the_percentile():
    values = np.abs(np.random.default_rng(1).standard_normal(10_000))
    padded = np.concatenate([values, np.zeros(1_000_000)])
    assert percentile_range(histogram(padded), 99)[1] == percentile_range(histogram(values), 99)[1]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_mse_range_is_near_the_best_of_a_brute_force_search(name, symmetric):
    values = DISTRIBUTIONS[name]
    low, high = mse_range(histogram(values), symmetric=symmetric)
    shares = np.linspace(0.04, 1, 25)
    if symmetric:
        reach = np.abs(values).max()
        candidates = [(-reach * share, reach * share) for share in shares]
    else:
        candidates = [(values.min() * low_share, values.max() * share) for low_share in shares[::4] for share in shares]
    best = min(grid_error(values, *candidate, symmetric=symmetric) for candidate in candidates)
    assert grid_error(values, low, high, symmetric=symmetric) <= 1.1 * best


def test_mse_clips_a_lone_outlier_and_keeps_a_frequent_one():
    bulk = np.random.default_rng(2).standard_normal(1_000_000)
    assert mse_range(histogram(np.append(bulk, 60.0)), symmetric=False)[1] < 35
    assert mse_range(histogram(np.append(bulk, np.full(500, 60.0))), symmetric=False)[1] > 55


def naive_entropy_threshold(magnitudes: np.ndarray, candidates: list[int], levels: int = 128) -> int:
    """The published loop, bin by bin."""
    scores = {}
    for bins in candidates:
        if not magnitudes[:bins].any():
            continue
        p = magnitudes[:bins].astype(float)
        p[-1] += magnitudes[bins:].sum()
        q = np.zeros(bins)
        for level in range(levels):
            members = [i for i in range(bins) if i * levels // bins == level]
            occupied = [i for i in members if p[i] > 0]
            for i in occupied:
                q[i] = magnitudes[members].sum() / len(occupied)
        mask = p > 0
        q[mask & (q == 0)] = 1e-4
        scores[bins] = float(np.sum(p[mask] / p.sum() * np.log(p[mask] / p.sum() / (q[mask] / q.sum()))))
    return min(scores, key=lambda bins: (scores[bins], bins))


def test_entropy_follows_the_published_method():
    found = histogram(DISTRIBUTIONS["one outlier"])
    half = found.counts.size // 2
    magnitudes = found.counts[half:] + found.counts[:half][::-1]
    used = int(np.flatnonzero(magnitudes)[-1]) + 1
    expected = naive_entropy_threshold(magnitudes, [*range(128, used, 8), used]) * found.width
    low, high = entropy_range(found)
    assert high == pytest.approx(min(expected, 60.0)) and low == pytest.approx(max(-expected, found.low))
    assert high < 60


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_no_rule_leaves_the_range_of_the_values(name):
    values = DISTRIBUTIONS[name].astype(np.float32)
    found = histogram(values)
    rules = [percentile_range(found, 99.9), entropy_range(found)]
    rules += [mse_range(found, symmetric=symmetric) for symmetric in (False, True)]
    for low, high in rules:
        assert values.min() <= low <= high <= values.max()
