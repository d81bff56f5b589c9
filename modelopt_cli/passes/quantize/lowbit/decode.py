"""The nodes that turn low-bit codes back into a weight; a session folds them into a constant when it loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.passes.quantize.lowbit.encoding import Encoded, stored_scale
from modelopt_cli.passes.quantize.lowbit.packing import PLANES, NodeWriter, can_pack, pack, packed_bytes

NODE_BYTES = 170  # what a node with its names takes in the file, about


def decoding_nodes(bits: int, *, blocks: bool, table: bool, shifts: bool = False) -> int:
    """How many nodes decode a weight, about."""
    extra = 4 * blocks + shifts * (2 + _unpacking_nodes(bits))
    return (4 if bits == 8 and not table else 6 + _unpacking_nodes(bits)) + extra


def _unpacking_nodes(bits: int) -> int:
    pieces = sum(2 * 8 // width for width in PLANES[bits] if width < 8)
    return pieces + 4 * (len(PLANES[bits]) - 1)


@dataclass(frozen=True)
class _Parts:
    """Initializers of a stored weight."""

    codes: list[ir.Value]
    scale: ir.Value
    multipliers: ir.Value | None
    zeros: list[ir.Value]
    rows: ir.Value | None


class StoredWeight:
    """A weight as initializers, and the ways to read it.

    Args:
        encoded: Codes [groups, K, N].
        shape: Of the float weight.
        columns_last: Whether it is [K, N] (MatMul); otherwise [N, K ...] (Gemm with transB, Conv, tables).
        by_row: Whether rows are looked up: each of them then begins with a byte.
    """

    def __init__(self, encoded: Encoded, shape: Sequence[int], *, columns_last: bool, by_row: bool = False) -> None:
        self._encoded = encoded
        self._shape = tuple(shape)
        self._columns_last = columns_last
        self._by_row = by_row
        self._parts: _Parts | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the codes are stored as int8 numbers, without a table and unpacked."""
        return self._encoded.bits == 8 and self._encoded.is_uniform

    @property
    def blocks(self) -> int:
        """Steps per column."""
        return int(self._encoded.codes.shape[1]) // self._encoded.block

    def bytes(self) -> int:
        """What it takes in the file, its nodes included."""
        encoded, shifts = self._encoded, self._encoded.shifts
        total = sum(plane.nbytes for plane in self._packed()) + stored_scale(encoded.scale).nbytes
        total += 0 if encoded.multipliers is None else encoded.multipliers.nbytes
        total += 0 if encoded.is_uniform else encoded.levels.nbytes
        total += 0 if shifts is None else packed_bytes(shifts.size, self._zero_bits)
        total += 0 if encoded.rows is None else 2 * encoded.rows.size
        several, table = encoded.multipliers is not None, not encoded.is_uniform
        nodes = decoding_nodes(encoded.bits, blocks=several, table=table, shifts=shifts is not None)
        return total + nodes * NODE_BYTES

    def write_float(self, writer: NodeWriter) -> ir.Value:
        """The whole weight as float32, in its own shape."""
        parts = self._add(writer)
        matrix = self._matrix(writer, parts, ir.DataType.FLOAT)
        output = writer.add("Mul", [matrix, _squared(writer, parts.scale)])
        if parts.rows is not None:
            output = writer.add("Div", [output, writer.cast(parts.rows, ir.DataType.FLOAT)])
        return _typed(output if len(self._shape) == 2 else writer.reshape(output, self._shape), self._shape)

    def write_int8(self, writer: NodeWriter) -> tuple[ir.Value, ir.Value]:
        """Levels times multipliers as int8 [K, N], and the scale as float32 [N]; only for evenly spaced levels."""
        parts = self._add(writer)
        output = writer.cast(self._matrix(writer, parts, ir.DataType.INT32), ir.DataType.INT8)
        flat = writer.reshape(_squared(writer, parts.scale), [self._encoded.scale.size])
        return output, flat

    def write_rows(self, writer: NodeWriter, ids: ir.Value) -> ir.Value:
        """The rows of a table [N, K] that are looked up, as float32 [..., K]: decoded at each run."""
        parts, kind = self._add(writer), ir.DataType.FLOAT
        found = [writer.add("Gather", [plane, ids]) for plane in parts.codes]
        levels = self._trimmed(writer, self._levels(writer, found, kind), int(self._encoded.codes.shape[1]))
        zeros = [writer.add("Gather", [plane, ids]) for plane in parts.zeros]
        steps = _squared(writer, writer.add("Gather", [parts.scale, ids]))
        if self.blocks == 1:
            return writer.add("Mul", [self._shifted(writer, levels, zeros, kind), steps])
        assert parts.multipliers is not None, "several blocks have multipliers"
        steps = writer.add("Mul", [writer.cast(writer.add("Gather", [parts.multipliers, ids]), kind), steps])
        # Rows [..., K] as [..., blocks, block]: leading dimensions are known only at run time, so Reshape copies none.
        one = [-1, self.blocks, 1]
        many = writer.reshape(levels, [-1, self.blocks, self._encoded.block])
        product = writer.add("Mul", [self._shifted(writer, many, zeros, kind, one), writer.reshape(steps, one)])
        return writer.add("Reshape", [product, writer.add("Shape", [levels])])

    @property
    def _zero_bits(self) -> int:
        """Bits that where zero lies is stored in: as packed as codes where rows fill bytes."""
        shifts = self._encoded.shifts
        assert shifts is not None
        length = shifts.shape[2] if self._columns_last else shifts.shape[1]
        return self._encoded.bits if can_pack(length, self._encoded.bits) else 8

    def _add(self, writer: NodeWriter) -> _Parts:
        """The initializers, added once whoever reads them."""
        if self._parts is None:
            encoded = self._encoded
            rank = (1, -1) if self._columns_last else (-1, 1)
            codes = [writer.weight(f"codes{i or ''}", plane) for i, plane in enumerate(self._packed())]
            zeros = [writer.weight(f"zeros{i or ''}", plane) for i, plane in enumerate(self._packed_zeros())]
            blocks = None if encoded.multipliers is None else self._laid_out(encoded.multipliers)
            rows = None if encoded.rows is None else encoded.rows.astype(np.float16).reshape(rank[::-1])
            self._parts = _Parts(
                codes,
                writer.weight("scale", stored_scale(encoded.scale).reshape(rank)),
                None if blocks is None else writer.weight("blocks", blocks),
                zeros,
                None if rows is None else writer.weight("rows", rows),
            )
        return self._parts

    def _packed(self) -> list[np.ndarray]:
        codes = self._laid_out(self._encoded.codes)
        if self.is_plain:
            return [(codes.astype(np.int16) - 128).astype(np.int8)]
        if not can_pack(codes.shape[-1], self._encoded.bits):
            codes = codes if self._by_row else codes.reshape(1, -1)
            codes = np.pad(codes, ((0, 0), (0, -codes.shape[1] % 8)))
        return pack(codes, self._encoded.bits)

    def _packed_zeros(self) -> list[np.ndarray]:
        shifts = self._encoded.shifts
        if shifts is None:
            return []
        if self.is_plain:
            return [self._laid_out(shifts)]
        return pack(self._laid_out((shifts - self._encoded.levels[0]).astype(np.uint8)), self._zero_bits)

    def _laid_out(self, array: np.ndarray) -> np.ndarray:
        """[groups, rows, N] as [rows, N] or [groups * N, rows]."""
        if self._columns_last:
            return np.ascontiguousarray(array[0])
        return np.ascontiguousarray(array.transpose(0, 2, 1).reshape(-1, array.shape[1]))

    def _levels(self, writer: NodeWriter, planes: Sequence[ir.Value], kind: ir.DataType) -> ir.Value:
        """What codes stand for; where zero lies is taken away later (`_shifted`)."""
        codes = planes[0] if self.is_plain else writer.unpack(planes, self._encoded.bits)
        if not self._encoded.is_uniform:
            table = writer.weight("table", self._encoded.levels)
            return writer.add("Gather", [table, writer.cast(codes, ir.DataType.INT32)])
        numbers = writer.cast(codes, kind)
        if self.is_plain or self._encoded.shifts is not None:
            return numbers
        return writer.add("Add", [numbers, writer.constant(np.array(self._encoded.levels[0], kind.numpy()))])

    def _trimmed(self, writer: NodeWriter, levels: ir.Value, length: int) -> ir.Value:
        """Without the codes that only fill the last byte."""
        if self.is_plain or can_pack(length, self._encoded.bits):
            return levels
        first, last, axis = (writer.constant(np.array([n], np.int64)) for n in (0, length, -1))
        return writer.add("Slice", [levels, first, last, axis])

    def _shifted(
        self,
        writer: NodeWriter,
        levels: ir.Value,
        zeros: Sequence[ir.Value],
        kind: ir.DataType,
        shape: Sequence[int] | None = None,
    ) -> ir.Value:
        if not zeros:
            return levels
        numbers = writer.cast(zeros[0] if self.is_plain else writer.unpack(zeros, self._zero_bits), kind)
        return writer.add("Sub", [levels, numbers if shape is None else writer.reshape(numbers, shape)])

    def _matrix(self, writer: NodeWriter, parts: _Parts, kind: ir.DataType) -> ir.Value:
        """Levels times multipliers as they are stored, [K, N] or [groups * N, K]."""
        groups, rows, columns = self._encoded.codes.shape
        two = (rows, columns) if self._columns_last else (groups * columns, rows)
        levels = self._levels(writer, parts.codes, kind)
        in_rows = self.is_plain or self._by_row or can_pack(two[-1], self._encoded.bits)
        levels = self._trimmed(writer, levels, two[-1] if in_rows else two[0] * two[1])
        if self.blocks == 1:
            return self._shifted(writer, levels if in_rows else writer.reshape(levels, two), parts.zeros, kind)
        assert parts.multipliers is not None, "several blocks have multipliers"
        block, blocks = self._encoded.block, self.blocks
        many = [blocks, block, columns] if self._columns_last else [groups * columns, blocks, block]
        one = [blocks, 1, columns] if self._columns_last else [groups * columns, blocks, 1]
        numbers = self._shifted(writer, writer.reshape(levels, many), parts.zeros, kind, one)
        steps = writer.reshape(writer.cast(parts.multipliers, kind), one)
        return writer.reshape(writer.add("Mul", [numbers, steps]), two)


def _squared(writer: NodeWriter, root: ir.Value) -> ir.Value:
    """Scales from what `stored_scale` wrote."""
    real = writer.cast(root, ir.DataType.FLOAT)
    return writer.add("Mul", [real, real])


def _typed(value: ir.Value, shape: Sequence[int], dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    """``value`` with what later passes want to know of a weight."""
    value.type, value.shape = ir.TensorType(dtype), ir.Shape(shape)
    return value
