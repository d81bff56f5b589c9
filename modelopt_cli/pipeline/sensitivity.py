"""What each group of a model costs in error when it is quantized: nothing is written, everything is measured."""

from __future__ import annotations

import time
from typing import Any

from modelopt_cli.data.binding import bind
from modelopt_cli.data.dataset import Dataset
from modelopt_cli.data.files import FileDataset
from modelopt_cli.graph.io import SourceModel
from modelopt_cli.graph.opset import raise_opset
from modelopt_cli.passes.base import PassContext
from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.passes.quantize.output_error import OutputError
from modelopt_cli.passes.quantize.quantize import Quantize
from modelopt_cli.passes.quantize.sensitivity import GroupError
from modelopt_cli.progress import Progress
from modelopt_cli.targets.target import Target

JUDGED = 32  # samples whose outputs are compared


def quantization_sensitivity(
    source: SourceModel,
    calibration: FileDataset,
    evaluation: FileDataset | None,
    target: Target,
    *,
    samples: int,
    budget_s: float,
    progress: Progress,
) -> dict[str, Any]:
    """The error of every group at the outputs, quantized alone and left out, worst first; JSON types.

    Args:
        source: The float model; it is simplified and fused first, as recipe ``int8`` does.
        calibration: Where ranges come from.
        evaluation: Where outputs are compared; the calibration data without it.
        target: What it would run on.
        samples: Calibration samples to use.
        budget_s: Seconds; groups that it leaves no time for are left out and counted.
        progress: Where to say how far it is.

    Raises:
        DataError: The data does not fit the model.
        ModelError: The runtime cannot load or run it.
    """
    model = source.model.clone()
    data: Dataset = bind(calibration, source.model)
    judged: Dataset = data if evaluation is None else bind(evaluation, source.model)
    ctx = PassContext(target, calibration=data, progress=progress)
    if model.opset_imports.get("", 0) < Quantize.min_opset:
        raise_opset(model, Quantize.min_opset)
    for step in (Simplify(), Fuse()):
        model = step.apply(model, ctx).model
    found = Quantize(samples=samples).sensitivity(model, ctx, judged.take(JUDGED), time.monotonic() + budget_s)
    rows = sorted((_row(each) for each in found.groups), key=lambda row: float(row["alone_db"]))
    return {
        "model": source.label,
        "judged_on": judged.source,
        "samples": min(JUDGED, len(judged)),
        "all_groups": _error(found.everything),
        "groups": rows,
        "not_measured": found.total - len(found.groups),
    }


def _row(each: GroupError) -> dict[str, Any]:
    assert each.without is not None
    return {
        "group": each.group.name,
        "ops": list(each.group.op_types),
        "nodes": list(each.group.nodes),
        "way": each.group.way,
        "alone_db": each.alone.worst.sqnr_db,
        "alone_agreement": each.alone.agreement,
        "without_db": each.without.worst.sqnr_db,
        "without_agreement": each.without.agreement,
    }


def _error(error: OutputError) -> dict[str, Any]:
    worst = error.worst
    return {"sqnr_db": worst.sqnr_db, "output": worst.output, "part": worst.band, "agreement": error.agreement}
