"""A share is met exactly, however it is spread."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.passes.prune.distribution import (
    LEVELS,
    spread_by_error,
    spread_erk,
    spread_lamp,
    whole_counts,
)

SIZES = st.lists(st.integers(20, 5000), min_size=2, max_size=6)
SHARES = st.floats(0.1, 0.9)


def overall(sizes: list[int], shares: list[float]) -> float:
    return float(np.dot(sizes, shares) / sum(sizes))


@given(sizes=SIZES, sparsity=SHARES, seed=st.integers(0, 1000))
def test_by_error_meets_the_share_and_equal_layers_get_equal_shares(
    sizes: list[int], sparsity: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    curves = [np.cumsum(rng.random(len(LEVELS))).tolist() for _ in sizes]
    shares = spread_by_error([*sizes, sizes[0]], [*curves, curves[0]], sparsity)
    assert shares[0] == shares[-1]
    assert overall([*sizes, sizes[0]], shares) == pytest.approx(sparsity, abs=1e-3)


def test_by_error_takes_from_where_it_costs_least() -> None:
    cheap, dear = [0.001 * 4**i for i in range(len(LEVELS))], [0.01 * 4**i for i in range(len(LEVELS))]
    first, second = spread_by_error([1000, 1000], [cheap, dear], 0.5)
    assert first > 0.55 > 0.45 > second
    large, small = spread_by_error([10000, 100], [cheap, cheap], 0.5)
    assert large > small  # as many zeros cost less where there are more weights


@given(sizes=SIZES, sparsity=SHARES)
def test_erk_meets_the_share_and_spares_small_layers(sizes: list[int], sparsity: float) -> None:
    shapes = [(1, size, 10) for size in sizes]
    shares = spread_erk(shapes, sparsity)
    assert overall(sizes, shares) == pytest.approx(sparsity, abs=1e-6)
    by_size = [share for _, share in sorted(zip(sizes, shares, strict=True))]
    assert all(a <= b + 1e-9 for a, b in pairwise(by_size))


def test_lamp_ignores_the_scale_of_a_layer_and_meets_the_share() -> None:
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(3000), rng.standard_normal(1000) ** 3]
    shares = spread_lamp(weights, 0.6)
    assert overall([3000, 1000], shares) == pytest.approx(0.6, abs=1e-3)
    assert spread_lamp([weights[0] * 100, weights[1]], 0.6) == pytest.approx(shares)


@given(sizes=SIZES, sparsity=SHARES)
def test_whole_counts_add_up(sizes: list[int], sparsity: float) -> None:
    counts = [size * share for size, share in zip(sizes, whole_counts(sizes, [sparsity] * len(sizes)), strict=True)]
    assert sum(counts) == pytest.approx(sparsity * sum(sizes), abs=0.5 + 1e-6)
    assert all(count == pytest.approx(round(count), abs=1e-6) for count in counts)
