"""Tell the passes what the recipe requires, so that they work towards it instead of being judged by it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from modelopt_cli.data.dataset import Dataset
from modelopt_cli.evaluation.compare import compare
from modelopt_cli.evaluation.metrics import AnyMetric
from modelopt_cli.graph.io import SourceModel
from modelopt_cli.passes.base import Pass
from modelopt_cli.recipe.schema import Require

_BUDGETS = ("min_sqnr", "min_agreement", "max_accuracy_drop")


def aim(passes: Sequence[Pass], require: Require, *, calibrated: bool = True) -> list[Pass]:
    """The passes, with the fidelity that the recipe requires in the options of those that can keep to one.

    An option that the recipe's step sets itself stays as it is.

    Args:
        passes: Of the recipe.
        require: Of the recipe.
        calibrated: Whether there is calibration data, which agreement is judged on; without, only the gate judges it.
    """
    budgets = _BUDGETS if calibrated else _BUDGETS[-1:]
    wanted = {name: value for name in budgets if (value := getattr(require, name)) is not None}
    return [_aimed(step, wanted) for step in passes]


def accuracy_drop(
    source: SourceModel, evaluation: Dataset | None, metric: str | AnyMetric | None, passes: Sequence[Pass]
) -> Callable[[ir.Model], float] | None:
    """What a candidate loses against the source on the labelled samples; None where no pass has a limit on it."""
    asked = any(getattr(step, "max_accuracy_drop", None) is not None for step in passes)
    if not asked or evaluation is None or metric is None:
        return None

    def drop(model: ir.Model) -> float:
        found = compare(source.path or source.model, model, evaluation, metric).accuracy
        assert found is not None, "a metric was given"
        return found.drop

    return drop


def _aimed(step: Pass, wanted: dict[str, float]) -> Pass:
    if getattr(step, "max_size", None) is not None:
        return step  # it keeps to a size; what that leaves of the outputs, the gate judges
    new = {name: value for name, value in wanted.items() if name in type(step).model_fields}
    return step.model_copy(update={name: value for name, value in new.items() if name not in step.model_fields_set})
