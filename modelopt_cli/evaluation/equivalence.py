"""Did an exact pass keep the outputs?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.data.dataset import Sample
from modelopt_cli.profiling.session import open_session


@dataclass(frozen=True)
class Drift:
    """An output that moved by more than rounding.

    Attributes:
        output: Its name.
        relative: Largest difference as a share of the output's largest magnitude before; inf when shape or finiteness
            changed.
    """

    output: str
    relative: float


def drifts(before: ir.Model, after: ir.Model, sample: Sample, *, rtol: float) -> Iterator[Drift]:
    """The outputs whose largest difference on ``sample`` exceeds ``rtol`` of their largest magnitude.

    Raises:
        ModelError: A model does not load.
    """
    names = [output.name or "" for output in before.graph.outputs]
    runs = [open_session(model, arena=False).run(names, dict(sample)) for model in (before, after)]
    for name, reference, got in zip(names, *runs, strict=True):
        relative = _relative(np.asarray(reference), np.asarray(got))
        if relative > rtol:
            yield Drift(name, relative)


def _relative(reference: np.ndarray, got: np.ndarray) -> float:
    if reference.shape != got.shape:
        return float("inf")
    if reference.dtype.kind not in "fiu":
        return 0.0 if np.array_equal(reference, got) else float("inf")
    ref, new = reference.astype(np.float64), got.astype(np.float64)
    same = (ref == new) | (np.isnan(ref) & np.isnan(new))
    if same.all():
        return 0.0
    difference = np.abs(ref[~same] - new[~same]).max()
    scale = np.abs(ref[np.isfinite(ref)]).max(initial=0.0)
    return float(difference / scale) if np.isfinite(difference) and scale > 0 else float("inf")
