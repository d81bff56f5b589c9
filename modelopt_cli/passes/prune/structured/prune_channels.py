"""`prune-channels`: channels, hidden units and, when asked, attention heads leave the graph."""

from __future__ import annotations

from typing import Annotated

import onnx_ir as ir
from pydantic import Field

from modelopt_cli.passes.prune.structured.analysis import Dependencies
from modelopt_cli.passes.prune.structured.blocks import Block, find_blocks
from modelopt_cli.passes.prune.structured.groups import Kind
from modelopt_cli.passes.prune.structured.structured import StructuredPruning


class PruneChannels(StructuredPruning):
    """Remove channels, hidden units and LSTM units with all that is coupled to them; what is left is fitted again.

    Dependencies are followed through the whole graph, so that the result is a smaller dense model that any runtime runs
    faster. Which channels leave follows from the error at the layers that read them, once those are solved again, and
    from what that error does to the model's outputs, on calibration data without labels.
    """

    name = "prune-channels"

    heads: Annotated[bool, Field(description="Attention heads may leave too, within the same budget.")] = False

    blocks: Annotated[
        bool, Field(description="Whole residual branches, and halves of transformer layers, may leave too.")
    ] = True

    def blocks_of(self, model: ir.Model, found: Dependencies) -> list[Block]:
        """Residual branches that ``include`` and ``exclude`` leave in question."""
        found_blocks = find_blocks(model.graph, found.flow.shapes) if self.blocks else []
        return [block for block in found_blocks if self._may_leave(block.producers)]

    def kinds(self) -> frozenset[Kind]:
        """Channels and units, and heads when asked for."""
        return frozenset({"channels", "units", "heads"} if self.heads else {"channels", "units"})
