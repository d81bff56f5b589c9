"""Which weights of a layer go, and what the others become: least squares under a limit on non-zeros.

The support is found by ADMM with a falling limit, the survivors by conjugate gradients on all rows at once, as in ALPS
(Meng et al. 2024, https://arxiv.org/abs/2406.07831): both are a few dozen products with the Hessian, where an inverse
per row (OBS, Hassibi and Stork 1993; OBC, https://arxiv.org/abs/2208.11580) would take hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from modelopt_cli.passes.prune.patterns import Pattern

STEPS = 30  # of ADMM: 60 gain 1 % of the error, 15 lose 60 %
PENALTY, PENALTY_GROWTH = 0.1, 1.1  # of ADMM, in units of the Hessian's diagonal
RAMP = 0.5  # share of the steps over which the limit falls
REFIT_STEPS = 30
REFIT_TOLERANCE = 1e-3  # of the gradient, relative to the weights


@dataclass(frozen=True)
class Problem:
    """Minimize ``sum_r (w_r - t_r) H (w_r - t_r)^T`` over rows w_r of W, in units in which H has a diagonal of ones.

    Attributes:
        hessian: H, [groups, columns, columns].
        target: The minimum without a limit, t, [groups, rows, columns].
        scale: Units of each column, [groups, 1, columns]: weights are ``w / scale``.
    """

    hessian: np.ndarray
    target: np.ndarray
    scale: np.ndarray

    @cached_property
    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues [groups, columns] and eigenvectors (in columns) of H: they make ``(H + rho I)^-1`` cheap."""
        values, vectors = np.linalg.eigh(self.hessian)
        return values, vectors

    @cached_property
    def power(self) -> float:
        """The error of a layer of zeros, which errors are measured by; tiny instead of 0."""
        return max(self.error(np.zeros_like(self.target)), 1e-30)

    def error(self, weights: np.ndarray) -> float:
        """The sum over all rows."""
        gap = weights - self.target
        return float(np.einsum("grk,grk->", gap @ self.hessian, gap))


def make_problem(hessian: np.ndarray, cross: np.ndarray, weights: np.ndarray, damping: float) -> Problem:
    """The problem of a layer whose outputs should be those of the original weights on the original inputs.

    Args:
        hessian: ``E x x^T`` [groups, columns, columns].
        cross: ``E x0 x^T``, likewise.
        weights: The original ones, [groups, rows, columns].
        damping: Ridge towards the original weights, in mean diagonals of the Hessian: how much is made of few samples,
            and what keeps weights alive whose inputs happened to be still.
    """
    columns = hessian.shape[-1]
    level = np.einsum("gkk->g", hessian)[:, None, None] / columns
    ridge = np.where(level > 0, damping * level, 1.0)
    damped = hessian.copy()
    np.einsum("gkk->gk", damped)[...] += ridge[..., 0]
    scale = np.sqrt(np.einsum("gkk->gk", damped))[:, None, :]
    damped /= scale
    damped /= np.swapaxes(scale, 1, 2)
    wanted = (weights @ cross + weights * ridge) / scale
    target = np.swapaxes(np.linalg.solve(damped, np.swapaxes(wanted, 1, 2)), 1, 2)
    return Problem(damped.astype(np.float32), target.astype(np.float32), scale)


def choose_mask(problem: Problem, pattern: Pattern, sparsity: float) -> np.ndarray:
    """True for the weights that stay, by ADMM: the error after a refit is near the smallest that is known.

    The weights are pulled towards a copy of themselves with few non-zeros, harder at each step; the limit on non-zeros
    falls step by step, cubically (Zhu and Gupta 2017, https://arxiv.org/abs/1710.01878).
    """
    values, vectors = problem.spectrum
    back = np.ascontiguousarray(np.swapaxes(vectors, 1, 2))
    gradient = problem.target @ problem.hessian
    sparse, dual = problem.target, np.zeros_like(problem.target)
    mask = np.ones(problem.target.shape, bool)
    penalty = np.float32(PENALTY)
    for step in range(1, STEPS + 1):
        share = sparsity * (1 - (1 - min(1.0, step / (RAMP * STEPS))) ** 3)
        weights = ((gradient + penalty * sparse - dual) @ vectors / (values + penalty)[:, None, :]) @ back
        shifted = weights + dual / penalty
        mask = pattern.mask(np.abs(shifted), share)
        sparse = np.where(mask, shifted, np.float32(0))
        dual = dual + penalty * (weights - sparse)
        penalty *= np.float32(PENALTY_GROWTH)
    return mask


def refit(problem: Problem, mask: np.ndarray, start: np.ndarray, steps: int = REFIT_STEPS) -> np.ndarray:
    """The weights of least error among those that are zero outside of ``mask``, near enough.

    Args:
        problem: Of the layer.
        mask: True for what may be other than zero.
        start: Where to begin, [groups, rows, columns].
        steps: At most so many.
    """
    weights = np.where(mask, start, np.float32(0))
    residual = np.where(mask, (problem.target - weights) @ problem.hessian, np.float32(0))
    direction = residual
    power = _row_products(residual, residual)
    enough = REFIT_TOLERANCE**2 * np.maximum(_row_products(problem.target, problem.target), 1e-30)
    for _ in range(steps):
        if (power <= enough).all():
            break
        bent = np.where(mask, direction @ problem.hessian, np.float32(0))
        length = (power / np.maximum(_row_products(direction, bent), 1e-30))[..., None]
        weights = weights + length * direction
        residual = residual - length * bent
        before, power = power, _row_products(residual, residual)
        direction = residual + (power / np.maximum(before, 1e-30))[..., None] * direction
    return weights


def _row_products(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    products: np.ndarray = np.einsum("grk,grk->gr", one, other)
    return products
