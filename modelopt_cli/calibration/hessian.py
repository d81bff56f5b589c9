"""Second moments of what goes into a linear layer, streamed: the Hessian of its squared output error."""

from __future__ import annotations

import numpy as np

ROWS_AT_ONCE = 1024
WAITING_BYTES = 16 << 20  # of rows: those of a depthwise Conv are many, and their products small
ROUNDING = 1e-6  # of sums of float32: a variance below this share of the mean square is none


class Moments:
    """Sums over rows of inputs x of the pruned (or quantized) network and x0 of the original one.

    The squared error of a layer, ``E |W x - W0 x0|^2``, is a quadratic in W whose Hessian is ``E x x^T`` (Hassibi and
    Stork 1993, https://papers.nips.cc/paper/647; by layer: Dong et al. 2017, https://arxiv.org/abs/1705.07565), and
    whose minimum needs ``E x0 x^T`` besides.

    Args:
        groups: Independent maps side by side (the groups of a Conv), 1 for most.
        columns: Inputs of each.
    """

    def __init__(self, groups: int, columns: int) -> None:
        self._square = np.zeros((groups, columns, columns), np.float64)
        self._cross: np.ndarray | None = None  # like the square, as long as both networks gave the same rows
        self._sum = np.zeros((groups, columns), np.float64)
        self._sum_original = np.zeros((groups, columns), np.float64)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._count = 0

    def __add__(self, other: Moments) -> Moments:
        """The moments of the rows of both."""
        both = Moments(*self._sum.shape)
        both._square = self.settled()._square + other.settled()._square
        if self._cross is not None or other._cross is not None:
            both._cross = self._crossed() + other._crossed()
        both._sum = self._sum + other._sum
        both._sum_original = self._sum_original + other._sum_original
        both._count = self._count + other._count
        return both

    def update(self, rows: np.ndarray, original: np.ndarray) -> None:
        """Take in rows [groups, n, columns] of both networks, the same positions of the same samples."""
        self._waiting.append((rows, original))
        # A product of few rows is all overhead: the sums are as large as a layer's weights.
        enough = sum(waiting.shape[1] for waiting, _ in self._waiting) >= max(self._sum.shape[1], ROWS_AT_ONCE)
        if enough or sum(waiting.nbytes for waiting, _ in self._waiting) >= WAITING_BYTES:
            self.settled()

    def settled(self) -> Moments:
        """Itself, with every row added."""
        if self._waiting:
            alike = all(rows is original for rows, original in self._waiting)
            parts = list(zip(*self._waiting, strict=True))
            self._waiting.clear()
            rows = np.concatenate(parts[0], axis=1).astype(np.float32, copy=False)
            original = rows if alike else np.concatenate(parts[1], axis=1).astype(np.float32, copy=False)
            if self._cross is None and not alike:
                self._cross = self._square.copy()
            square = np.swapaxes(rows, 1, 2) @ rows
            self._square += square
            if self._cross is not None:
                self._cross += square if alike else np.swapaxes(original, 1, 2) @ rows
            self._sum += rows.sum(axis=1, dtype=np.float64)
            self._sum_original += original.sum(axis=1, dtype=np.float64)
            self._count += rows.shape[1]
        return self

    @property
    def count(self) -> int:
        """Rows so far."""
        return self.settled()._count

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean of x and of x0, each [groups, columns]."""
        count = self.count
        return self._sum / count, self._sum_original / count

    def mean_with(self, other: Moments) -> np.ndarray:
        """Mean of x over the rows of both, without adding up what is larger."""
        total = self.count + other.count
        mean: np.ndarray = (self._sum + other._sum) / total
        return mean

    def hessian(self, *, centred: bool) -> np.ndarray:
        """``E x x^T`` [groups, columns, columns], of x minus its mean when a bias takes care of the mean."""
        mean, _ = self.means()
        square = self._square / self._count
        if not centred:
            return square
        moves = self._moves()
        covariance: np.ndarray = (square - _outer(mean, mean)) * moves[:, None, :] * moves[:, :, None]
        return covariance

    def cross(self, *, centred: bool) -> np.ndarray:
        """``E x0 x^T`` [groups, columns, columns], both minus their means when ``centred``."""
        mean, original = self.means()
        product = self._crossed() / self._count
        if not centred:
            return product
        covariance: np.ndarray = (product - _outer(original, mean)) * self._moves()[:, None, :]
        return covariance

    def _crossed(self) -> np.ndarray:
        return self.settled()._square if self._cross is None else self._cross

    def _moves(self) -> np.ndarray:
        """Which inputs vary, [groups, columns]: of one that does not, the difference below 0 is only rounding."""
        square = np.einsum("gkk->gk", self._square) / self._count
        moves: np.ndarray = square - self.means()[0] ** 2 > ROUNDING * square
        return moves


def _outer(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    product: np.ndarray = one[:, :, None] * other[:, None, :]
    return product
