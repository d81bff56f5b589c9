"""The pass that computes the same with fewer nodes."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar, Literal

import onnx_ir as ir

from modelopt_cli.errors import ModelError
from modelopt_cli.graph.edit import all_graphs, forget_names
from modelopt_cli.graph.opset import raise_opset
from modelopt_cli.graph.shapes import infer_shapes, knows_all_shapes
from modelopt_cli.passes.base import PassContext, PassResult
from modelopt_cli.passes.fuse.engine import Outcome, apply_rules
from modelopt_cli.passes.fuse.rules.select_first import SelectFirst
from modelopt_cli.passes.fuse.rules.table import FUSE, Table, finishing
from modelopt_cli.passes.fuse.selection import RulePass, count_nodes


class Fuse(RulePass):
    """Fold affine arithmetic into weights and recognise activations, with outputs unchanged up to rounding.

    Works best after ``simplify``. Weights are computed in float64 and rounded once per rewrite; a weight that several
    nodes share, a value that is an output of the model, and whatever is not exact is left alone, with the reason.
    The opset is raised where it has an operator for what the model spells out (HardSwish: 14, Gelu: 20) and the
    target's ``max_opset`` allows it.

    Example::

        - pass: simplify
        - pass: fuse
    """

    name: ClassVar[str] = "fuse"
    family: ClassVar[Literal["fuse", "prune", "quantize"]] = "fuse"
    effect: ClassVar[Literal["exact", "lossy"]] = "exact"

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        forget_names(model)
        nodes, table = count_nodes(all_graphs(model)), self._selected(FUSE)
        outcome = _apply_until_stable(model, table, ctx.target.max_opset)
        for last in finishing(ctx.target):
            outcome = _finish(model, self._selected(last), outcome, ctx.target.max_opset)
        if SelectFirst.name in outcome.applied:  # a selection in a new place lets others see what they could not before
            again = _apply_until_stable(model, table, ctx.target.max_opset)
            outcome = Outcome(outcome.applied + again.applied, set(), outcome.refused | again.refused)
        details = {
            "nodes": {"before": nodes, "after": count_nodes(all_graphs(model))},
            "rules": dict(sorted(outcome.applied.items())),
        }
        return PassResult(model, outcome.applied.total(), outcome.skips, details)


def _apply_until_stable(model: ir.Model, table: Table, max_opset: int | None) -> Outcome:
    """Until nothing changes: newly inferred shapes and a raised opset let rules see what they could not before."""
    applied: Counter[str] = Counter()
    failed: set[int] = set()
    while True:
        outcome = apply_rules(model, table)
        applied += outcome.applied
        raised = _raise_for(model, outcome.wishes, max_opset, failed)
        if not outcome.applied and not raised:
            return Outcome(applied, set(), outcome.refused)
        if not knows_all_shapes(model):
            infer_shapes(model)


def _finish(model: ir.Model, table: Table, done: Outcome, max_opset: int | None) -> Outcome:
    """Apply the rules that come last; what they leave behind is no pattern of any other."""
    applied, failed = done.applied, set[int]()
    while True:
        last = apply_rules(model, table)
        applied += last.applied
        if not _raise_for(model, last.wishes, max_opset, failed):
            return Outcome(applied, set(), done.refused | last.refused)
        if not knows_all_shapes(model):
            infer_shapes(model)


def _raise_for(model: ir.Model, wishes: set[int], limit: int | None, failed: set[int]) -> bool:
    """Raise the opset to the highest that rules wish for, the target allows and the model can be converted to."""
    for wish in sorted(wishes - failed, reverse=True):
        if wish > (limit or wish):
            continue
        try:
            raise_opset(model, wish)
        except ModelError:
            failed.add(wish)  # nothing was changed; a lower wish may work
            continue
        return True
    return False
