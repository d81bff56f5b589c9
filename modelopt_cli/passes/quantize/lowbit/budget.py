"""Bits for each weight within a budget: those first that take the most error for a byte."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping

from modelopt_cli.passes.quantize.lowbit.sensitivity import BITS
from modelopt_cli.passes.quantize.lowbit.slots import Slot

FEWEST, MOST = 2, 8


def spread_bits(
    errors: Mapping[Slot, float],
    size: Callable[[Slot, int], int],
    *,
    max_bytes: float = math.inf,
    max_error: float = 0.0,
) -> dict[Slot, int]:
    """Bits of each weight: least total error within ``max_bytes``, or fewest bytes within ``max_error``.

    Errors of different weights are taken to add up, and to fall to a quarter with each bit, as the noise of evenly
    spaced levels does. Then marginal gains fall with each bit, and the greedy choice solves the knapsack but for its
    last item.

    Args:
        errors: Noise over signal at the output, when one weight alone has `BITS` bits.
        size: Bytes of a weight in so many bits.
        max_bytes: Not to be exceeded, unless the fewest bits do.
        max_error: Noise over signal that is low enough to stop.
    """
    chosen = dict.fromkeys(errors, FEWEST)
    total_bytes = float(sum(size(slot, FEWEST) for slot in errors))
    total_error = sum(_error(errors[slot], FEWEST) for slot in errors)
    slots = list(errors)
    heap = [(-_gain(errors[slot], slot, FEWEST, size), index) for index, slot in enumerate(slots)]
    heapq.heapify(heap)
    while heap and total_error > max_error:
        _, index = heapq.heappop(heap)
        slot, bits = slots[index], chosen[slots[index]]
        more = size(slot, bits + 1) - size(slot, bits)
        if total_bytes + more > max_bytes:
            continue  # a smaller weight may still fit
        chosen[slot] = bits + 1
        total_bytes += more
        total_error += _error(errors[slot], bits + 1) - _error(errors[slot], bits)
        if bits + 1 < MOST:
            heapq.heappush(heap, (-_gain(errors[slot], slot, bits + 1, size), index))
    return chosen


def _error(measured: float, bits: int) -> float:
    return measured * 4.0 ** (BITS - bits)


def _gain(measured: float, slot: Slot, bits: int, size: Callable[[Slot, int], int]) -> float:
    """Error that one bit more takes away, for each byte."""
    return (_error(measured, bits) - _error(measured, bits + 1)) / max(size(slot, bits + 1) - size(slot, bits), 1)
