"""What each weight does to a model's outputs when it alone is rounded, measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.graph.edit import add_weight
from modelopt_cli.passes.quantize.lowbit.rounding import Grid, encode
from modelopt_cli.passes.quantize.lowbit.slots import Slot
from modelopt_cli.profiling.session import open_session, run
from modelopt_cli.progress import Progress

SAMPLES = 12  # the order of weights by error, and its size within some 20 %, are all that bits are chosen by
BITS = 4  # rounding at which errors are measured: well above the noise of float sums, and still nearly linear
TINIEST = 1e-30


def output_errors(model: ir.Model, slots: Sequence[Slot], data: Dataset, progress: Progress) -> dict[Slot, float]:
    """Noise over signal of the float outputs, as powers, when one weight alone is rounded to `BITS` bits.

    One session serves all: weights are made inputs with defaults, so that a rounded one is only fed.

    Args:
        model: Not edited.
        slots: Weights of its main graph.
        data: Samples; some are taken, spread over all.
        progress: Where to say how far it is.
    """
    session = open_session(_with_weights_as_inputs(model, slots), optimize="basic", arena=False)
    samples = [dict(sample) for sample in data.take(SAMPLES)]
    exact = [run(session, sample) for sample in samples]
    signal = sum(_power(array) for arrays in exact for array in arrays)
    errors: dict[Slot, float] = {}
    with progress.task("sensitivity", len(slots)) as advance:
        for slot in slots:
            fed = {_input_name(slot): _rounded(slot)}
            noise = 0.0
            for sample, reference in zip(samples, exact, strict=True):
                found = run(session, sample | fed)
                noise += sum(_power(a - b) for a, b in zip(reference, found, strict=True) if a.dtype.kind == "f")
            errors[slot] = noise / max(signal, TINIEST)
            advance(1)
    return errors


def _rounded(slot: Slot) -> np.ndarray:
    decoded = encode(slot.work(), Grid(BITS)).decode()
    matrix = decoded[0] if slot.columns_last else decoded.transpose(0, 2, 1)
    return np.ascontiguousarray(matrix.reshape(slot.array.shape))


def _input_name(slot: Slot) -> str:
    return f"{slot.name}.weight_input"


def _with_weights_as_inputs(model: ir.Model, slots: Sequence[Slot]) -> ir.Model:
    clone = model.clone()
    clone.ir_version = max(clone.ir_version, 4)  # from which an input may have an initializer as its default
    values = {value.name: value for node in clone.graph for value in node.outputs} | dict(clone.graph.initializers)
    for slot in slots:
        given = add_weight(clone.graph, _input_name(slot), slot.array)
        values[slot.name].replace_all_uses_with(given)
        clone.graph.inputs.append(given)
    return clone


def _power(array: np.ndarray) -> float:
    return float(np.square(array, dtype=np.float64).sum()) if array.dtype.kind == "f" else 0.0
