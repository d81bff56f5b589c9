"""`prune-magnitude`: the smallest weights become zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from modelopt_cli.passes.base import Pass, PassContext, PassResult
from modelopt_cli.passes.prune.magnitude import zero_smallest
from modelopt_cli.passes.prune.weights import find_weights, select_weights


class PruneMagnitude(Pass):
    """Set the smallest weights of Conv, Gemm, MatMul, LSTM and GRU to zero; biases, norms and embeddings stay.

    The share is exact: of each weight tensor (or of all together) ``round(sparsity * elements)`` are zero afterwards,
    those that were zero before included. Method: magnitude pruning, Han et al. 2015 (https://arxiv.org/abs/1506.02626).
    """

    name = "prune-magnitude"
    family = "prune"
    effect = "lossy"

    sparsity: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False, description="Share of weights set to zero.")] = (
        0.5
    )
    scope: Annotated[
        Literal["layer", "global"],
        Field(description="layer: the share holds for each weight tensor; global: for all of them together."),
    ] = "layer"
    include: Annotated[
        tuple[str, ...], Field(description="Globs on names of nodes or weights: only these. Empty: all.")
    ] = ()
    exclude: Annotated[tuple[str, ...], Field(description="Globs on names of nodes or weights to leave alone.")] = ()

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        """Replace the weights; ``changed`` counts the tensors that are not what they were.

        Raises:
            UsageError: A glob of ``include`` or ``exclude`` matches nothing.
        """
        found, skipped = find_weights(model)
        weights, left_out = select_weights(model, found, self.include, self.exclude)
        before = [weight.array() for weight in weights]
        groups = [[array] for array in before] if self.scope == "layer" else [before]
        after = [array for group in groups for array in zero_smallest(group, self.sparsity)]
        changed = 0
        for weight, old, new in zip(weights, before, after, strict=True):
            if new is not old:
                weight.replace(new)
                changed += 1
        return PassResult(model, changed, (*skipped, *left_out), _details(after))


def _details(arrays: Sequence[np.ndarray]) -> dict[str, int | float]:
    total = sum(array.size for array in arrays)
    zeros = total - sum(int(np.count_nonzero(array)) for array in arrays)
    return {
        "tensors": len(arrays),
        "weights": total,
        "zeros": zeros,
        "sparsity": zeros / total if total else 0.0,
    }
