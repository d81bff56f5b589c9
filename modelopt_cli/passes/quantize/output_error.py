"""How far a quantized model's outputs are from the float model's: what choices between variants are judged by."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.profiling.session import open_session, run

TINIEST = 1e-30  # keeps the logarithm finite when outputs are equal, or zero


def output_sqnr(model: ir.Model, variants: Sequence[ir.Model], data: Dataset) -> list[float]:
    """Signal to quantization noise of the float outputs of each variant, in dB; the worst output counts.

    Args:
        model: The float model.
        variants: Models of the same interface.
        data: Samples, gone through once; outputs are compared one sample at a time.
    """
    reference = open_session(model, arena=False)
    sessions = [open_session(variant, arena=False) for variant in variants]
    count = len(model.graph.outputs)
    signal, noise = np.zeros(count), np.zeros((len(variants), count))
    for sample in data:
        exact = run(reference, dict(sample))
        signal += [_power(array) for array in exact]
        for index, session in enumerate(sessions):
            found = run(session, dict(sample))
            noise[index] += [_power(a, b) for a, b in zip(exact, found, strict=True)]
    return [
        min((10 * math.log10(max(s, TINIEST) / max(n, TINIEST)) for s, n in zip(signal, row, strict=True)), default=0.0)
        for row in noise
    ]


def _power(exact: np.ndarray, found: np.ndarray | None = None) -> float:
    """Sum of squares of an array, or of a difference; 0 for outputs that are not float."""
    if exact.dtype.kind != "f":
        return 0.0
    difference = exact if found is None else exact - found
    return float(np.square(difference, dtype=np.float64).sum())
