"""`pack-sparse`: what is not zero is stored, and where; the session puts the zeros back while it loads."""

from __future__ import annotations

import time
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from modelopt_cli.graph.edit import all_nodes, forget_names
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.graph.serialize import serialize
from modelopt_cli.passes.base import Pass, PassContext, PassResult, Skip
from modelopt_cli.passes.prune.scales import rounded_up
from modelopt_cli.passes.prune.unpack import BITS, Decoders, Packed
from modelopt_cli.profiling.session import open_session

OVERHEAD_BYTES = 160  # nodes, names and shapes of one weight, generously
DECODER_BYTES = 640  # of what all weights of one type share
FEWEST_BYTES = 400  # of a weight that is looked at
LOADS = 3  # of which the fastest counts
FEWEST_HALVED = 16  # numbers of a bias, whose share of the decoder is some thirty bytes
SMALLEST_NORMAL, LARGEST_HALF = 2.0**-14, 65504.0  # of half precision
_BIAS_INPUT = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
_DEFAULTS = {"dilations": 1, "strides": 1, "pads": 0}  # on every axis
_PACKABLE = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT8, ir.DataType.UINT8)


class PackSparse(Pass):
    """Store weights as a bit mask and their non-zero values, decoded while a session loads.

    In the file: one bit for each weight, and the values of those that are not zero. Standard operators put them
    together again, all constant: onnxruntime runs them once when it loads the model (constant folding), so inference is
    as fast as before. A runtime that does not fold constants gets the same outputs, but decodes at every inference.
    Notes that exporters leave on nodes (stack traces, names of modules) are left out, and so are the shapes between
    nodes, which every runtime infers again.
    """

    name: ClassVar[str] = "pack-sparse"
    family: ClassVar[Literal["fuse", "prune", "quantize"]] = "prune"
    effect: ClassVar[Literal["exact", "lossy"]] = "lossy"
    min_opset: ClassVar[int] = 13

    values: Annotated[
        Literal["keep", "int8"],
        Field(
            description="keep: values as they are, exact. int8: float values rounded to 8 bits, a scale for each "
            "output channel; biases in half precision. They are floats again once loaded."
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
        saved = sum(_tensor_bytes(value) - found.nbytes - OVERHEAD_BYTES for value, found in packed)
        if saved <= DECODER_BYTES:
            skipped += [Skip(value.name or "", "the decoder would be larger than what it saves") for value, _ in packed]
            return PassResult(model, 0, tuple(skipped))
        forget_names(model)
        before = _file_bytes(model), _load_seconds(model)
        halved = _biases(model) if self.values == "int8" else []
        decoders = Decoders(model.graph)
        decoders.replace(packed)
        decoders.halve(halved)
        forget_notes(model)
        details: dict[str, Any] = {
            "bytes_before": before[0],
            "bytes_after": _file_bytes(model),
            "load_seconds_before": before[1],
            "load_seconds_after": _load_seconds(model),
        }
        return PassResult(model, len(packed) + len(halved), tuple(skipped), details)


def _pack(value: ir.Value, kind: str, min_saving: float) -> Packed | str:
    """The weight in pieces, or why not; empty when it is no candidate."""
    tensor = value.const_value
    if tensor is None or tensor.dtype not in _PACKABLE or tensor.nbytes <= FEWEST_BYTES:
        return ""
    if value.is_graph_input() or value.is_graph_output() or not list(value.uses()):
        return ""
    array = tensor.numpy()
    packed = pack(array, as_int8=kind == "int8" and array.dtype.kind == "f", axis=_channel_axis(value))
    if packed.nbytes + OVERHEAD_BYTES > (1 - min_saving) * tensor.nbytes:
        zeros = 1 - np.count_nonzero(array) / array.size
        return f"{zeros:.0%} zeros are too few to make it smaller"
    return packed


def _tensor_bytes(value: ir.Value) -> int:
    return 0 if value.const_value is None else value.const_value.nbytes


def pack(array: np.ndarray, *, as_int8: bool, axis: int = 0) -> Packed:
    """A weight as bits and values.

    Args:
        array: Of any shape.
        as_int8: Round float values to int8, symmetrically, with a scale for each index of ``axis`` (see `rounded_up`).
        axis: Of the output channels.
    """
    scale = None
    values = array
    if as_int8:
        others = tuple(index for index in range(array.ndim) if index != axis % array.ndim)
        largest = np.abs(array.astype(np.float32)).max(axis=others, keepdims=True)
        scale = rounded_up(np.where(largest > 0, largest / 127, 1).astype(array.dtype))
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


def _biases(model: ir.Model) -> list[ir.Value]:
    """Float vectors that are only added to a layer's output, which half precision keeps to a part in two thousand."""
    return [value for value in model.graph.initializers.values() if _is_bias(value)]


def _is_bias(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) != 1 or tensor.size < FEWEST_HALVED:
        return False
    uses = list(value.uses())
    if not uses or value.is_graph_input() or value.is_graph_output():
        return False
    if any(use.idx != _BIAS_INPUT.get(use.node.op_type) or use.node.graph is not value.graph for use in uses):
        return False
    return SMALLEST_NORMAL <= float(np.abs(tensor.numpy()).max()) <= LARGEST_HALF


def forget_notes(model: ir.Model) -> None:
    """Leave out documentation, metadata, inferred shapes and attributes at their default: a tenth of a small file."""
    kept = {id(value) for value in model.graph.outputs}
    for node in all_nodes(model):
        node.doc_string = None
        node.metadata_props.clear()
        for value in node.outputs:
            value.doc_string = None
            value.metadata_props.clear()
            if id(value) not in kept and node.graph is model.graph:
                value.type, value.shape = None, None
        for name, default in _DEFAULTS.items():
            if node.op_type == "Conv" and name in node.attributes and set(node.attributes.get_ints(name)) == {default}:
                del node.attributes[name]


def _file_bytes(model: ir.Model) -> int:
    return serialize(model).size


def _load_seconds(model: ir.Model) -> float:
    content = model_bytes(model)
    seconds = []
    for _ in range(LOADS):
        started = time.perf_counter()
        open_session(content)
        seconds.append(time.perf_counter() - started)
    return min(seconds)
