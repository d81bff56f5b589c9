"""Run a recipe's passes one after another over a clone of the source, each checked before the next."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from modelopt_cli.data.dataset import Sample
from modelopt_cli.errors import ModelError, ModelOptError, PassError
from modelopt_cli.graph.edit import all_nodes
from modelopt_cli.graph.mapped import map_weights
from modelopt_cli.graph.opset import raise_opset
from modelopt_cli.passes.base import Pass, PassContext, PassResult, Skip
from modelopt_cli.pipeline.check import check_structure
from modelopt_cli.pipeline.memory import release_memory
from modelopt_cli.pipeline.proof import prove
from modelopt_cli.report.model import Notice, SkipReport, StepReport

EXAMPLES_PER_REASON = 3


@dataclass(frozen=True)
class StepsResult:
    """The model after all steps, and how each went."""

    model: ir.Model
    steps: tuple[StepReport, ...]
    notices: tuple[Notice, ...]


def run_steps(source: ir.Model, passes: Sequence[Pass], ctx: PassContext, sample: Sample) -> StepsResult:
    """Apply ``passes`` in order to a clone of ``source``.

    Args:
        source: Stays untouched.
        passes: The steps; order is meaning.
        ctx: The context of the run; each step gets a seed of its own from it.
        sample: Inputs on which passes that promise exactness are held to it.

    Raises:
        PassError: A pass failed or wrote an invalid graph.
    """
    model, steps, notices = source.clone(), [], []
    for index, step in enumerate(passes):
        with ctx.progress.task(step.name):
            model, report, said = _run_step(model, step, replace(ctx, seed=ctx.seed * 1000 + index), sample)
        map_weights(model)
        release_memory()
        steps.append(report)
        notices.extend(said)
    return StepsResult(model, tuple(steps), tuple(notices))


def _run_step(
    model: ir.Model, step: Pass, ctx: PassContext, sample: Sample
) -> tuple[ir.Model, StepReport, list[Notice]]:
    started, nodes_before = time.perf_counter(), _count(model)
    before = model.clone() if step.effect == "exact" else None
    raised = _raise_opset(model, step, ctx)
    result = _apply(model, step, ctx)
    notices = list(_notices(result))
    if before is not None:
        proved = prove(step, before, result, lambda smaller: _apply_anew(before, smaller, ctx), sample)
        result = proved.result
        notices.extend(proved.notices)
    elif result.changed or raised:
        check_structure(result.model, step.name)
    report = StepReport(
        name=step.name,
        options=step.model_dump(mode="json"),
        changed=result.changed,
        skipped=tuple(_group(result.skipped)),
        seconds=time.perf_counter() - started,
        nodes_before=nodes_before,
        nodes_after=_count(result.model),
        details=dict(result.details),
    )
    return result.model, report, notices


def _apply(model: ir.Model, step: Pass, ctx: PassContext) -> PassResult:
    try:
        return step.apply(model, ctx)
    except ModelOptError:
        raise
    except MemoryError:
        raise PassError("ran out of memory", where=step.name, hint="fewer calibration samples") from None


def _apply_anew(before: ir.Model, step: Pass, ctx: PassContext) -> PassResult:
    clone = before.clone()
    _raise_opset(clone, step, ctx)
    return _apply(clone, step, ctx)


def _raise_opset(model: ir.Model, step: Pass, ctx: PassContext) -> bool:
    """Bring the model to the opset that the step writes; a target that forbids it is told apart from a failure."""
    current = model.opset_imports.get("", 0)
    if current >= step.min_opset:
        return False
    limit = ctx.target.max_opset
    if limit is not None and limit < step.min_opset:
        raise ModelError(
            f"opset {current} must be raised to {step.min_opset}, above target.max_opset {limit}", where=step.name
        )
    raise_opset(model, step.min_opset)
    return True


def _notices(result: PassResult) -> Iterator[Notice]:
    for entry in result.details.get("notices", ()):
        yield Notice(entry["code"], entry["message"], entry.get("advice", ""))


def _group(skips: Sequence[Skip]) -> Iterator[SkipReport]:
    """Refusals by reason, most frequent first, a few examples each."""
    nodes: dict[str, list[str]] = defaultdict(list)
    for skip in skips:
        nodes[skip.reason].append(skip.node)
    for reason, names in sorted(nodes.items(), key=lambda item: (-len(item[1]), item[0])):
        yield SkipReport(reason, len(names), tuple(names[:EXAMPLES_PER_REASON]))


def _count(model: ir.Model) -> int:
    return sum(1 for _ in all_nodes(model))
