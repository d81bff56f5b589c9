"""What zeros in each layer of a model cost: nothing is written, everything is measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from modelopt_cli.data.binding import bind
from modelopt_cli.data.dataset import Dataset
from modelopt_cli.data.files import FileDataset
from modelopt_cli.errors import UsageError
from modelopt_cli.evaluation.compare import evaluate
from modelopt_cli.graph.io import SourceModel
from modelopt_cli.passes.base import PassContext
from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.passes.prune.layer_study import LayerStudy, LevelStudy, study_layers
from modelopt_cli.progress import Progress
from modelopt_cli.targets.target import Target

LEVELS = (0.5, 0.7, 0.9)
FEWEST = 4  # samples: half of them are fitted to, the others judge


def pruning_sensitivity(
    source: SourceModel,
    calibration: FileDataset,
    evaluation: FileDataset | None,
    target: Target,
    *,
    levels: Sequence[float] = LEVELS,
    metric: str | None = None,
    samples: int,
    budget_s: float,
    progress: Progress,
) -> dict[str, Any]:
    """The error of every layer pruned alone, the most sensitive first; JSON types.

    Args:
        source: The float model; it is simplified and fused first, as recipe ``prune-50`` does.
        calibration: Half of the samples are fitted to, the others judge.
        evaluation: Labelled samples to measure accuracy on, or None.
        target: What it would run on.
        levels: Shares of zeros to try.
        metric: How labelled samples are scored; top-1 when it is not said.
        samples: Calibration samples to use.
        budget_s: Seconds; layers that it leaves no time for are left out and counted.
        progress: Where to say how far it is.

    Raises:
        DataError: The data does not fit the model.
        ModelError: The runtime cannot load or run it.
        UsageError: A level is no share, or there are too few samples.
    """
    if not levels or any(not 0 < level < 1 for level in levels):
        raise UsageError("a share of zeros lies between 0 and 1", where="--levels", hint="0.5/0.7/0.9")
    data = bind(calibration, source.model).take(samples)
    if len(data) < FEWEST:
        raise UsageError(f"{len(data)} samples are too few: half of them judge", where="--calib")
    labelled: Dataset | None = None if evaluation is None else bind(evaluation, source.model)
    scored = None if labelled is None else metric or ("top1" if labelled.labels is not None else None)
    if labelled is not None and scored is None:
        raise UsageError("the evaluation data has no labels", where="--eval", hint="give --metric, or leave it out")
    model, ctx = source.model.clone(), PassContext(target, calibration=data, progress=progress)
    for step in (Simplify(), Fuse()):
        model = step.apply(model, ctx).model

    def accuracy(candidate: Any) -> float:
        assert labelled is not None and scored is not None, "it is only asked for with labels"
        return evaluate(candidate, labelled, scored)

    measured = accuracy if scored is not None else None
    deadline = time.monotonic() + budget_s
    found = study_layers(model, data, sorted(levels), measured, deadline=deadline, progress=progress)
    return {
        "model": source.label,
        "samples": len(data),
        "judged_on": data.source,
        "levels": sorted(levels),
        "metric": scored,
        "accuracy": None if measured is None else measured(model),
        "layers": sorted(map(_layer, found.layers), key=_robustness),
        "skipped": [{"name": skip.node, "reason": skip.reason} for skip in found.skipped],
        "not_measured": found.total - len(found.layers),
    }


def _robustness(row: dict[str, Any]) -> tuple[float, float]:
    """Rises with what the layer bears; integer outputs have no noise, so that the layer's own error decides."""
    last = row["levels"][-1]
    return (last["sqnr_db"] or 0.0, -last["layer_error"])


def _layer(each: LayerStudy) -> dict[str, Any]:
    levels = [_level(level) for level in each.levels]
    return {"layer": each.name, "op": each.op_type, "weights": each.weights, "levels": levels}


def _level(level: LevelStudy) -> dict[str, Any]:
    worst = min(level.outputs, key=lambda output: output.sqnr_db, default=None)
    scores = [output.top1 for output in level.outputs if output.top1 is not None]
    return {
        "sparsity": level.sparsity,
        "layer_error": level.layer_error,
        "sqnr_db": None if worst is None else worst.sqnr_db,
        "agreement": min(scores, default=None),
        "accuracy": level.accuracy,
    }
