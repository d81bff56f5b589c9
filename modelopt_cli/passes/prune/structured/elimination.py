"""The order in which parts of a group leave: each time the ones that their consumers miss the least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ROUNDS = 32  # over a whole group: in each, the best few leave together
DAMPING = 1e-3


@dataclass
class Reader:
    """One consumer while parts leave: second-order pruning of whole columns with the rest solved again.

    Optimal brain surgeon over blocks (Hassibi and Stork 1993, https://papers.nips.cc/paper/647): leaving out the
    columns S costs ``tr(W_S [H^-1]_SS^-1 W_S^T)`` once the others are solved again.

    Args:
        hessian: E x x^T [columns, columns].
        weights: W [rows, columns].
        parts: Which part of the group each column belongs to; -1 for columns that stay.
    """

    hessian: np.ndarray
    weights: np.ndarray
    parts: np.ndarray

    def __post_init__(self) -> None:
        self.energy = max(
            float(np.einsum("rk,kl,rl->", self.weights, self.hessian, self.weights, optimize=True)), 1e-30
        )
        scale = float(np.trace(self.hessian)) / len(self.hessian) or 1.0
        self._columns = np.arange(len(self.hessian))
        self._inverse = np.linalg.inv(self.hessian + DAMPING * scale * np.eye(len(self.hessian)))
        self._current = self.weights.astype(np.float64)

    def costs(self, count: int) -> np.ndarray:
        """Relative error from leaving out each part alone; infinite for those that have left."""
        found = np.full(count, np.inf)
        here = self.parts[self._columns]
        order = np.argsort(here, kind="stable")
        labels, starts, sizes = np.unique(here[order], return_index=True, return_counts=True)
        for size in np.unique(sizes[labels >= 0]):
            chosen = (sizes == size) & (labels >= 0)
            columns = np.stack([order[start : start + size] for start in starts[chosen]])
            blocks = self._inverse[columns[:, :, None], columns[:, None, :]]
            weights = np.moveaxis(self._current[:, columns], 0, -1)  # [parts, size, rows]
            found[labels[chosen]] = np.einsum("psr,psr->p", weights, np.linalg.solve(blocks, weights)) / self.energy
        return found

    def leave(self, gone: np.ndarray) -> float:
        """Take parts out and solve the others again; the relative error that this adds."""
        out = np.isin(self.parts[self._columns], gone)
        if not out.any():
            return 0.0
        block, across = self._inverse[np.ix_(out, out)], self._inverse[np.ix_(out, ~out)]
        solved = np.linalg.solve(block, np.concatenate([across, self._current[:, out].T], axis=1))
        update, weights = solved[:, : across.shape[1]], solved[:, across.shape[1] :]
        added = float(np.einsum("rs,sr->", self._current[:, out], weights)) / self.energy
        self._current = self._current[:, ~out] - self._current[:, out] @ update
        self._inverse = self._inverse[np.ix_(~out, ~out)] - across.T @ update
        self._columns = self._columns[~out]
        return max(added, 0.0)

    def matrix(self) -> np.ndarray:
        """W as it is now, zeros for what has left, [rows, columns]."""
        whole = np.zeros_like(self._current, shape=self.weights.shape)
        whole[:, self._columns] = self._current
        return whole


@dataclass(frozen=True)
class Level:
    """One choice for a group.

    Attributes:
        gone: Parts that leave, by index, in the order in which they left.
        error: Error that this adds to the consumers' outputs after they are solved again, relative to their variance,
            summed over consumers.
        matrices: The consumers' weights, zeros where parts have left.
    """

    gone: tuple[int, ...]
    error: float
    matrices: tuple[np.ndarray, ...] = ()


def eliminate(
    readers: Sequence[Reader], count: int, keeps: Sequence[int], scores: np.ndarray | None = None
) -> list[Level]:
    """Levels of a group, from whole downwards.

    Args:
        readers: Its consumers; they are used up.
        count: Parts of the group.
        keeps: How many parts stay at each level, falling.
        scores: Leave in this order, smallest first, instead of by second-order cost.
    """
    levels: list[Level] = []
    gone: list[int] = []
    error = 0.0
    each = max(1, count // ROUNDS)
    for keep in keeps:
        while len(gone) < count - keep:
            few = min(each, count - keep - len(gone))
            costs = np.sum([reader.costs(count) for reader in readers], axis=0) if scores is None else scores.copy()
            costs[gone] = np.inf
            leaving = np.argsort(costs, kind="stable")[:few]
            error += sum(reader.leave(leaving) for reader in readers)
            gone.extend(leaving.tolist())
        levels.append(Level(tuple(gone), error, tuple(reader.matrix().astype(np.float32) for reader in readers)))
    return levels
