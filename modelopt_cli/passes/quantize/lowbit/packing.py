"""Several small codes in a byte, and the nodes that take them apart again.

Standard operators of opset 11 on uint8 are used rather than the 4-bit types of opset 21 and the 2-bit types of opset
25: they are constant-folded when a session loads just the same, run in every runtime, and can be read by Gather.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import add_node, add_weight, constant

PLANES: dict[int, tuple[int, ...]] = {2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1), 8: (8,)}
"""Bits per code -> widths that divide a byte, the lowest bits first."""


def can_pack(length: int, bits: int) -> bool:
    """Whether rows of so many codes fill whole bytes."""
    return all(length * width % 8 == 0 for width in PLANES[bits])


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that ``count`` codes take."""
    return count * bits // 8


def pack(codes: np.ndarray, bits: int) -> list[np.ndarray]:
    """Codes (uint8, [..., length]) as one uint8 array [..., length * width / 8] per plane.

    Byte j of a plane holds codes j, j + m, j + 2m ... of its row, m bytes long, the first in the lowest bits: unpacked
    pieces are then concatenated, not interleaved.

    Raises:
        ValueError: Rows do not fill whole bytes.
    """
    if not can_pack(codes.shape[-1], bits):
        raise ValueError(f"{codes.shape[-1]} codes of {bits} bits do not fill whole bytes")
    planes, shift = [], 0
    for width in PLANES[bits]:
        part = (codes >> shift) & (2**width - 1)
        pieces = np.split(part, 8 // width, axis=-1)
        packed = np.zeros_like(pieces[0])
        for index, piece in enumerate(pieces):
            packed |= piece << (index * width)
        planes.append(np.ascontiguousarray(packed, np.uint8))
        shift += width
    return planes


def unpack(planes: Sequence[np.ndarray], bits: int) -> np.ndarray:
    """The codes that `pack` was given."""
    codes, shift = None, 0
    for plane, width in zip(planes, PLANES[bits], strict=True):
        pieces = [(plane >> (index * width)) & (2**width - 1) for index in range(8 // width)]
        part = np.concatenate(pieces, axis=-1) << shift
        codes = part if codes is None else codes | part
        shift += width
    assert codes is not None
    return codes


class NodeWriter:
    """Adds nodes before a given one. Intermediate values carry no type: a file of small weights is to stay small.

    Args:
        model: Whose main graph holds the weights, and names all.
        before: The node in front of which nodes are inserted.
        stem: What their names begin with.
    """

    def __init__(self, model: ir.Model, before: ir.Node, stem: str) -> None:
        assert isinstance(before.graph, ir.Graph)
        self._model, self._before, self._stem = model, before, stem
        self._graph = before.graph

    def add(self, op_type: str, inputs: Sequence[ir.Value | None], **attributes: object) -> ir.Value:
        """Insert a node; returns its output."""
        stem = f"{self._stem}_{op_type.lower()}"
        return add_node(self._graph, self._before, op_type, inputs, stem=stem, attributes=attributes)

    def weight(self, suffix: str, array: np.ndarray) -> ir.Value:
        """A new initializer of the main graph."""
        return add_weight(self._model.graph, f"{self._stem}_{suffix}", array)

    def constant(self, array: np.ndarray) -> ir.Value:
        """A small initializer, shared with everything that needs the same numbers."""
        name = f"lowbit_{array.dtype.name}_{'x'.join(map(str, array.reshape(-1).tolist()))}_{array.ndim}"
        known = self._model.graph.initializers.get(name)
        found = constant(known)
        same = found is not None and found.dtype == array.dtype and np.array_equal(found, array)
        return known if known is not None and same else add_weight(self._model.graph, name, array)

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """``value`` as another type."""
        return self.add("Cast", [value], to=int(dtype))

    def reshape(self, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        """``value`` in a fixed shape."""
        return self.add("Reshape", [value, self.constant(np.array(shape, np.int64))])

    def unpack(self, planes: Sequence[ir.Value], bits: int) -> ir.Value:
        """Codes as uint8 (one plane) or int32 (several), [..., length]; see `pack`."""
        parts = [self._unpack_plane(plane, width) for plane, width in zip(planes, PLANES[bits], strict=True)]
        if len(parts) == 1:
            return parts[0]
        total, shift = self.cast(parts[0], ir.DataType.INT32), PLANES[bits][0]
        for part, width in zip(parts[1:], PLANES[bits][1:], strict=True):
            factor = self.constant(np.array(2**shift, np.int32))
            high = self.add("Mul", [self.cast(part, ir.DataType.INT32), factor])
            total, shift = self.add("Add", [total, high]), shift + width
        return total

    def _unpack_plane(self, plane: ir.Value, width: int) -> ir.Value:
        if width == 8:
            return plane
        pieces = [self._piece(plane, index * width, width) for index in range(8 // width)]
        return self.add("Concat", pieces, axis=-1)

    def _piece(self, plane: ir.Value, low: int, width: int) -> ir.Value:
        high = 8 - width - low
        if high:
            plane = self.add("BitShift", [plane, self._byte(high)], direction="LEFT")
        return self.add("BitShift", [plane, self._byte(8 - width)], direction="RIGHT")

    def _byte(self, number: int) -> ir.Value:
        return self.constant(np.array(number, np.uint8))
