"""Bits within a budget: never over it, close to the best by trying all, and by errors that are measured."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from modelopt_cli.passes.quantize.lowbit.budget import spread_bits
from modelopt_cli.passes.quantize.lowbit.codebook import Codebook
from modelopt_cli.passes.quantize.lowbit.sensitivity import FEWEST, MOST, WIDTHS, output_errors
from modelopt_cli.passes.quantize.lowbit.slots import Slot, find_slots
from modelopt_cli.progress import Silent
from modelopt_cli.testing import ArrayDataset, model_from_text


def slots(count: int, seed: int) -> list[Slot]:
    rng = np.random.default_rng(seed)
    names = [f"w{i}" for i in range(count)]
    nodes = "\n".join(f"y{i} = MatMul (x, {name})" for i, name in enumerate(names))
    outputs = ", ".join(f"float[N,{32 * (i + 1)}] y{i}" for i in range(count))
    arrays = {name: rng.standard_normal((64, 32 * (i + 1))).astype(np.float32) for i, name in enumerate(names)}
    return list(find_slots(model_from_text(f"m (float[N,64] x) => ({outputs}) {{ {nodes} }}", **arrays)))


@pytest.mark.parametrize("seed", range(8))
def test_the_budget_is_kept_and_nearly_nothing_is_lost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = slots(4, seed)
    # Errors that fall unevenly, as those of tables do: not a quarter with each bit.
    errors = {
        s: dict(zip(range(FEWEST, MOST + 1), np.sort(rng.lognormal(-4, 3, 7))[::-1], strict=True)) for s in weights
    }

    def size(slot: Slot, bits: int) -> int:
        return slot.array.size * bits // 8

    budget = sum(size(s, 8) for s in weights) * rng.uniform(0.35, 0.8)
    found = spread_bits(errors, size, max_bytes=budget)
    assert sum(size(s, bits) for s, bits in found.items()) <= budget
    best = min(
        sum(errors[s][b] for s, b in zip(weights, choice, strict=True))
        for choice in itertools.product(range(FEWEST, MOST + 1), repeat=len(weights))
        if sum(size(s, b) for s, b in zip(weights, choice, strict=True)) <= budget
    )
    most_left = max(errors[s][b] - errors[s][b + 1] for s in weights for b in range(FEWEST, MOST))
    assert sum(errors[s][b] for s, b in found.items()) <= best + most_left


def test_an_error_budget_takes_no_more_bytes_than_it_needs() -> None:
    weights = slots(3, 0)
    errors = {s: {b: 4.0**-b for b in range(FEWEST, MOST + 1)} for s in weights}
    found = spread_bits(errors, lambda s, b: s.array.size * b // 8, max_error=3 * 4.0**-5)
    assert sum(errors[s][b] for s, b in found.items()) <= 3 * 4.0**-5
    assert max(found.values()) <= 6


def test_errors_are_measured_at_each_width() -> None:
    loud, quiet = np.random.default_rng(0).standard_normal((2, 64, 64)).astype(np.float32)
    text = "m (float[N,64] x) => (float[N,64] y) { a = MatMul (x, loud)\n b = MatMul (x, quiet)\n y = Add (a, b) }"
    model = model_from_text(text, loud=loud, quiet=quiet / 100)
    data = ArrayDataset({"x": np.random.default_rng(1).standard_normal((16, 64)).astype(np.float32)})
    found = output_errors(model, list(find_slots(model)), Codebook().grid_of, data, Silent())
    by_name = {slot.name: errors for slot, errors in found.items()}
    assert by_name["loud"][4] > 1e3 * by_name["quiet"][4]
    falls = [by_name["loud"][b] / by_name["loud"][b + 1] for b in WIDTHS[:-1]]
    assert all(2 < fall < 6 for fall in falls)
    assert falls != [4.0, 4.0]  # measured, not the law
