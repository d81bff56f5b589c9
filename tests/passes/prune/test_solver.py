"""The support and the refit against exact solutions of small problems."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.calibration.hessian import Moments
from modelopt_cli.passes.prune.patterns import Pattern
from modelopt_cli.passes.prune.solver import Problem, choose_mask, make_problem, refit

ELEMENT = Pattern()


def problem(rows: int = 3, columns: int = 8, seed: int = 0, damping: float = 1e-3) -> Problem:
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((columns * 3, columns)) @ rng.standard_normal((columns, columns))
    hessian = (inputs.T @ inputs / len(inputs))[None]
    return make_problem(hessian, hessian, rng.standard_normal((1, rows, columns)), damping)


def exact(found: Problem, mask: np.ndarray) -> np.ndarray:
    """Each row by the normal equations of its own support."""
    weights = np.zeros_like(found.target, np.float64)
    hessian = found.hessian[0].astype(np.float64)
    for row, kept in enumerate(mask[0]):
        part = np.flatnonzero(kept)
        wanted = hessian[part] @ found.target[0, row]
        weights[0, row, part] = np.linalg.solve(hessian[np.ix_(part, part)], wanted)
    return weights


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), sparsity=st.floats(0.1, 0.9))
def test_a_refit_is_the_least_squares_solution_on_its_support(seed: int, sparsity: float) -> None:
    found = problem(seed=seed, damping=0.05)
    mask = ELEMENT.mask(np.random.default_rng(seed).random(found.target.shape), sparsity)
    refitted = refit(found, mask, found.target, steps=60)
    assert (refitted[~mask] == 0).all()
    best = found.error(exact(found, mask).astype(np.float32))
    assert found.error(refitted) <= best * 1.01 + 1e-4 * found.power


def test_the_chosen_support_is_near_the_best_of_all() -> None:
    ratios, magnitude_ratios = [], []
    for seed in range(12):
        found = problem(rows=1, columns=10, seed=seed)
        masks = []
        for kept in combinations(range(10), 5):
            mask = np.zeros((1, 1, 10), bool)
            mask[0, 0, list(kept)] = True
            masks.append(found.error(exact(found, mask).astype(np.float32)))
        best = min(masks)
        for ratio, mask in (
            (ratios, choose_mask(found, ELEMENT, 0.5)),
            (magnitude_ratios, ELEMENT.mask(np.abs(found.target / found.scale), 0.5)),
        ):
            ratio.append(found.error(exact(found, mask).astype(np.float32)) / best)
    assert np.median(ratios) < 1.3  # 252 supports were tried for each
    assert np.median(ratios) < np.median(magnitude_ratios) / 1.5


def test_without_zeros_the_refit_undoes_what_the_network_before_has_lost() -> None:
    rng = np.random.default_rng(3)
    original = rng.standard_normal((1, 500, 6))
    pruned = original @ np.diag([1, 1, 0.5, 1, 1, 2]) + 0.01 * rng.standard_normal((1, 500, 6))
    moments = Moments(1, 6)
    moments.update(pruned, original)
    weights = rng.standard_normal((1, 4, 6))
    found = make_problem(moments.hessian(centred=False), moments.cross(centred=False), weights, 1e-6)
    fitted = found.target / found.scale
    np.testing.assert_allclose(fitted, weights / np.array([1, 1, 0.5, 1, 1, 2]), rtol=0.02, atol=0.02)


def test_a_weight_of_a_still_input_is_kept_as_it_was() -> None:
    hessian = np.diag([1.0, 1.0, 0.0])[None]
    weights = np.array([[[0.5, -0.4, 3.0]]])
    found = make_problem(hessian, hessian, weights, 0.1)
    np.testing.assert_allclose(found.target / found.scale, weights, rtol=1e-5)
    dead = make_problem(hessian * 0, hessian * 0, weights, 0.1)
    np.testing.assert_allclose(dead.target / dead.scale, weights, rtol=1e-5)


@pytest.mark.parametrize(("text", "share"), [("element", 0.5), ("block:4", 0.5), ("2:4", 0.5), ("1:4", 0.75)])
def test_a_pattern_holds_in_the_chosen_support(text: str, share: float) -> None:
    pattern = Pattern.parse(text)
    mask = choose_mask(problem(rows=4, columns=16), pattern, pattern.most(0.5))
    assert 1 - mask.mean() == pytest.approx(share)
    runs = mask.reshape(-1, pattern.width)
    if pattern.of:
        assert (runs.sum(axis=1) == pattern.keep).all()
    elif pattern.block > 1:
        assert set(runs.sum(axis=1)) <= {0, pattern.block}


@pytest.mark.parametrize("text", ["elements", "block:1", "4:2", "0:4", "2-4"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not element, block:SIZE or N:M"):
        Pattern.parse(text)


@pytest.mark.parametrize("rows", [1, 3, 500])
def test_an_input_that_never_moves_has_no_variance_whatever_the_rounding(rows: int) -> None:
    moments = Moments(1, 3)
    values = np.repeat(np.float32([[[0.7166558, 1.0133213, 100.1]]]), rows, axis=1)
    values[:, : rows // 2, 1] += np.float32(0.1)
    moments.update(values, values)
    covariance = moments.hessian(centred=True)
    assert np.all(covariance[0][[0, 2]] == 0) and np.all(moments.cross(centred=True)[0][:, [0, 2]] == 0)
    assert (covariance[0, 1, 1] > 0) == (rows > 1)
    found = make_problem(covariance, covariance, np.ones((1, 2, 3)), 0.01)
    assert choose_mask(found, ELEMENT, 0.5).sum() == 3


def test_moments_of_like_rows_need_no_second_matrix_and_agree_with_those_that_have_one() -> None:
    rows, others = np.random.default_rng(4).standard_normal((2, 1, 40, 5)).astype(np.float32)
    late, both = Moments(1, 5), Moments(1, 5)
    late.update(rows, rows)
    assert late.settled()._cross is None
    np.testing.assert_array_equal(late.cross(centred=True), late.hessian(centred=True))
    late.update(others, rows)
    both.update(rows, rows.copy())
    both.update(others, rows)
    np.testing.assert_allclose(late.cross(centred=True), both.cross(centred=True), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose((late + both).means()[0], late.mean_with(both), rtol=1e-6)
