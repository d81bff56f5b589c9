"""How much each group gives, so that all together meet a budget with the least error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

BINS = 1000  # of the time that is to be saved

Cost = Callable[[Sequence[int]], float]


@dataclass(frozen=True)
class Choice:
    """What one group may give.

    Attributes:
        keeps: Parts that stay at each level, falling; the first is all.
        errors: What each level does to the model's outputs, rising from 0.
    """

    keeps: tuple[int, ...]
    errors: tuple[float, ...]


def distribute(
    choices: Sequence[Choice], cost: Cost, limit: float, floor: Sequence[int] | None = None
) -> tuple[list[int], bool]:
    """The level of each group at which ``cost`` is at most ``limit``.

    Costs of groups multiply (a layer between two of them shrinks on both sides), so this is greedy: each time the
    step with the least error for what it saves, over one level or several at once; in the end, what can be given back.

    Args:
        choices: One for each group.
        cost: Of the whole model, from how many parts of each group stay.
        limit: What it may be.
        floor: Levels to begin with, which are not gone back on.

    Returns:
        Levels, and whether the limit was met.
    """
    least = list(floor) if floor is not None else [0] * len(choices)
    levels = list(least)
    now = cost(_counts(choices, levels))
    while now > limit:
        best: tuple[float, int, int, float] | None = None
        for group, choice in enumerate(choices):
            for level in range(levels[group] + 1, len(choice.keeps)):
                there = cost(_counts(choices, levels, group, level))
                if there >= now:
                    continue
                added = choice.errors[level] - choice.errors[levels[group]]
                rate = max(added, 0.0) / (now - max(there, limit))
                if best is None or rate < best[0]:
                    best = (rate, group, level, there)
                if there <= limit:
                    break
        if best is None:
            return levels, False
        _, group, level, now = best
        levels[group] = level
    _give_back(choices, levels, least, cost, limit)
    return levels, True


def _give_back(choices: Sequence[Choice], levels: list[int], least: Sequence[int], cost: Cost, limit: float) -> None:
    """Undo steps that later ones made unnecessary, the most harmful first."""
    moved = True
    while moved:
        moved = False
        order = sorted(range(len(choices)), key=lambda group: -choices[group].errors[levels[group]])
        for group in order:
            if levels[group] > least[group] and cost(_counts(choices, levels, group, levels[group] - 1)) <= limit:
                levels[group] -= 1
                moved = True


def _counts(choices: Sequence[Choice], levels: Sequence[int], group: int = -1, level: int = 0) -> list[int]:
    return [c.keeps[level if index == group else levels[index]] for index, c in enumerate(choices)]


def distribute_separable(
    choices: Sequence[Choice], times: Sequence[Sequence[float]], limit: float
) -> tuple[list[int], bool]:
    """The levels of least error whose times add up to a limit: a knapsack with one choice per group, solved exactly.

    Dynamic programming over what has been saved so far (Kellerer, Pferschy, Pisinger, "Knapsack Problems", 2004,
    chapter 11), in `BINS` steps; a saving is rounded down, so a limit that is met in steps is met.

    Args:
        choices: One for each group.
        times: Run time of the whole model with the group alone at each level, as a share of the source's.
        limit: What may stay of it, 0 to 1.

    Returns:
        Levels, and whether the limit was met; where it cannot be, the levels that save the most.
    """
    step = max(1 - limit, 1e-9) / BINS
    needs = np.arange(BINS + 1)  # least[need]: the least error that saves at least so much, with the groups so far
    least = np.where(needs == 0, 0.0, np.inf)
    taken: list[tuple[np.ndarray, list[int]]] = []
    for choice, shares in zip(choices, times, strict=True):
        saved = [int(max(1 - share, 0.0) / step + 1e-9) for share in shares]
        each = np.stack([least[np.maximum(needs - save, 0)] for save in saved]) + np.asarray(choice.errors)[:, None]
        taken.append((each.argmin(axis=0), saved))
        least = each.min(axis=0)
    if not np.isfinite(least[BINS]):
        return [int(np.argmin(shares)) for shares in times], False
    levels, need = [], BINS
    for level_of, saved in reversed(taken):
        levels.append(int(level_of[need]))
        need = max(need - saved[levels[-1]], 0)
    return levels[::-1], True
