"""Normal equations of a least-squares problem, from rows that are streamed."""

from __future__ import annotations

import numpy as np


class NormalEquations:
    """Sums over rows x [columns] and targets y [rows], for ``groups`` independent problems side by side.

    Args:
        groups: Number of problems.
        columns: Length of x.
        rows: Length of y; 0 where only x is of interest.
    """

    def __init__(self, groups: int, columns: int, rows: int = 0) -> None:
        self.square = np.zeros((groups, columns, columns))
        self.cross = np.zeros((groups, columns, rows))
        self.sum_x = np.zeros((groups, columns))
        self.sum_y = np.zeros((groups, rows))
        self.energy = np.zeros((groups, rows))
        self.count = 0
        self.samples = 0
        self.spread = np.zeros(groups)

    def update(self, x: np.ndarray, y: np.ndarray | None = None) -> None:
        """Take in x [groups, n, columns] and y [groups, n, rows] of one sample."""
        turned = np.swapaxes(x, 1, 2)
        square = turned @ x
        self.square += square
        if self.cross.shape[2] == 0:  # only statistics of x alone are asked how far to believe them
            self.spread += np.square(square / max(x.shape[1], 1)).sum(axis=(1, 2), dtype=np.float64)
            self.samples += 1
        self.sum_x += x.sum(axis=1, dtype=np.float64)
        self.count += x.shape[1]
        if y is not None:
            self.cross += turned @ y
            self.sum_y += y.sum(axis=1, dtype=np.float64)
            self.energy += np.square(y).sum(axis=1, dtype=np.float64)

    def __add__(self, other: NormalEquations) -> NormalEquations:
        """Both samples together."""
        both = NormalEquations(*self.cross.shape)
        for name in ("square", "cross", "sum_x", "sum_y", "energy", "count", "samples", "spread"):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        return both

    def moments(self, *, centred: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Means of x x^T, x y^T and y^2, of deviations from the mean when a bias takes care of it."""
        count = max(self.count, 1)
        square, cross, energy = self.square / count, self.cross / count, self.energy / count
        if centred:
            x, y = self.sum_x / count, self.sum_y / count
            square = square - x[:, :, None] * x[:, None, :]
            cross = cross - x[:, :, None] * y[:, None, :]
            energy = energy - y**2
        return square, cross, energy

    def shrinkage(self) -> float:
        """How far E x x^T has to be drawn to its diagonal to be believed, between 0 and 1.

        Few samples of many columns correlate by chance. The optimal share follows from how much the estimate varies
        between samples (Schaefer and Strimmer 2005, https://doi.org/10.2202/1544-6115.1175; by sample instead of by
        row, since rows of one sample depend on each other).
        """
        if self.samples < 2:
            return 1.0
        square = self.square.sum(axis=0) / self.count
        whole = float(np.square(square).sum())
        variance = max(float(self.spread.sum()) / self.samples - whole, 0.0) / (self.samples - 1)
        return min(1.0, variance / max(whole - float(np.square(np.diagonal(square)).sum()), 1e-30))

    def mean(self) -> np.ndarray:
        """Mean of x, [groups, columns]."""
        return self.sum_x / max(self.count, 1)

    def mean_target(self) -> np.ndarray:
        """Mean of y, [groups, rows]."""
        return self.sum_y / max(self.count, 1)


def ridge(equations: NormalEquations, prior: np.ndarray, strength: float, *, centred: bool) -> np.ndarray:
    """W [groups, rows, columns] that minimizes ``E |y - W x|^2 + strength * scale |W - prior|^2``.

    ``scale`` is the mean of E x^2 over columns, so that the strength means the same in every layer.
    """
    square, cross, _ = equations.moments(centred=centred)
    columns = square.shape[1]
    scale = np.einsum("gkk->g", square)[:, None, None] / columns
    damped = square + np.maximum(strength * scale, 1e-12 + 1e-9 * scale) * np.eye(columns)
    gap = np.swapaxes(cross, 1, 2) - prior @ square
    found: np.ndarray = prior + np.swapaxes(np.linalg.solve(damped, np.swapaxes(gap, 1, 2)), 1, 2)
    return found


def mean_error(equations: NormalEquations, weights: np.ndarray, *, centred: bool) -> float:
    """Mean squared error of W on other rows, summed over outputs."""
    square, cross, energy = equations.moments(centred=centred)
    quadratic = np.einsum("grk,gkl,grl->", weights, square, weights, optimize=True)
    return float(energy.sum() - 2 * np.einsum("grk,gkr->", weights, cross) + quadratic)
