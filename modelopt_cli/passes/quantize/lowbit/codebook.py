"""The pass that stores weights as indices into a small table."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.edit import drop_unread_weights
from modelopt_cli.passes.base import PassContext, PassResult
from modelopt_cli.passes.quantize.lowbit.choice import LowBitPass
from modelopt_cli.passes.quantize.lowbit.fit import TableName
from modelopt_cli.passes.quantize.lowbit.rounding import Grid
from modelopt_cli.passes.quantize.lowbit.slots import Slot
from modelopt_cli.passes.quantize.lowbit.store import result_of, store_float

BLOCK = 32


class Codebook(LowBitPass):
    """Store weights as 2 to 8 bit indices into a table of their own, found by k-means; the speed stays that of float.

    Each block of a column is scaled by an 8-bit multiplier before the table is applied. The session looks the weights
    up once when it loads, with standard operators; activations are not touched.
    """

    name: ClassVar[str] = "codebook"

    bits: Annotated[
        Annotated[int, Field(ge=2, le=8)] | Literal["auto"],
        Field(description="Bits per weight, 2 to 8; auto: by max_size or min_sqnr, each weight its own."),
    ] = 4
    table: Annotated[TableName, Field(description="kmeans: a table fitted to each weight; nf4, fp4: fixed ones.")] = (
        "kmeans"
    )

    def prepare(self, model: ir.Model, ctx: PassContext) -> None:
        """Check the options.

        Raises:
            UsageError: A table of 16 levels with other than 4 bits.
        """
        if self.table != "kmeans" and (self.bits != 4 or self.mixed):
            raise UsageError(f"table {self.table} has 16 levels", where=self.name, hint="bits: 4, without mixed")
        super().prepare(model, ctx)

    def store(self, model: ir.Model, bits: dict[Slot, int], ctx: PassContext) -> PassResult:
        """Write each weight of ``model`` in so many bits, as indices into a table."""
        done = store_float(model, {slot: self.grid_of(slot, count) for slot, count in bits.items()}, ctx)
        for graph in model.graphs():
            drop_unread_weights(graph)
        return result_of(model, done, bits)

    def block_of(self, slot: Slot, bits: int) -> int:
        """Inputs that share a multiplier; 0 for all of an output."""
        if self.block is not None:
            return self.block
        return 0 if bits == 8 else BLOCK

    def grid_of(self, slot: Slot, bits: int) -> Grid:
        """What a weight is rounded to: 8 bits are evenly spaced, a table of 256 levels gives nothing."""
        table = None if bits == 8 else self.table
        return Grid(bits, self.block_of(slot, bits), table, rounding=self.rounding, scaling=self.scaling)
