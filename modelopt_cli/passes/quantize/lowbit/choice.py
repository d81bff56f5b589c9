"""What the low-bit passes share: which weights, and how many bits for each."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.edit import all_nodes, forget_names
from modelopt_cli.graph.io import MAX_PROTOBUF_BYTES, weight_bytes
from modelopt_cli.graph.serialize import serialize
from modelopt_cli.passes.base import Pass, PassContext, PassResult
from modelopt_cli.passes.quantize.lowbit.budget import spread_bits
from modelopt_cli.passes.quantize.lowbit.decode import NODE_BYTES, decoding_nodes
from modelopt_cli.passes.quantize.lowbit.packing import packed_bytes
from modelopt_cli.passes.quantize.lowbit.rounding import Grid, Rounding
from modelopt_cli.passes.quantize.lowbit.sensitivity import FEWEST, MOST, output_errors
from modelopt_cli.passes.quantize.lowbit.slots import Slot, find_slots
from modelopt_cli.passes.quantize.lowbit.until import split, until_faithful

FEW_INPUTS = 32  # errors of so few weights do not average out in an output, and they are a small share of the bytes
SCALE_BYTES = 2  # float16
STAMP_BYTES = 1400  # what says where a file comes from


class LowBitPass(Pass):
    """Options and choices of passes that store weights in few bits."""

    family: ClassVar[Literal["fuse", "prune", "quantize"]] = "quantize"
    effect: ClassVar[Literal["exact", "lossy"]] = "lossy"
    min_opset: ClassVar[int] = 13

    bits: Annotated[
        Annotated[int, Field(ge=2, le=8)] | Literal["auto"],
        Field(description="Bits per weight, 2 to 8; auto: by max_size or min_sqnr, each weight its own."),
    ] = 8
    mixed: Annotated[
        bool, Field(description="With calibration data: so many bits on average, more where outputs depend on it.")
    ] = False
    max_size: Annotated[
        float | None, Field(gt=0, description="For bits auto: bytes of the model; up to 1, a share of its weights.")
    ] = None
    min_sqnr: Annotated[
        float | None, Field(description="For bits auto: signal to noise of the outputs in dB, on calibration samples.")
    ] = None
    block: Annotated[
        int | None, Field(ge=0, description="Inputs that share a step; 0: all of an output; default by bits.")
    ] = None
    rounding: Annotated[
        Rounding,
        Field(description="auto: search with calibration data (gptq, and on from there), nearest without."),
    ] = "auto"
    scaling: Annotated[
        bool, Field(description="AWQ: scale rows by their inputs before rounding; not for products in int8 kernels.")
    ] = False
    include: Annotated[tuple[str, ...], Field(description="Only weights whose name matches one of these globs.")] = (
        "*",
    )
    exclude: Annotated[tuple[str, ...], Field(description="Not the weights whose name matches one of these.")] = ()
    embeddings: Annotated[
        bool | Literal["only"], Field(description="Tables read by Gather too; only: nothing but those.")
    ] = True

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        """Edit ``model``; see the class.

        Raises:
            UsageError: Options that do not go together, or that need calibration data which is not there.
        """
        self.prepare(model, ctx)
        slots = self.slots(model)
        if self.bits == "auto" and self.min_sqnr is not None and self.max_size is None:
            free, fixed = _split(slots)
            data = ctx.need_calibration(f"{self.name} with bits: auto")
            errors = output_errors(model, free, self.grid_of, data, ctx.progress)
            taught, judged = split(data)
            learning = replace(ctx, calibration=taught)

            def attempt(clone: ir.Model, max_error: float) -> tuple[PassResult, float]:
                bits = spread_bits(errors, self._size, max_error=max_error)
                theirs = dict(zip(slots, self.slots(clone), strict=True))
                done = self.store(clone, {theirs[slot]: count for slot, count in (fixed | bits).items()}, learning)
                return done, sum(errors[slot][count] for slot, count in bits.items())

            return until_faithful(model, attempt, judged, self.min_sqnr)
        return self.finish(self.store(model, self.choose_bits(model, slots, ctx), ctx))

    def prepare(self, model: ir.Model, ctx: PassContext) -> None:
        """Bring ``model`` into the form in which weights are looked for."""
        forget_names(model)

    @abstractmethod
    def store(self, model: ir.Model, bits: dict[Slot, int], ctx: PassContext) -> PassResult:
        """Write each weight of ``model`` in so many bits."""

    def slots(self, model: ir.Model) -> list[Slot]:
        """The weights that the options name."""
        return [slot for slot in find_slots(model) if self._wants(slot)]

    def choose_bits(self, model: ir.Model, slots: list[Slot], ctx: PassContext) -> dict[Slot, int]:
        """Bits of each weight, where they do not follow from ``min_sqnr``.

        Raises:
            UsageError: ``bits: auto`` without a budget, or without calibration data.
        """
        free, fixed = _split(slots)
        if self.bits == "auto":
            if (self.max_size is None) == (self.min_sqnr is None):
                raise UsageError("bits: auto needs either max_size or min_sqnr", where=self.name)
            data = ctx.need_calibration(f"{self.name} with bits: auto")
            errors = output_errors(model, free, self.grid_of, data, ctx.progress)
            return fixed | spread_bits(errors, self._size, max_bytes=self._budget(model, free, fixed))
        bits = self.bits
        if not self.mixed or ctx.calibration is None or bits in (FEWEST, 8):
            return fixed | dict.fromkeys(free, bits)
        errors = output_errors(model, free, self.grid_of, ctx.calibration, ctx.progress)
        return fixed | spread_bits(errors, self._size, max_bytes=sum(self._size(slot, bits) for slot in free))

    @abstractmethod
    def block_of(self, slot: Slot, bits: int) -> int:
        """Inputs that share a step; 0 for all of an output."""

    @abstractmethod
    def grid_of(self, slot: Slot, bits: int) -> Grid:
        """What a weight is rounded to in so many bits."""

    def has_zeros(self, bits: int) -> bool:
        """Whether each block of a weight of so many bits says where its zero is."""
        return False

    def _wants(self, slot: Slot) -> bool:
        if (slot.lookups and not self.embeddings) or (self.embeddings == "only" and (not slot.lookups or slot.others)):
            return False
        wanted = any(fnmatchcase(slot.name, glob) for glob in self.include)
        return wanted and not any(fnmatchcase(slot.name, glob) for glob in self.exclude)

    def _size(self, slot: Slot, bits: int) -> int:
        block = self.block_of(slot, bits)
        blocks = slot.array.size // block if block and slot.inputs % block == 0 else 0
        columns = slot.array.size // slot.inputs
        zeros = packed_bytes(blocks or columns, bits) if self.has_zeros(bits) else 0
        nodes = decoding_nodes(bits, blocks=blocks > 0, table=False, shifts=zeros > 0)
        return packed_bytes(slot.array.size, bits) + blocks + zeros + columns * SCALE_BYTES + nodes * NODE_BYTES

    def _budget(self, model: ir.Model, free: list[Slot], fixed: dict[Slot, int]) -> float:
        assert self.max_size is not None
        tensors = [v.const_value for graph in model.graphs() for v in graph.initializers.values()]
        total = sum(tensor.nbytes for tensor in tensors if tensor is not None)
        held = sum(slot.array.nbytes for slot in (*free, *fixed) if slot.value.is_initializer())
        rest = _file_bytes(model, total) - held + STAMP_BYTES
        rest += sum(self._size(slot, bits) for slot, bits in fixed.items())
        return self.max_size * (total if self.max_size <= 1 else 1) - rest

    def finish(self, result: PassResult) -> PassResult:
        """The result, with a notice where the size that was asked for is out of reach."""
        if self.bits != "auto" or self.max_size is None or self.max_size <= 1:
            return result
        size = _file_bytes(result.model, weight_bytes(result.model)) + STAMP_BYTES
        if size <= self.max_size:
            return result
        notice = {
            "code": "size-missed",
            "message": f"the file takes about {size / 1e3:.0f} kB, not {self.max_size / 1e3:.0f} kB: "
            "weights that can be stored in 2 bits are, the rest is operators and other weights",
            "advice": "a larger max_size, or prune first",
        }
        return replace(result, details=result.details | {"notices": [*result.details.get("notices", ()), notice]})


def _split(slots: list[Slot]) -> tuple[list[Slot], dict[Slot, int]]:
    """Weights whose bits are free, and those that have 8."""
    fixed = {slot: MOST for slot in slots if slot.inputs < FEW_INPUTS}
    return [slot for slot in slots if slot not in fixed], fixed


def _file_bytes(model: ir.Model, weights: int) -> int:
    """Of the file; of large models as good as those of their weights."""
    if weights < MAX_PROTOBUF_BYTES // 4:
        return serialize(model).size
    return weights + sum(1 for _ in all_nodes(model)) * NODE_BYTES
