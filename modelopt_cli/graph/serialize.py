"""A model in protobuf's wire format, piece by piece, without a copy of its large weights.

``SerializeToString`` of a graph of 90 MB takes 315 MB: the message, a buffer that doubles, and the bytes.
https://protobuf.dev/programming-guides/encoding/ is the format; fields stand in the order of their numbers, as protobuf
itself writes them.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from typing import TypeAlias, TypeVar

import numpy as np
import onnx
import onnx_ir as ir

from modelopt_cli.graph.external import weights_apart
from modelopt_cli.graph.mapped import is_large, is_native

LENGTH_DELIMITED = 2  # wire type of messages and bytes

Piece: TypeAlias = "bytes | memoryview"
Message = TypeVar("Message", onnx.ModelProto, onnx.GraphProto, onnx.TensorProto)


class Serialized:
    """The pieces of a file, in order; they look at the model's arrays, which must not change meanwhile."""

    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces
        self.size = sum(len(piece) for piece in pieces)

    def __iter__(self) -> Iterator[Piece]:
        return iter(self._pieces)

    def join(self) -> bytes:
        """All of it."""
        return b"".join(self._pieces)

    def sha256(self) -> str:
        """Hex digest over the file."""
        digest = hashlib.sha256()
        for piece in self._pieces:
            digest.update(piece)
        return digest.hexdigest()


def serialize(model: ir.Model, *, types: bool = True) -> Serialized:
    """The file of a model: the same bytes for the same graph; external weights are read in.

    Args:
        model: As large as it may be: whoever writes one file of it sees to protobuf's 2 GB.
        types: Whether types and shapes of inner tensors are written, which runtimes infer.
    """
    with _bodies_in_memory(model), weights_apart(model, _is_apart) as taken:
        proto = ir.to_proto(model)
    _drop_repeats(proto.graph)
    if not types:
        proto.graph.ClearField("value_info")
    raw = {name: _raw(tensor) for name, tensor in taken.items()}
    inner = list(_graph(proto.graph, raw))
    proto.graph.Clear()
    pieces = [
        _part(proto, 1, _number(proto, "graph") - 1),
        *_nested(proto, "graph", inner),
        _part(proto, _number(proto, "graph") + 1),
    ]
    return Serialized([piece for piece in pieces if len(piece)])


def _graph(proto: onnx.GraphProto, raw: Mapping[str, Piece]) -> Iterator[Piece]:
    field = _number(proto, "initializer")
    tensors = list(proto.initializer)
    yield _part(proto, 1, field - 1)
    for tensor in tensors:
        outside = tensor.data_location == onnx.TensorProto.EXTERNAL
        yield from _nested(proto, "initializer", _tensor(tensor, raw[tensor.name] if outside else None))
    yield _part(proto, field + 1)


def _tensor(proto: onnx.TensorProto, raw: Piece | None) -> list[Piece]:
    if raw is None:
        return [proto.SerializeToString(deterministic=True)]
    proto.ClearField("external_data")
    proto.ClearField("data_location")
    field = _number(proto, "raw_data")
    return [_part(proto, 1, field - 1), *_nested(proto, "raw_data", [raw]), _part(proto, field + 1)]


def _part(proto: Message, first: int, last: int = 1 << 29) -> bytes:
    """The fields of a message whose numbers are in this range; 2^29 is above the largest there may be."""
    part = type(proto)()
    part.CopyFrom(proto)
    for field, _ in proto.ListFields():
        if not first <= field.number <= last:
            part.ClearField(field.name)
    content: bytes = part.SerializeToString(deterministic=True)
    return content


def _nested(proto: Message, name: str, pieces: list[Piece]) -> list[Piece]:
    """The pieces as one value of a field."""
    tag = _number(proto, name) << 3 | LENGTH_DELIMITED
    return [_varint(tag) + _varint(sum(len(piece) for piece in pieces)), *pieces]


def _number(proto: Message, name: str) -> int:
    return int(proto.DESCRIPTOR.fields_by_name[name].number)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _is_apart(tensor: ir.TensorProtocol) -> bool:
    known = isinstance(tensor, ir.Tensor | ir.ExternalTensor)  # others know better how they are written
    return known and is_large(tensor.nbytes) and is_native(tensor.dtype)


def _raw(tensor: ir.TensorProtocol) -> memoryview:
    array = np.ascontiguousarray(tensor.numpy())
    return array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8).data


@contextlib.contextmanager
def _bodies_in_memory(model: ir.Model) -> Iterator[None]:
    """External tensors that are too small for a piece, or inside of nodes, as in-memory ones while serializing."""
    swapped: list[tuple[ir.Value, ir.ExternalTensor]] = []
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor) and not (graph is model.graph and _is_apart(tensor)):
                swapped.append((value, tensor))
                value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)
    try:
        yield
    finally:
        for value, tensor in swapped:
            value.const_value = tensor


def _drop_repeats(graph: onnx.GraphProto) -> None:
    """Types of initializers, which onnx_ir writes a second time: some forty bytes for each."""
    known = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.value_info if value.name not in known]
    if len(kept) < len(graph.value_info):
        del graph.value_info[:]
        graph.value_info.extend(kept)
