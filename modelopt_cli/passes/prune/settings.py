"""How to prune with data: what the options of pass `prune` come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modelopt_cli.passes.prune.patterns import Pattern

Criterion = Literal["second-order", "activation", "magnitude", "l1", "random"]
Distribution = Literal["sensitivity", "uniform", "global", "erk", "lamp"]


@dataclass(frozen=True)
class DataPruning:
    """How to prune with data; the options of pass `prune` without its "auto"."""

    criterion: Criterion
    distribution: Distribution
    pattern: Pattern
    refit: bool
    samples: int
    damping: float | None
