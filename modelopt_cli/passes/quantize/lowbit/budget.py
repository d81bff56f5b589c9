"""Bits for each weight within a budget: those first that take the most error for a byte."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping

from modelopt_cli.passes.quantize.lowbit.sensitivity import FEWEST, MOST, Errors
from modelopt_cli.passes.quantize.lowbit.slots import Slot


def spread_bits(
    errors: Mapping[Slot, Errors],
    size: Callable[[Slot, int], int],
    *,
    max_bytes: float = math.inf,
    max_error: float = 0.0,
) -> dict[Slot, int]:
    """Bits of each weight: least total error within ``max_bytes``, or fewest bytes within ``max_error``.

    Errors of different weights are taken to add up. Each weight goes along the convex hull of its error over bytes, the
    steepest step of all first, which solves the knapsack but for what the last steps leave unused.

    Args:
        errors: Noise over signal at the output, when one weight alone has so many bits.
        size: Bytes of a weight in so many bits.
        max_bytes: Not to be exceeded, unless the smallest of each do.
        max_error: Noise over signal that is low enough to stop.
    """
    # Of a small weight the operators that unpack 2 bits take more than 8 bits do.
    slots = list(errors)
    chosen = {slot: min(range(FEWEST, MOST + 1), key=lambda bits: (size(slot, bits), -bits)) for slot in slots}
    total_bytes = float(sum(size(slot, chosen[slot]) for slot in slots))
    total_error = sum(errors[slot][chosen[slot]] for slot in slots)
    heap: list[tuple[float, int, int]] = []

    def push(index: int, below: int) -> None:
        slot = slots[index]
        steps = [(_gain(errors[slot], slot, chosen[slot], to, size), -to) for to in range(chosen[slot] + 1, below)]
        if steps:
            gain, to = max(steps)
            heapq.heappush(heap, (-gain, index, -to))

    for index in range(len(slots)):
        push(index, MOST + 1)
    while heap and total_error > max_error:
        _, index, to = heapq.heappop(heap)
        slot = slots[index]
        more = size(slot, to) - size(slot, chosen[slot])
        if total_bytes + more > max_bytes:
            push(index, to)  # a smaller step may still fit, or another weight's
            continue
        total_bytes += more
        total_error += errors[slot][to] - errors[slot][chosen[slot]]
        chosen[slot] = to
        push(index, MOST + 1)
    return chosen


def _gain(error: Errors, slot: Slot, bits: int, to: int, size: Callable[[Slot, int], int]) -> float:
    """Error that a step takes away, for each byte."""
    return (error[bits] - error[to]) / max(size(slot, to) - size(slot, bits), 1)
