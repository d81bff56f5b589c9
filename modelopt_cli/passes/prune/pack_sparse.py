"""`pack-sparse`: what is not zero is stored, and where; the session puts the zeros back while it loads."""

from __future__ import annotations

import time
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from modelopt_cli.graph.edit import all_nodes, forget_names
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.base import Pass, PassContext, PassResult, Skip
from modelopt_cli.passes.prune.unpack import BITS, Decoders, Packed
from modelopt_cli.profiling.session import open_session

OVERHEAD_BYTES = 400  # nodes, names and shapes of one weight, generously
LOADS = 3  # of which the fastest counts
_PACKABLE = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT8, ir.DataType.UINT8)


class PackSparse(Pass):
    """Store weights as a bit mask and their non-zero values, decoded while a session loads.

    In the file: one bit for each weight, and the values of those that are not zero. Standard operators put them
    together again, all constant: onnxruntime runs them once when it loads the model (constant folding), so inference is
    as fast as before. A runtime that does not fold constants gets the same outputs, but decodes at every inference.
    Notes that exporters leave on nodes (stack traces, names of modules) are left out.
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
        packed: list[tuple[ir.Value, Packed]] = []
        skipped = []
        for name, value in model.graph.initializers.items():
            found = _pack(value, self.values, self.min_saving)
            if not isinstance(found, str):
                packed.append((value, found))
            elif found:
                skipped.append(Skip(name, found))
        if not packed:
            return PassResult(model, 0, tuple(skipped))
        forget_names(model)
        before = _file_bytes(model), _load_seconds(model)
        Decoders(model.graph).replace(packed)
        forget_notes(model)
        details: dict[str, Any] = {
            "bytes_before": before[0],
            "bytes_after": _file_bytes(model),
            "load_seconds_before": before[1],
            "load_seconds_after": _load_seconds(model),
        }
        return PassResult(model, len(packed), tuple(skipped), details)


def _pack(value: ir.Value, kind: str, min_saving: float) -> Packed | str:
    """The weight in pieces, or why not; empty when it is no candidate."""
    tensor = value.const_value
    if tensor is None or tensor.dtype not in _PACKABLE or tensor.nbytes <= OVERHEAD_BYTES:
        return ""
    if value.is_graph_input() or value.is_graph_output() or not list(value.uses()):
        return ""
    array = tensor.numpy()
    packed = pack(array, as_int8=kind == "int8" and array.dtype.kind == "f", axis=_channel_axis(value))
    if packed.nbytes + OVERHEAD_BYTES > (1 - min_saving) * tensor.nbytes:
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
    return Packed(array.shape, kept, flat[kept], scale)


def _channel_axis(value: ir.Value) -> int:
    """The axis of output channels, as the first reader sees it."""
    use = next(iter(value.uses()))
    if use.node.op_type == "MatMul" or (use.node.op_type == "Gemm" and not use.node.attributes.get_int("transB", 0)):
        return -1
    return 1 if use.node.op_type in ("LSTM", "GRU", "RNN") else 0


def forget_notes(model: ir.Model) -> None:
    """Leave out documentation and metadata of nodes and values: an exporter's are a tenth of a small file."""
    for node in all_nodes(model):
        node.doc_string = None
        node.metadata_props.clear()
        for value in node.outputs:
            value.doc_string = None
            value.metadata_props.clear()


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
