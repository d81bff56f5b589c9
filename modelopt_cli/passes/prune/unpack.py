"""Standard operators that put packed weights together again, while a session loads.

All weights of one type are decoded together, since a decoder of its own for each would be larger than a small weight:

    mask -> Cast -> Gather(bits of a byte) -> Reshape -> Slice -> Cast -> CumSum, Mul -> Gather(values) [-> Cast]
    -> Split -> Reshape [-> Mul(scale)] for each weight
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import add_node, add_weight, fresh_name

BITS = 8
MOST_TOGETHER = 4 << 20  # numbers: decoding takes some twenty bytes for each, at one time


@dataclass(frozen=True)
class Packed:
    """A weight in pieces.

    Attributes:
        shape: Of the weight.
        kept: Which numbers are stored, bool in C order; None where all are.
        values: Those; the whole array where all are stored.
        scale: What int8 values are multiplied with, broadcastable to ``shape``; None for values as they were.
    """

    shape: tuple[int, ...]
    kept: np.ndarray | None
    values: np.ndarray
    scale: np.ndarray | None

    @property
    def nbytes(self) -> int:
        """Bytes of the pieces in the file."""
        scale = 0 if self.scale is None else self.scale.nbytes
        mask = 0 if self.kept is None else -(-self.kept.size // BITS)
        return mask + self.values.nbytes + scale

    @property
    def kind(self) -> tuple[str, str]:
        """Type of the values, and of the weight."""
        return self.values.dtype.str, self.values.dtype.str if self.scale is None else self.scale.dtype.str


Pair = tuple[ir.Value, Packed]


class Decoders:
    """Builds decoders at the head of a graph; what several of them read is stored once."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._first = next(iter(graph))
        self._shared: dict[tuple[int, ...], ir.Value] = {}
        self._table: ir.Value | None = None

    def replace(self, pairs: Sequence[Pair]) -> None:
        """Let the readers of weights read what is decoded."""
        for value, packed in pairs:
            if packed.kept is None:
                stored = self._cast(add_weight(self._graph, "packed", packed.values), packed)
                self._hand_over(value, packed, stored)
        for group in _groups([pair for pair in pairs if pair[1].kept is not None]):
            for (value, packed), flat in zip(group, self._parts(group), strict=True):
                self._hand_over(value, packed, self._node("Reshape", flat, self._numbers(*packed.shape)))

    def _parts(self, group: Sequence[Pair]) -> Sequence[ir.Value]:
        """The numbers of each weight, decoded together."""
        flat = self._cast(self._spread([packed for _, packed in group]), group[0][1])
        if len(group) == 1:
            return [flat]
        sizes = self._numbers(*(math.prod(packed.shape) for _, packed in group))
        first = self._node("Split", flat, sizes, outputs=len(group)).producer()
        assert first is not None
        return first.outputs

    def _hand_over(self, value: ir.Value, packed: Packed, weight: ir.Value) -> None:
        if packed.scale is not None:
            weight = self._node("Mul", weight, add_weight(self._graph, "packed", packed.scale))
        weight.type, weight.shape = value.type, ir.Shape(packed.shape)
        value.replace_all_uses_with(weight)
        del self._graph.initializers[value.name or ""]

    def _cast(self, value: ir.Value, packed: Packed) -> ir.Value:
        if packed.scale is None:
            return value
        return self._node("Cast", value, to=int(ir.DataType.from_numpy(packed.scale.dtype)))

    def _spread(self, packed: Sequence[Packed]) -> ir.Value:
        """Values at their places: the n-th bit that is set takes the n-th value, the others the zero before them."""
        if self._table is None:
            self._table = add_weight(self._graph, "packed", _bit_table())
        kept = np.concatenate([each.kept for each in packed if each.kept is not None])
        stored = np.concatenate([np.zeros(1, packed[0].values.dtype), *(each.values for each in packed)])
        mask = add_weight(self._graph, "packed", np.packbits(kept, bitorder="little"))
        values = add_weight(self._graph, "packed", stored)
        bits = self._node("Gather", self._table, self._node("Cast", mask, to=int(ir.DataType.INT32)))
        bits = self._node("Reshape", bits, self._numbers(-1))
        if kept.size % BITS:
            bits = self._node("Slice", bits, self._numbers(0), self._numbers(kept.size))
        bits = self._node("Cast", bits, to=int(ir.DataType.INT32))
        place = self._node("Mul", self._node("CumSum", bits, self._numbers(0)), bits)
        return self._node("Gather", values, place)

    def _node(self, op: str, *inputs: ir.Value, outputs: int = 1, **attributes: object) -> ir.Value:
        made = add_node(self._graph, self._first, op, inputs, stem="unpack", attributes=attributes)
        node = made.producer()
        if outputs > 1 and node is not None:
            node.resize_outputs(outputs)
            for value in node.outputs[1:]:
                value.name = fresh_name(self._graph, "unpack_out")
        return made

    def _numbers(self, *numbers: int) -> ir.Value:
        if numbers not in self._shared:
            self._shared[numbers] = add_weight(self._graph, "packed", np.array(numbers, np.int64))
        return self._shared[numbers]


def _groups(pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    """Weights of one kind, as many as may be decoded at one time."""
    open_groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        group = open_groups.setdefault(pair[1].kind, [])
        if group and sum(math.prod(each.shape) for _, each in (*group, pair)) > MOST_TOGETHER:
            yield group
            group = open_groups[pair[1].kind] = []
        group.append(pair)
    yield from open_groups.values()


def _bit_table() -> np.ndarray:
    """[256, 8] of 0 and 1: the bits of each byte."""
    return np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
