"""Prune without data: the smallest weights go, or random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelopt_cli.passes.base import Skip
from modelopt_cli.passes.prune.distribution import spread_erk, spread_evenly, spread_globally, spread_lamp
from modelopt_cli.passes.prune.linear import linear_layer
from modelopt_cli.passes.prune.magnitude import with_zeros, zero_smallest
from modelopt_cli.passes.prune.patterns import Pattern
from modelopt_cli.passes.prune.settings import Distribution
from modelopt_cli.passes.prune.weights import Weight


def prune_by_weights(
    weights: Sequence[Weight],
    sparsity: float,
    *,
    pattern: Pattern,
    distribution: Distribution,
    random: np.random.Generator | None,
    overrides: Mapping[int, float],
) -> tuple[int, list[Skip], dict[str, Any]]:
    """Prune in place: tensors that changed, refusals, facts.

    Args:
        weights: What may be pruned.
        sparsity: Share of zeros over all but those with a share of their own.
        pattern: How zeros must lie; runs are taken along the axis of input channels.
        distribution: How the share is spread.
        random: Draw what goes from here, instead of taking the smallest.
        overrides: Shares of single weights, by ``id`` of their value.
    """
    arrays = [weight.array() for weight in weights]
    free = [index for index, weight in enumerate(weights) if id(weight.value) not in overrides]
    spread = _spread([arrays[index] for index in free], sparsity, pattern, distribution)
    shares = {index: overrides.get(id(weight.value), 0.0) for index, weight in enumerate(weights)}
    shares |= dict(zip(free, spread, strict=True))
    changed, skipped, zeros, total = 0, [], 0, 0
    for index, (weight, before) in enumerate(zip(weights, arrays, strict=True)):
        after = _pruned(weight, before, shares[index], pattern, random)
        if isinstance(after, str):
            skipped.append(Skip(weight.names[0], after))
            continue
        if after is not before:
            weight.replace(after)
            changed += 1
        total += after.size
        zeros += after.size - int(np.count_nonzero(after))
    details = {"criterion": "magnitude" if random is None else "random", "weights": total, "zeros": zeros}
    return changed, skipped, details | {"sparsity": zeros / total if total else 0.0}


def _spread(arrays: Sequence[np.ndarray], sparsity: float, pattern: Pattern, distribution: str) -> list[float]:
    if not arrays or pattern.of or distribution == "uniform":
        return spread_evenly([array.size for array in arrays], pattern.most(sparsity))
    if distribution == "erk":
        return spread_erk([array.shape for array in arrays], sparsity)
    return spread_lamp(arrays, sparsity) if distribution == "lamp" else spread_globally(arrays, sparsity)


def _pruned(
    weight: Weight, array: np.ndarray, share: float, pattern: Pattern, random: np.random.Generator | None
) -> np.ndarray | str:
    """The weight with its zeros, the same object where nothing changes, or why it cannot be."""
    if pattern.width == 1:
        if random is None:
            return zero_smallest([array], share)[0]
        return with_zeros(array, ~pattern.mask(random.random((1, 1, array.size)), share).reshape(array.shape))
    layer = linear_layer(weight.nodes[0], [weight])
    if isinstance(layer, str):
        return layer
    matrix = layer.matrix()
    if matrix.shape[2] % pattern.width:
        return f"{matrix.shape[2]} inputs are no multiple of {pattern.width}"
    scores = np.abs(matrix) if random is None else random.random(matrix.shape)
    return with_zeros(array, layer.stored(~pattern.mask(scores, share)))
