"""Which groups are worth pruning on a target, and to how many parts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from modelopt_cli.passes.base import Skip
from modelopt_cli.passes.prune.structured.analysis import Dependencies
from modelopt_cli.passes.prune.structured.groups import Group, Kind
from modelopt_cli.passes.prune.structured.layers import Consumer, consumer_of
from modelopt_cli.passes.prune.structured.survey import Candidate

MOST_LEVELS = 8
LEAST_KEPT = 0.25


def find_candidates(found: Dependencies, kinds: Collection[Kind], multiple: int) -> tuple[list[Candidate], list[Skip]]:
    """Groups of these kinds whose consumers can be fitted, with the counts that their kernels like.

    Args:
        found: All groups.
        kinds: Which to take.
        multiple: Channels and units stay in multiples of this; heads are whole anyway.

    Returns:
        Candidates, and every other group and layer with the reason. A group that is too small for a smaller multiple is
        a candidate without a choice: `finer` counts may give it one.
    """
    candidates, skipped = [], list(found.skipped)
    for group in found.groups:
        if group.kind not in kinds:
            skipped.append(Skip(group.name, f"{group.kind}: another pass prunes them"))
            continue
        consumers = _consumers(group)
        keeps = keep_counts(group.size, 1 if group.kind == "heads" else multiple)
        candidates.append(Candidate(group, consumers, keeps))
    return candidates, skipped


def without_choice(candidates: Sequence[Candidate], shrunk: Collection[str]) -> list[Skip]:
    """Refusals for those that no smaller multiple fits, but for these, by name, that shrank nevertheless."""
    small = [each.group for each in candidates if len(each.keeps) < 2 and each.group.name not in shrunk]
    return [Skip(group.name, f"{group.size} {group.kind}: fewer would run no faster") for group in small]


def finer(candidates: Sequence[Candidate], multiple: int, block: int | None = None) -> list[Candidate]:
    """The same groups with counts in between, where the kernels' own multiples do not reach a budget.

    Args:
        candidates: With the kernels' own multiples.
        multiple: Channels and units stay in multiples of this.
        block: Where given, only counts below it are finer: above it they save arithmetic and no time.
    """
    found = []
    for each in candidates:
        keeps = keep_counts(each.group.size, 1 if each.group.kind == "heads" else multiple)
        if block is not None and each.group.kind != "heads":
            keeps = (*each.keeps, *(keep for keep in keeps if keep < min(block, each.keeps[-1])))
        found.append(replace(each, keeps=keeps))
    return found


def keep_counts(size: int, multiple: int) -> tuple[int, ...]:
    """How many of ``size`` may stay: all, and then multiples down to a quarter, at most `MOST_LEVELS` of them."""
    fewer = [keep for keep in range(size - 1, 0, -1) if keep % multiple == 0 and keep >= LEAST_KEPT * size]
    step = max(1, -(-len(fewer) // MOST_LEVELS))
    return (size, *fewer[step - 1 :: step])


def _consumers(group: Group) -> tuple[Consumer, ...]:
    """One for each layer; the columns of two products of one layer are columns of one consumer."""
    merged: dict[tuple[str, int], Consumer] = {}
    for product in group.consumers:
        consumer = consumer_of(product)
        known = merged.get(consumer.key)
        if known is not None:
            channels = np.where(consumer.channels >= 0, consumer.channels, known.channels)
            consumer = Consumer(consumer.layer, channels)
        merged[consumer.key] = consumer
    return tuple(merged.values())
