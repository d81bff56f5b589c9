"""The pass that stores weights in 2 to 8 bits."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from modelopt_cli.graph.edit import forget_names
from modelopt_cli.passes.base import PassContext, PassResult
from modelopt_cli.passes.quantize.builder import drop_unread_weights
from modelopt_cli.passes.quantize.dynamic_matmul import DynamicOptions
from modelopt_cli.passes.quantize.lowbit.choice import LowBitPass
from modelopt_cli.passes.quantize.lowbit.rounding import Grid
from modelopt_cli.passes.quantize.lowbit.slots import Slot
from modelopt_cli.passes.quantize.lowbit.store import may_run_as_integers, result_of, store_decoded, store_integer
from modelopt_cli.targets.target import Target

BLOCKS = {2: 16, 3: 16, 4: 16, 5: 32, 6: 64}  # inputs that share a step, by bits: 8 bits for the steps of each block
TABLE_BLOCKS = BLOCKS | {4: 32}  # rows of tables are alike all over, and nobody multiplies them


class QuantizeWeights(LowBitPass):
    """Store weights in 2 to 8 bits: MatMul, Gemm, Conv, LSTM and embedding tables, at the speed of float or better.

    Weights are packed codes that the session decodes once when it loads, with standard operators; the rows of embedding
    tables are decoded as they are looked up. On CPUs, MatMul and Gemm then run in int8 kernels, with their inputs
    quantized at run time. With calibration data, weights are rounded by second-order information.
    """

    name: ClassVar[str] = "quantize-weights"

    compute: Annotated[
        Literal["auto", "int8", "float"],
        Field(description="Kernels of MatMul and Gemm; auto: int8 on CPUs. float keeps activations as they are."),
    ] = "auto"

    symmetric: Annotated[
        bool,
        Field(description="Levels around zero; false: each block says where zero is, for bits / block bits more."),
    ] = True

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        """Edit ``model``; see the class."""
        forget_names(model)
        slots = self.slots(model)
        bits = self.choose_bits(model, slots, ctx)
        integer = {slot for slot in slots if self._runs_int8(ctx.target) and may_run_as_integers(slot)}
        decoded = {slot: self._grid(slot, bits[slot]) for slot in slots if slot not in integer}
        limit = 64 if _is_reduced(ctx.target) else 127
        products = {slot: self._grid(slot, bits[slot]).integer(limit) for slot in slots if slot in integer}
        done = store_decoded(model, decoded, ctx)
        done.add(store_integer(model, products, ctx, DynamicOptions(reduce_range=_is_reduced(ctx.target))))
        drop_unread_weights(model.graph)
        return result_of(model, done, bits)

    def block_of(self, slot: Slot, bits: int) -> int:
        """Inputs that share a step; 0 for all of an output."""
        if self.block is not None:
            return self.block
        return (TABLE_BLOCKS if slot.lookups else BLOCKS).get(bits, 0)

    def has_zeros(self, bits: int) -> bool:
        """Whether each block says where its zero is."""
        return not self.symmetric

    def _runs_int8(self, target: Target) -> bool:
        return self.compute == "int8" or (self.compute == "auto" and target.provider == "cpu")

    def _grid(self, slot: Slot, bits: int) -> Grid:
        block, symmetric = self.block_of(slot, bits), not self.has_zeros(bits)
        return Grid(bits, block, symmetric=symmetric, rounding=self.rounding, scaling=self.scaling)


def _is_reduced(target: Target) -> bool:
    return target.isa in ("avx2", "avx512")
