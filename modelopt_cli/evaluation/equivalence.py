"""Does a model compute what another one does? Asked of onnxruntime, with its own rewrites switched off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from modelopt_cli.errors import ModelError
from modelopt_cli.profiling.session import Session, open_session, run

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Drift:
    """How far one output moved.

    Attributes:
        output: Its name.
        absolute: Largest absolute difference over all samples; inf when shapes, types or non-finite places differ.
        relative: ``absolute`` over the largest magnitude that the output had before.
        within: Whether every element is within ``atol + rtol * max(abs(before))``.
    """

    output: str
    absolute: float
    relative: float
    within: bool


def check_equivalence(
    before: ir.Model, after: ir.Model, feeds: Iterable[Feeds], *, rtol: float = 1e-5, atol: float = 1e-6
) -> list[Drift]:
    """Run both models on the same inputs and compare every output.

    Args:
        before: The reference.
        after: What should be the same; an output it lacks counts as infinitely far.
        feeds: Inputs, one mapping per run.
        rtol: Tolerated share of the output's largest magnitude. Elementwise ratios would fail on values near 0.
        atol: Tolerated difference beside that.

    Returns:
        One entry per output of ``before``, in its order; infinitely far when ``after`` does not load or run.

    Raises:
        ModelError: The runtime cannot load or run ``before``.
    """
    inputs = list(feeds)
    expected, got = _before(before, inputs), _after(after, inputs)  # one session at a time: each holds all weights
    worst = dict.fromkeys((output.name or "" for output in before.graph.outputs), (0.0, 0.0))
    for references, outputs in zip(expected, got, strict=True):
        for name, reference in references.items():
            difference, magnitude = _distance(reference, outputs.get(name))
            worst[name] = (max(worst[name][0], difference), max(worst[name][1], magnitude))
    return [_drift(name, *worst[name], rtol, atol) for name in worst]


def drifts(before: ir.Model, after: ir.Model, feed: Feeds, *, rtol: float = 1e-5, atol: float = 1e-6) -> list[Drift]:
    """The outputs that moved further than the tolerance on one input, as `check_equivalence` finds them."""
    return [drift for drift in check_equivalence(before, after, [feed], rtol=rtol, atol=atol) if not drift.within]


def _before(model: ir.Model, inputs: Sequence[Feeds]) -> list[dict[str, np.ndarray]]:
    session = open_session(model, optimize="off", arena=False)
    return [_run(session, feed) for feed in inputs]


def _after(model: ir.Model, inputs: Sequence[Feeds]) -> list[dict[str, np.ndarray]]:
    """What the model under test computes; nothing where it fails, for that is as far off as can be."""
    try:
        session = open_session(model, optimize="off", arena=False)
    except ModelError:
        return [{} for _ in inputs]
    return [_outputs(session, feed) for feed in inputs]


def _outputs(session: Session, feed: Feeds) -> dict[str, np.ndarray]:
    try:
        return _run(session, feed)
    except ModelError:
        return {}


def _run(session: Session, feed: Feeds) -> dict[str, np.ndarray]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, run(session, feed, names), strict=True))


def _distance(reference: Any, got: Any) -> tuple[float, float]:
    """Largest difference and largest magnitude; NaN and infinity must be in the same places.

    A sequence or a map is as far off as the worst of its elements.
    """
    if isinstance(reference, dict):
        if not isinstance(got, dict) or got.keys() != reference.keys():
            return np.inf, 0.0
        return _worst(_distance(item, got[key]) for key, item in reference.items())
    if isinstance(reference, list):
        if not isinstance(got, list) or len(got) != len(reference):
            return np.inf, 0.0
        return _worst(map(_distance, reference, got))
    if not isinstance(reference, np.ndarray):
        return _distance(np.asarray(reference), None if got is None else np.asarray(got))
    if got is None or got.shape != reference.shape or got.dtype != reference.dtype:
        return np.inf, 0.0
    if reference.size == 0:
        return 0.0, 0.0
    if reference.dtype.kind not in "fiub":
        return (0.0 if np.array_equal(reference, got) else np.inf), 0.0
    a, b = reference.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return np.inf, 0.0
    if not finite.any():
        return 0.0, 0.0
    return float(np.abs(a[finite] - b[finite]).max()), float(np.abs(a[finite]).max())


def _worst(distances: Iterable[tuple[float, float]]) -> tuple[float, float]:
    pairs = list(distances)
    return max((pair[0] for pair in pairs), default=0.0), max((pair[1] for pair in pairs), default=0.0)


def _drift(name: str, difference: float, magnitude: float, rtol: float, atol: float) -> Drift:
    relative = difference / magnitude if magnitude else (0.0 if difference == 0 else np.inf)
    return Drift(name, difference, relative, difference <= atol + rtol * magnitude)
