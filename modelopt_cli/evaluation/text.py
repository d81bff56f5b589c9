"""Metrics of sequences: word and character error rate, perplexity."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from modelopt_cli.errors import DataError
from modelopt_cli.evaluation.metric import class_scores, ratio


@dataclass(frozen=True)
class CharacterErrorRate:
    """Edits (insert, delete, replace) that turn the answer into the truth, over the truth's length; all samples.

    Outputs are token ids [length], text, or scores [length, tokens], which are decoded greedily as CTC does: the best
    token of each step, repeats merged, blanks dropped. Labels are ids padded with negative numbers, or text.

    Attributes:
        blank: The id that CTC leaves out; of scores only.
    """

    blank: int = 0
    name: ClassVar[str] = "cer"
    truth: ClassVar[str] = "labels"
    higher_is_better: ClassVar[bool] = False
    counts_hits: ClassVar[bool] = False

    def sums(self, output: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """[edits, length of the truth]."""
        own, want = self._units(_tokens(self.name, output, self.blank)), self._units(_tokens(self.name, truth, None))
        return np.array([edit_distance(own, want), len(want)], np.float64)

    def value(self, totals: np.ndarray) -> np.ndarray:
        """Edits per unit."""
        return ratio(totals[..., 0], totals[..., 1])

    def _units(self, tokens: str | list[int]) -> Sequence[Hashable]:
        return tokens


@dataclass(frozen=True)
class WordErrorRate(CharacterErrorRate):
    """As ``cer``, over words: text is split at blanks, ids at the separator.

    Attributes:
        separator: The id between words; -1: each id is a word.
    """

    separator: int = -1
    name: ClassVar[str] = "wer"

    def _units(self, tokens: str | list[int]) -> Sequence[Hashable]:
        if isinstance(tokens, str):
            return tokens.split()
        if self.separator < 0:
            return tokens
        words: list[tuple[int, ...]] = []
        word: list[int] = []
        for token in [*tokens, self.separator]:
            if token != self.separator:
                word.append(token)
            elif word:
                words.append(tuple(word))
                word = []
        return words


@dataclass(frozen=True)
class Perplexity:
    """Exponential of the mean negative log likelihood of the labels; outputs are logits [..., tokens].

    Labels are the ids to be predicted at each position, already shifted; negative ones do not count.
    """

    name: ClassVar[str] = "perplexity"
    truth: ClassVar[str] = "labels"
    higher_is_better: ClassVar[bool] = False
    counts_hits: ClassVar[bool] = False

    def sums(self, output: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """[negative log likelihood, tokens]."""
        scores, label, valid = class_scores(self.name, output, truth)
        logits = scores[valid].astype(np.float64)
        own = np.take_along_axis(logits, label[valid].astype(np.int64)[:, None], axis=1)[:, 0]
        top = logits.max(axis=1, initial=-np.inf)
        total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        return np.array([(total - own).sum(), valid.sum()], np.float64)

    def value(self, totals: np.ndarray) -> np.ndarray:
        """Of the mean."""
        result: np.ndarray = np.exp(ratio(totals[..., 0], totals[..., 1]))
        return result


def edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Levenshtein distance, row by row (Wagner and Fischer 1974)."""
    row = np.arange(len(second) + 1)
    codes = {unit: code for code, unit in enumerate(dict.fromkeys([*first, *second]))}
    want = np.array([codes[unit] for unit in second], np.int64)
    offsets = np.arange(len(second) + 1)
    for count, unit in enumerate(first, 1):
        best = np.empty_like(row)
        best[0] = count
        best[1:] = np.minimum(row[1:] + 1, row[:-1] + (want != codes[unit]))
        row = np.minimum.accumulate(best - offsets) + offsets  # insertions, from left to right
    return int(row[-1])


def _tokens(metric: str, array: np.ndarray, blank: int | None) -> str | list[int]:
    if array.dtype.kind in "US" or array.dtype == object:
        text = array.reshape(-1)[0]
        return text.decode() if isinstance(text, bytes) else str(text)
    if array.dtype.kind == "f" and array.ndim == 2 and blank is not None:
        best = array.argmax(axis=1)
        merged = best[np.concatenate([[True], best[1:] != best[:-1]])] if best.size else best
        return [int(token) for token in merged if token != blank]
    if array.dtype.kind not in "iu" or array.ndim > 1:
        hint = "expected ids [length], scores [length, tokens] or text"
        raise DataError(f"{array.dtype}{list(array.shape)} is no sequence of tokens", where=metric, hint=hint)
    return [int(token) for token in array.reshape(-1) if token >= 0]
