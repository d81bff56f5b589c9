"""What each weight does to a model's outputs when it alone is rounded, measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.graph.edit import add_weight
from modelopt_cli.passes.quantize.lowbit.rounding import Grid, encode
from modelopt_cli.passes.quantize.lowbit.slots import Slot, find_slots
from modelopt_cli.profiling.session import open_session, run
from modelopt_cli.progress import Progress

SAMPLES = 8  # the order of weights by error, and its size within some 20 %, are all that bits are chosen by
WIDTHS = (2, 3, 4)  # measured; from 4 bits on each bit takes three quarters of the noise
FEWEST, MOST = 2, 8
TINIEST = 1e-30

Errors = dict[int, float]
"""Noise over signal at the outputs, as powers, by bits from `FEWEST` to `MOST`."""


def output_errors(
    model: ir.Model, slots: Sequence[Slot], grid_of: Callable[[Slot, int], Grid], data: Dataset, progress: Progress
) -> dict[Slot, Errors]:
    """Noise of the float outputs when one weight alone is rounded, to the nearest level, for each number of bits.

    One session serves all: weights are made inputs with defaults, so that a rounded one is only fed.

    Args:
        model: Not edited.
        slots: Its weights.
        grid_of: What a weight is rounded to in so many bits.
        data: Samples; some are taken, spread over all.
        progress: Where to say how far it is.
    """
    names = {slot: f"{slot.name}.{index}.weight_input" for index, slot in enumerate(slots)}
    session = open_session(_with_weights_as_inputs(model, names), optimize="basic", arena=False)
    samples = [dict(sample) for sample in data.take(SAMPLES)]
    exact = [run(session, sample) for sample in samples]
    signal = max(sum(_power(array) for arrays in exact for array in arrays), TINIEST)
    errors: dict[Slot, Errors] = {}
    with progress.task("sensitivity", len(slots)) as advance:
        for slot in slots:
            measured = {}
            for bits in WIDTHS:
                fed, noise = {names[slot]: _rounded(slot, grid_of(slot, bits))}, 0.0
                for sample, reference in zip(samples, exact, strict=True):
                    found = run(session, sample | fed)
                    noise += sum(_power(a - b) for a, b in zip(reference, found, strict=True) if a.dtype.kind == "f")
                measured[bits] = noise / signal
            errors[slot] = _all_widths(measured)
            advance(1)
    return errors


def _all_widths(measured: Errors) -> Errors:
    """Never more noise with more bits; what was not measured falls by the law of evenly spaced levels."""
    found, last = {}, float("inf")
    for bits in range(FEWEST, MOST + 1):
        last = min(last, measured[bits] if bits in measured else last / 4)
        found[bits] = last
    return found


def _rounded(slot: Slot, grid: Grid) -> np.ndarray:
    decoded = encode(slot.work(), replace(grid, rounding="nearest")).decode()
    matrix = decoded[0] if slot.columns_last else decoded.transpose(0, 2, 1)
    return np.ascontiguousarray(matrix.reshape(slot.array.shape))


def _with_weights_as_inputs(model: ir.Model, names: Mapping[Slot, str]) -> ir.Model:
    clone = model.clone()
    clone.ir_version = max(clone.ir_version, 4)  # from which an input may have an initializer as its default
    twins = {slot.value: twin.value for slot, twin in zip(find_slots(model), list(find_slots(clone)), strict=True)}
    for slot, name in names.items():
        given = add_weight(clone.graph, name, slot.array)
        twins[slot.value].replace_all_uses_with(given)
        clone.graph.inputs.append(given)
    return clone


def _power(array: np.ndarray) -> float:
    return float(np.square(array, dtype=np.float64).sum()) if array.dtype.kind == "f" else 0.0
