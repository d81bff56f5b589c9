"""The pass that computes the same with fewer nodes."""

from __future__ import annotations

from typing import ClassVar, Literal

import onnx_ir as ir

from modelopt_cli.graph.edit import forget_names
from modelopt_cli.passes.base import Pass, PassContext, PassResult
from modelopt_cli.passes.fuse.engine import apply_rules
from modelopt_cli.passes.fuse.rules.table import FUSE


class Fuse(Pass):
    """Fold affine arithmetic into weights and recognise activations, with outputs unchanged up to rounding.

    Works best after ``simplify``. Weights are computed in float64 and rounded once per rewrite; a weight that several
    nodes share, a value that is an output of the model, and whatever is not exact is left alone, with the reason.

    Example::

        - pass: simplify
        - pass: fuse
    """

    name: ClassVar[str] = "fuse"
    family: ClassVar[Literal["fuse", "prune", "quantize"]] = "fuse"
    effect: ClassVar[Literal["exact", "lossy"]] = "exact"

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        forget_names(model)
        nodes = _count_nodes(model)
        outcome = apply_rules(model, FUSE)
        details = {
            "nodes": {"before": nodes, "after": _count_nodes(model)},
            "rules": dict(sorted(outcome.applied.items())),
        }
        return PassResult(model, outcome.applied.total(), outcome.skips, details)


def _count_nodes(model: ir.Model) -> int:
    return sum(len(graph) for graph in model.graphs())
