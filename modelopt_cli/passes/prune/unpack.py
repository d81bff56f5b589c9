"""Standard operators that put packed weights together again, while a session loads.

All weights of one type are decoded together, since a decoder of its own for each would be larger than a small weight:

    mask -> Cast -> Div(1, 2, 4 ...) -> Mod(2) -> Reshape -> Slice -> CumSum, Mul -> Gather(values) [-> Cast]
    -> Split -> Reshape [-> Mul(scale)] for each weight
    codes of scales -> Cast -> Mul -> Add -> Exp -> Split
    biases in half precision -> Cast -> Split
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import add_node, add_weight, fresh_name
from modelopt_cli.passes.prune.scales import LogScales

BITS = 8
STEM = "w"  # of names: short, for they are many
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
        self._scales: dict[int, ir.Value] = {}

    def replace(self, pairs: Sequence[Pair]) -> None:
        """Let the readers of weights read what is decoded."""
        self._decode_scales([packed for _, packed in pairs])
        for value, packed in pairs:
            if packed.kept is None:
                stored = self._cast(add_weight(self._graph, STEM, packed.values), packed)
                self._hand_over(value, packed, stored)
        for group in _groups([pair for pair in pairs if pair[1].kept is not None]):
            for (value, packed), flat in zip(group, self._parts(group), strict=True):
                self._hand_over(value, packed, self._node("Reshape", flat, self._numbers(*packed.shape)))

    def halve(self, values: Sequence[ir.Value]) -> None:
        """Store float32 vectors in half precision; what reads them reads float32."""
        if not values:
            return
        arrays = [value.const_value.numpy() for value in values if value.const_value is not None]
        together = add_weight(self._graph, STEM, np.concatenate(arrays).astype(np.float16))
        whole = self._node("Cast", together, to=int(ir.DataType.FLOAT))
        for value, part in zip(values, self._split(whole, [len(array) for array in arrays]), strict=True):
            self._take_over(value, part)

    def _parts(self, group: Sequence[Pair]) -> Sequence[ir.Value]:
        """The numbers of each weight, decoded together."""
        flat = self._cast(self._spread([packed for _, packed in group]), group[0][1])
        return self._split(flat, [math.prod(packed.shape) for _, packed in group])

    def _split(self, whole: ir.Value, sizes: Sequence[int], axis: int = 0) -> Sequence[ir.Value]:
        """Parts of these sizes along an axis; the whole where it is the only one."""
        if len(sizes) == 1:
            return [whole]
        first = self._node("Split", whole, self._numbers(*sizes), outputs=len(sizes), axis=axis).producer()
        assert first is not None
        return first.outputs

    def _decode_scales(self, packed: Sequence[Packed]) -> None:
        """One decoder for all scales of a shape like [n, 1, 1, 1]; they are split along the n."""
        alike: dict[tuple[int, int, str], list[np.ndarray]] = {}
        for each in packed:
            if each.scale is not None:
                axis = int(np.argmax(each.scale.shape))
                alike.setdefault((each.scale.ndim, axis, each.scale.dtype.str), []).append(each.scale)
        for (_, axis, _), scales in alike.items():
            parts = self._split(self._all_scales(scales, axis), [scale.shape[axis] for scale in scales], axis)
            self._scales.update((id(scale), part) for scale, part in zip(scales, parts, strict=True))

    def _all_scales(self, scales: Sequence[np.ndarray], axis: int) -> ir.Value:
        every = np.concatenate(scales, axis=axis)
        coded = LogScales.of(every)
        if coded is None:
            return add_weight(self._graph, STEM, every)
        codes = self._node("Cast", add_weight(self._graph, STEM, coded.codes), to=int(ir.DataType.FLOAT))
        steps = self._node("Mul", codes, add_weight(self._graph, STEM, coded.step))
        found = self._node("Exp", self._node("Add", steps, add_weight(self._graph, STEM, coded.least)))
        kind = ir.DataType.from_numpy(every.dtype)
        return found if kind == ir.DataType.FLOAT else self._node("Cast", found, to=int(kind))

    def _hand_over(self, value: ir.Value, packed: Packed, weight: ir.Value) -> None:
        if packed.scale is not None:
            weight = self._node("Mul", weight, self._scales[id(packed.scale)])
        self._take_over(value, weight)

    def _take_over(self, value: ir.Value, weight: ir.Value) -> None:
        value.replace_all_uses_with(weight)
        del self._graph.initializers[value.name or ""]

    def _cast(self, value: ir.Value, packed: Packed) -> ir.Value:
        if packed.scale is None:
            return value
        return self._node("Cast", value, to=int(ir.DataType.from_numpy(packed.scale.dtype)))

    def _spread(self, packed: Sequence[Packed]) -> ir.Value:
        """Values at their places: the n-th bit that is set takes the n-th value, the others the zero before them."""
        kept = np.concatenate([each.kept for each in packed if each.kept is not None])
        stored = np.concatenate([np.zeros(1, packed[0].values.dtype), *(each.values for each in packed)])
        mask = add_weight(self._graph, STEM, np.packbits(kept, bitorder="little")[:, None])
        values = add_weight(self._graph, STEM, stored)
        powers = add_weight(self._graph, STEM, 2 ** np.arange(BITS, dtype=np.int32))
        bits = self._node("Div", self._node("Cast", mask, to=int(ir.DataType.INT32)), powers)
        bits = self._node("Mod", bits, add_weight(self._graph, STEM, np.array(2, np.int32)))
        bits = self._node("Reshape", bits, self._numbers(-1))
        if kept.size % BITS:
            bits = self._node("Slice", bits, self._numbers(0), self._numbers(kept.size))
        place = self._node("Mul", self._node("CumSum", bits, self._numbers(0)), bits)
        return self._node("Gather", values, place)

    def _node(self, op: str, *inputs: ir.Value, outputs: int = 1, **attributes: object) -> ir.Value:
        made = add_node(self._graph, self._first, op, inputs, stem=STEM, attributes=attributes)
        node = made.producer()
        assert node is not None
        node.name = None  # of dozens of nodes, names are a hundredth of a small file
        node.resize_outputs(outputs)
        for value in node.outputs:
            value.name = fresh_name(self._graph, STEM)
        return made

    def _numbers(self, *numbers: int) -> ir.Value:
        if numbers not in self._shared:
            self._shared[numbers] = add_weight(self._graph, STEM, np.array(numbers, np.int64))
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
