"""Second moments of what goes into a linear layer, streamed: the Hessian of its squared output error."""

from __future__ import annotations

import numpy as np

ROWS_AT_ONCE = 1024


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
        self._cross = np.zeros((groups, columns, columns), np.float64)
        self._sum = np.zeros((groups, columns), np.float64)
        self._sum_original = np.zeros((groups, columns), np.float64)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._count = 0

    def update(self, rows: np.ndarray, original: np.ndarray) -> None:
        """Take in rows [groups, n, columns] of both networks, the same positions of the same samples."""
        self._waiting.append((rows, original))
        # A product of few rows is all overhead: the sums are as large as a layer's weights.
        if sum(waiting.shape[1] for waiting, _ in self._waiting) >= max(self._sum.shape[1], ROWS_AT_ONCE):
            self._flush()

    @property
    def count(self) -> int:
        """Rows so far."""
        self._flush()
        return self._count

    def _flush(self) -> None:
        if not self._waiting:
            return
        rows, original = (np.concatenate(parts, axis=1, dtype=np.float32) for parts in zip(*self._waiting, strict=True))
        self._waiting.clear()
        self._square += np.swapaxes(rows, 1, 2) @ rows
        self._cross += np.swapaxes(original, 1, 2) @ rows
        self._sum += rows.sum(axis=1, dtype=np.float64)
        self._sum_original += original.sum(axis=1, dtype=np.float64)
        self._count += rows.shape[1]

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean of x and of x0, each [groups, columns]."""
        count = self.count
        return self._sum / count, self._sum_original / count

    def hessian(self, *, centred: bool) -> np.ndarray:
        """``E x x^T`` [groups, columns, columns], of x minus its mean when a bias takes care of the mean."""
        mean, _ = self.means()
        return self._square / self._count - (_outer(mean, mean) if centred else 0.0)

    def cross(self, *, centred: bool) -> np.ndarray:
        """``E x0 x^T`` [groups, columns, columns], both minus their means when ``centred``."""
        mean, original = self.means()
        return self._cross / self._count - (_outer(original, mean) if centred else 0.0)


def _outer(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    product: np.ndarray = one[:, :, None] * other[:, None, :]
    return product
