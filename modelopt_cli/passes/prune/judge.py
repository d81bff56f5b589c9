"""How a fit to some samples does on others: what few samples can tell, and how far to trust them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from modelopt_cli.calibration.hessian import Moments
from modelopt_cli.passes.prune.patterns import Pattern
from modelopt_cli.passes.prune.solver import Problem, make_problem, refit

DAMPINGS = (0.01, 0.03, 0.1, 0.3, 1.0)
DRAFT_STEPS = 4  # of a refit whose error is only compared


class Judge:
    """The output error of weights on samples that they were not fitted to.

    Args:
        moments: Of those samples.
        weights: The original ones, [groups, rows, columns].
        centred: Whether a bias takes care of the mean.
    """

    def __init__(self, moments: Moments, weights: np.ndarray, *, centred: bool) -> None:
        self._hessian = moments.hessian(centred=centred).astype(np.float32)
        self._wanted = (weights @ moments.cross(centred=centred)).astype(np.float32)
        self._power = max(float(np.einsum("grk,grk->", self._wanted, weights)), 1e-30)

    def error(self, problem: Problem, weights: np.ndarray) -> float:
        """Against that of zeros, as a share; it may be above 1.

        Args:
            problem: What the weights were fitted to, which knows their units.
            weights: In the problem's units.
        """
        plain = (weights / problem.scale).astype(np.float32)
        change = np.einsum("grk,grk->", plain @ self._hessian - 2 * self._wanted, plain)
        return 1 + float(change) / self._power


def best_damping(
    fitted: Moments, judged: Moments, weights: np.ndarray, pattern: Pattern, sparsity: float, *, centred: bool
) -> float:
    """Of `DAMPINGS` the one whose fit to some samples, at this sparsity, does best on the others.

    The largest when there are no others: a fit to one sample can say nothing of how far to trust it.
    """
    if judged is fitted:
        return max(DAMPINGS)
    judge = Judge(judged, weights, centred=centred)
    errors = {}
    for damping in DAMPINGS:
        problem = problem_of(fitted, weights, damping, centred=centred)
        ((errors[damping], _),) = drafts(problem, judge, pattern, (sparsity,))
    return min(errors, key=lambda damping: errors[damping])


def problem_of(moments: Moments, weights: np.ndarray, damping: float, *, centred: bool) -> Problem:
    """The problem of a layer with these statistics; see `make_problem`."""
    return make_problem(
        moments.hessian(centred=centred), moments.cross(centred=centred), weights.astype(np.float64), damping
    )


def drafts(
    problem: Problem, judge: Judge, pattern: Pattern, levels: Sequence[float]
) -> Iterator[tuple[float, np.ndarray]]:
    """The error on unseen samples, and quickly fitted weights, at each sparsity of ``levels``, which rise."""
    weights = problem.target
    for level in levels:
        weights = refit(problem, pattern.mask(np.abs(weights), level), weights, steps=DRAFT_STEPS)
        yield judge.error(problem, weights), weights
