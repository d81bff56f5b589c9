"""Which entries of a matrix stay when a share of them must go: single weights, runs of them, or N of every M."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pattern:
    """How zeros must lie in [groups, rows, columns].

    Attributes:
        block: Columns that go or stay together; 1 for single weights.
        keep: N of N:M, or 0 for no such pattern.
        of: M of N:M.
        norm: Of a block's weights, 1 or 2, by which blocks are compared.
    """

    block: int = 1
    keep: int = 0
    of: int = 0
    norm: int = 2

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """From ``element``, ``block:4`` or ``2:4``.

        Raises:
            ValueError: It is none of these.
        """
        if text == "element":
            return cls()
        if found := re.fullmatch(r"block:([2-9]|[1-9]\d+)", text):
            return cls(block=int(found[1]))
        found = re.fullmatch(r"(\d+):(\d+)", text)
        if found and 0 < int(found[1]) < int(found[2]):
            return cls(keep=int(found[1]), of=int(found[2]))
        raise ValueError(f"'{text}' is not element, block:SIZE or N:M")

    @property
    def width(self) -> int:
        """Columns that are decided on together: they must divide the number of columns."""
        return self.of or self.block

    def most(self, sparsity: float) -> float:
        """The share of zeros that is meant: N:M leaves no choice."""
        return 1 - self.keep / self.of if self.of else sparsity

    def mask(self, magnitudes: np.ndarray, sparsity: float) -> np.ndarray:
        """True for what stays.

        Args:
            magnitudes: [groups, rows, columns], not negative; the smallest go, over the whole of the array.
            sparsity: Share that goes, rounded to whole blocks; for N:M at most ``1 - N/M``.
        """
        if self.of:
            return self._mask_n_of_m(magnitudes, sparsity)
        if self.block == 1:
            return keep_largest(magnitudes, sparsity)
        shape = (*magnitudes.shape[:2], -1, self.block)
        kept = keep_largest((magnitudes**self.norm).reshape(shape).sum(axis=3), sparsity)
        return np.repeat(kept, self.block, axis=2)

    def _mask_n_of_m(self, magnitudes: np.ndarray, sparsity: float) -> np.ndarray:
        keep = max(self.keep, round(self.of * (1 - sparsity)))
        runs = magnitudes.reshape(*magnitudes.shape[:2], -1, self.of)
        order = np.argsort(-runs, axis=3, kind="stable")
        mask = np.zeros(runs.shape, bool)
        np.put_along_axis(mask, order[..., :keep], True, axis=3)
        return mask.reshape(magnitudes.shape)


def keep_largest(magnitudes: np.ndarray, sparsity: float) -> np.ndarray:
    """True for all but the ``round(sparsity * size)`` smallest entries of the whole array."""
    mask = np.ones(magnitudes.size, bool)
    drop = round(sparsity * magnitudes.size)
    if drop:
        mask[np.argpartition(magnitudes.reshape(-1), drop - 1)[:drop]] = False
    return mask.reshape(magnitudes.shape)
