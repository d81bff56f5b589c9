"""Weights of large models in a mapped file, whose pages the process can give back and have again when it needs them.

The file has no name: it is gone with the last array in it. Where it cannot be had (no folder for temporary files, or no
room), weights stay in memory.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import tempfile
from collections.abc import Iterable
from weakref import WeakSet

import numpy as np
import onnx
import onnx_ir as ir

MAPPED_ABOVE_BYTES = 16 << 20  # of weights; below, a few copies matter less than a file
LEAST_TENSOR_BYTES = 64 << 10
ALIGNMENT = 64  # of a cache line, as the runtime aligns its own
LOCATION = "modelopt-mapped.data"  # in place of a file's name, where a proto's weights are in the mapped file

_mappings: WeakSet[mmap.mmap] = WeakSet()


def worth_mapping(size: int) -> bool:
    """Whether so many bytes of weights should be in a file and not in memory."""
    return size > MAPPED_ABOVE_BYTES


class MappedTensor(ir.Tensor[np.ndarray]):
    """A tensor whose array lies in the mapped file."""


def take_weights(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, mmap.mmap | None]:
    """The model without its large weights, and the mapped file that they are in; as it is, and None, if it is small.

    The tensors that lost theirs are external ones of the file `LOCATION`, as `deserialize` wants them. It is another
    message: one tensor of the old one, however small, would keep all of it in memory.
    """
    sizes = ((tensor, len(tensor.raw_data)) for tensor in proto.graph.initializer if tensor.HasField("raw_data"))
    found = [(tensor, size) for tensor, size in sizes if is_large(size) and _is_whole(tensor, size)]
    if not worth_mapping(sum(size for _, size in found)):
        return proto, None
    large = [tensor for tensor, _ in found]
    try:
        mapping, offsets = _mapped(each.raw_data for each in large)
    except OSError:
        return proto, None
    for tensor, offset in zip(large, offsets, strict=True):
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=LOCATION)
        tensor.external_data.add(key="offset", value=str(offset))
    return onnx.ModelProto.FromString(proto.SerializeToString()), mapping


def deserialize(proto: onnx.ModelProto, mapping: mmap.mmap | None) -> ir.Model:
    """The graph of what `take_weights` gave.

    Raises:
        SerdeError: It uses a part of the format that onnx_ir cannot hold.
    """
    model = ir.serde.deserialize_model(proto)
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if mapping is not None and isinstance(tensor, ir.ExternalTensor) and tensor.location == LOCATION:
            value.const_value = _view(mapping, tensor, tensor.offset or 0)
    return model


def map_weights(model: ir.Model) -> None:
    """Move large initializers that are in memory to an unnamed temporary file, and map it.

    Nothing changes for who reads them. `release_mapped` gives their pages back.

    Args:
        model: Edited in place when they are `worth_mapping`.
    """
    values = [value for graph in model.graphs() for value in graph.initializers.values() if _is_movable(value)]
    if not worth_mapping(sum(value.const_value.nbytes for value in values if value.const_value is not None)):
        return
    with contextlib.suppress(OSError):
        _move(values)


def release_mapped() -> None:
    """Give back the pages of every mapped file that is in use; they are read again when they are looked at."""
    advice = getattr(mmap, "MADV_DONTNEED", None)
    if advice is not None:
        for mapping in _mappings:
            mapping.madvise(advice)


def _is_movable(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or isinstance(tensor, MappedTensor | ir.ExternalTensor):
        return False
    return is_native(tensor.dtype) and is_large(tensor.nbytes)


def _is_whole(tensor: onnx.TensorProto, size: int) -> bool:
    """Whether its bytes are those of an array of its type and shape, no more and no fewer."""
    if not is_native(tensor.data_type):
        return False
    return bool(size == math.prod(tensor.dims) * ir.DataType(tensor.data_type).itemsize)


def is_large(size: int) -> bool:
    """Whether a tensor of so many bytes is worth a piece of a file of its own."""
    return size >= LEAST_TENSOR_BYTES


def is_native(dtype: int) -> bool:
    """Whether numpy itself has the type, so that an array of it is what a file holds."""
    if dtype not in set(ir.DataType) or dtype in (ir.DataType.UNDEFINED, ir.DataType.STRING):
        return False
    return bool(ir.DataType(dtype).numpy().isbuiltin == 1)


def _move(values: list[ir.Value]) -> None:
    """Write the values' tensors one after the other, map the file, and point the values to it.

    Raises:
        OSError: The file cannot be made, filled or mapped; no value is changed then.
    """
    tensors = {id(value.const_value): value.const_value for value in values if value.const_value is not None}
    mapping, offsets = _mapped(
        np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data for tensor in tensors.values()
    )
    moved = {key: _view(mapping, tensor, at) for (key, tensor), at in zip(tensors.items(), offsets, strict=True)}
    for value in values:
        value.const_value = moved[id(value.const_value)]


def _mapped(pieces: Iterable[bytes | memoryview]) -> tuple[mmap.mmap, list[int]]:
    """A mapped file of these pieces, and where each begins.

    Raises:
        OSError: The file cannot be made, filled or mapped.
    """
    offsets = []
    with tempfile.TemporaryFile(prefix="modelopt-") as file:
        for piece in pieces:
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            offsets.append(file.tell())
            file.write(piece)
        file.flush()
        mapping = mmap.mmap(file.fileno(), os.fstat(file.fileno()).st_size, access=mmap.ACCESS_READ)
    _mappings.add(mapping)
    return mapping, offsets


def _view(mapping: mmap.mmap, tensor: ir.TensorProtocol, offset: int) -> MappedTensor:
    array = np.frombuffer(mapping, tensor.dtype.numpy(), tensor.size, offset).reshape(tensor.shape.numpy())
    return MappedTensor(array, tensor.dtype, name=tensor.name, doc_string=tensor.doc_string)
