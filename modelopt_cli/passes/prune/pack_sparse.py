"""`pack-sparse`: what is not zero is stored, and where; the session puts the zeros back while it loads."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from modelopt_cli.graph.edit import add_node, add_weight, forget_names
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.base import Pass, PassContext, PassResult, Skip
from modelopt_cli.profiling.session import open_session

BITS = 8
OVERHEAD_BYTES = 700  # nodes, names and shapes of one decoder, generously
LOADS = 3  # of which the fastest counts
_PACKABLE = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT8, ir.DataType.UINT8)


class PackSparse(Pass):
    """Store weights as a bit mask and their non-zero values, decoded while a session loads.

    In the file: one bit for each weight, and the values of those that are not zero. Standard operators put them
    together again, all constant: onnxruntime runs them once when it loads the model (constant folding), so inference is
    as fast as before. A runtime that does not fold constants gets the same outputs, but decodes at every inference.
    """

    name: ClassVar[str] = "pack-sparse"
    family: ClassVar[Literal["fuse", "prune", "quantize"]] = "prune"
    effect: ClassVar[Literal["exact", "lossy"]] = "lossy"
    min_opset: ClassVar[int] = 13

    values: Annotated[
        Literal["keep", "int8"],
        Field(
            description="keep: values as they are, exact. int8: float values rounded to 8 bits, a scale for each "
            "output channel; they are floats again once loaded."
        ),
    ] = "keep"
    min_saving: Annotated[
        float, Field(ge=0, lt=1, description="Pack a weight only where this share of its bytes is saved.")
    ] = 0.05

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        """Replace initializers of the main graph by decoders where that makes the file smaller."""
        forget_names(model)
        size_before = _file_bytes(model)
        seconds_before = _load_seconds(model)
        packed, skipped, decoders = 0, [], _Decoders(model.graph)
        for name, value in list(model.graph.initializers.items()):
            found = _pack(value, self.values, self.min_saving)
            if isinstance(found, str):
                skipped += [Skip(name, found)] if found else []
                continue
            decoders.replace(value, found)
            packed += 1
        details: dict[str, Any] = {}
        if packed:
            details = {
                "bytes_before": size_before,
                "bytes_after": _file_bytes(model),
                "load_seconds_before": seconds_before,
                "load_seconds_after": _load_seconds(model),
            }
        return PassResult(model, packed, tuple(skipped), details)


@dataclass(frozen=True)
class Packed:
    """A weight in pieces.

    Attributes:
        shape: Of the weight.
        mask: Bits, least significant first, padded to whole bytes: uint8. None where all values are stored.
        values: With a mask, a zero and then what is not zero in C order; else the whole array.
        scale: What int8 values are multiplied with, broadcastable to ``shape``; None for values as they were.
    """

    shape: tuple[int, ...]
    mask: np.ndarray | None
    values: np.ndarray
    scale: np.ndarray | None

    @property
    def nbytes(self) -> int:
        """Bytes in the file, about."""
        scale = 0 if self.scale is None else self.scale.nbytes
        mask = 0 if self.mask is None else self.mask.nbytes
        return mask + self.values.nbytes + scale + OVERHEAD_BYTES


def _pack(value: ir.Value, kind: str, min_saving: float) -> Packed | str:
    """The weight in pieces, or why not; empty when it is no candidate."""
    tensor = value.const_value
    if tensor is None or tensor.dtype not in _PACKABLE or tensor.nbytes <= OVERHEAD_BYTES:
        return ""
    if value.is_graph_input() or value.is_graph_output() or not list(value.uses()):
        return ""
    array = tensor.numpy()
    packed = pack(array, as_int8=kind == "int8" and array.dtype.kind == "f", axis=_channel_axis(value))
    if packed.nbytes > (1 - min_saving) * tensor.nbytes:
        zeros = 1 - np.count_nonzero(array) / array.size
        return f"{zeros:.0%} zeros are too few to make it smaller"
    return packed


def pack(array: np.ndarray, *, as_int8: bool, axis: int = 0) -> Packed:
    """A weight as bits and values.

    Args:
        array: Of any shape.
        as_int8: Round float values to int8, symmetrically, with a scale for each index of ``axis``.
        axis: Of the output channels.
    """
    scale = None
    values = array
    if as_int8:
        others = tuple(index for index in range(array.ndim) if index != axis % array.ndim)
        largest = np.abs(array.astype(np.float32)).max(axis=others, keepdims=True)
        scale = np.where(largest > 0, largest / 127, 1).astype(array.dtype)
        values = np.clip(np.rint(array / scale), -127, 127).astype(np.int8)
    flat = values.reshape(-1)
    kept = flat != 0
    if as_int8 and np.count_nonzero(kept) + flat.size / BITS > flat.size:
        return Packed(array.shape, None, values, scale)
    mask = np.packbits(kept, bitorder="little")
    return Packed(array.shape, mask, np.concatenate([np.zeros(1, flat.dtype), flat[kept]]), scale)


def _channel_axis(value: ir.Value) -> int:
    """The axis of output channels, as the first reader sees it."""
    use = next(iter(value.uses()))
    if use.node.op_type == "MatMul" or (use.node.op_type == "Gemm" and not use.node.attributes.get_int("transB", 0)):
        return -1
    return 1 if use.node.op_type in ("LSTM", "GRU", "RNN") else 0


def _bit_table() -> np.ndarray:
    """[256, 8] of 0 and 1: the bits of each byte."""
    return np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")


class _Decoders:
    """Builds decoders; what all of them read is stored once.

    mask -> Cast -> Gather(bits of a byte) -> Reshape [-> Slice] -> Cast -> CumSum, Mul -> Gather(values) -> Reshape
    and for int8 values -> Cast -> Mul(scale). Without a mask, only that.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._first = next(iter(graph))
        self._shared: dict[tuple[int, ...], ir.Value] = {}
        self._table: ir.Value | None = None

    def replace(self, value: ir.Value, packed: Packed) -> None:
        """Let the readers of a weight read its decoder."""
        weight = add_weight(self._graph, "packed", packed.values)
        if packed.mask is not None:
            weight = self._spread(weight, packed.mask, packed.shape)
        if packed.scale is not None:
            weight = self._node("Cast", weight, to=int(ir.DataType.from_numpy(packed.scale.dtype)))
            weight = self._node("Mul", weight, add_weight(self._graph, "packed", packed.scale))
        weight.type, weight.shape = value.type, ir.Shape(packed.shape)
        value.replace_all_uses_with(weight)
        del self._graph.initializers[value.name or ""]

    def _spread(self, values: ir.Value, mask: np.ndarray, shape: tuple[int, ...]) -> ir.Value:
        """The values at their places: the n-th bit that is set takes the n-th value, the others the zero before."""
        if self._table is None:
            self._table = add_weight(self._graph, "packed", _bit_table())
        index = self._node("Cast", add_weight(self._graph, "packed", mask), to=int(ir.DataType.INT32))
        bits = self._node("Reshape", self._node("Gather", self._table, index), self._numbers(-1))
        if (size := math.prod(shape)) % BITS:
            bits = self._node("Slice", bits, self._numbers(0), self._numbers(size))
        bits = self._node("Cast", bits, to=int(ir.DataType.INT32))
        place = self._node("Mul", self._node("CumSum", bits, self._numbers(0)), bits)
        return self._node("Reshape", self._node("Gather", values, place), self._numbers(*shape))

    def _node(self, op: str, *inputs: ir.Value, **attributes: object) -> ir.Value:
        return add_node(self._graph, self._first, op, inputs, stem="unpack", attributes=attributes)

    def _numbers(self, *numbers: int) -> ir.Value:
        if numbers not in self._shared:
            self._shared[numbers] = add_weight(self._graph, "packed", np.array(numbers, np.int64))
        return self._shared[numbers]


def _file_bytes(model: ir.Model) -> int:
    return len(model_bytes(model))


def _load_seconds(model: ir.Model) -> float:
    content = model_bytes(model)
    seconds = []
    for _ in range(LOADS):
        started = time.perf_counter()
        open_session(content)
        seconds.append(time.perf_counter() - started)
    return min(seconds)
