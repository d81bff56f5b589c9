"""`prune-heads`: attention heads leave the graph."""

from __future__ import annotations

from modelopt_cli.passes.prune.structured.groups import Kind
from modelopt_cli.passes.prune.structured.structured import StructuredPruning


class PruneHeads(StructuredPruning):
    """Remove whole attention heads: their queries, keys, values and output columns; what is left is fitted again.

    Heads are found by the axis that products of activations run over in parallel. Budgets count the whole model.
    """

    name = "prune-heads"

    def kinds(self) -> frozenset[Kind]:
        """Attention heads."""
        return frozenset({"heads"})
