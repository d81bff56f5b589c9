"""The pass that removes what is not computation: constants, dead code, duplicates, plumbing."""

from __future__ import annotations

from typing import ClassVar, Literal

import onnx_ir as ir
from onnx_ir.passes import common

from modelopt_cli.graph import diff
from modelopt_cli.graph.edit import all_graphs, all_nodes, drop_unread_weights, forget_names
from modelopt_cli.graph.shapes import infer_shapes
from modelopt_cli.passes.base import PassContext, PassResult
from modelopt_cli.passes.fuse.duplicates import merge_duplicates
from modelopt_cli.passes.fuse.engine import Outcome, apply_rules
from modelopt_cli.passes.fuse.folding import fold_constants
from modelopt_cli.passes.fuse.lifting import lift_constants
from modelopt_cli.passes.fuse.rules.table import SIMPLIFY, Table
from modelopt_cli.passes.fuse.selection import RulePass, count_nodes

MAX_ROUNDS = 10
FIRST_IR_VERSION_WITH_FREE_INITIALIZERS = 4
SMALL_ELEMENTS = 1 << 10  # shape arithmetic and scalars: the only duplicates that let other nodes go
DUPLICATE_LIMIT_ELEMENTS = 1 << 28


class Simplify(RulePass):
    """Remove what does not compute: constants are folded, dead code, duplicates, no-ops and shape plumbing go.

    A folded value may be 4 KiB larger than the weights it replaces, no more. Functions are inlined, Constant nodes
    become initializers. Outputs keep their names, types and shapes; random operators and dequantized weights stay.

    Example::

        - pass: simplify
    """

    name: ClassVar[str] = "simplify"
    family: ClassVar[Literal["fuse", "prune", "quantize"]] = "fuse"
    effect: ClassVar[Literal["exact", "lossy"]] = "exact"

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        forget_names(model)
        kept = _tensors(model)
        before = diff.items(model)
        nodes, table = count_nodes(all_graphs(model)), self._selected(SIMPLIFY)
        _normalise(model)
        outcome = _rounds(model, table)
        if merge_duplicates(model, DUPLICATE_LIMIT_ELEMENTS):
            again = _rounds(model, table)
            outcome = Outcome(outcome.applied + again.applied, set(), again.refused)
        changed = diff.count_edits(before, diff.items(model))
        del kept  # until here, so that no tensor was freed and its identity taken by another
        details = {
            "nodes": {"before": nodes, "after": count_nodes(all_graphs(model))},
            "rules": dict(sorted(outcome.applied.items())),
        }
        return PassResult(model, changed, outcome.skips, details)


def _tensors(model: ir.Model) -> list[object]:
    """What `diff.items` knows by its identity."""
    weights = [value.const_value for graph in all_graphs(model) for value in graph.initializers.values()]
    attributes = [a.value for node in all_nodes(model) for a in node.attributes.values()]
    return [*weights, *attributes]


def _normalise(model: ir.Model) -> None:
    """One spelling for what has several: functions inlined, constants as initializers, none of them inputs."""
    if model.functions:
        common.InlinePass()(model)
        _drop_functions(model)
    lift_constants(model)
    if model.ir_version < FIRST_IR_VERSION_WITH_FREE_INITIALIZERS:
        common.RemoveInitializersFromInputsPass()(model)  # there the format forced them to be inputs
        model.ir_version = FIRST_IR_VERSION_WITH_FREE_INITIALIZERS


def _drop_functions(model: ir.Model) -> None:
    for key in list(model.functions):
        del model.functions[key]  # inlining left no call of any


def _rounds(model: ir.Model, table: Table) -> Outcome:
    """Until nothing changes; what one of the parts finds lets another go on."""
    total = Outcome()
    for _ in range(MAX_ROUNDS):
        outcome, edited = _round(model, table)
        total = Outcome(total.applied + outcome.applied, set(), outcome.refused)
        if not edited:
            break
    return total


def _round(model: ir.Model, table: Table) -> tuple[Outcome, bool]:
    """One time everything, and whether another time may find more."""
    named = infer_shapes(model)
    folded = fold_constants(model)
    outcome = apply_rules(model, table)
    merged = merge_duplicates(model, SMALL_ELEMENTS)
    nodes = count_nodes(all_graphs(model))
    common.CommonSubexpressionEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)
    for graph in all_graphs(model):  # that pass leaves those of branches
        drop_unread_weights(graph)
    fewer = count_nodes(all_graphs(model)) < nodes
    return outcome, bool(named or folded or outcome.applied or merged or fewer)
