"""The nodes that turn low-bit codes back into a weight; a session folds them into a constant when it loads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from modelopt_cli.passes.quantize.lowbit.encoding import Encoded, stored_scale
from modelopt_cli.passes.quantize.lowbit.packing import PLANES, NodeWriter, can_pack, pack, packed_bytes

NODE_BYTES = 120  # what a node with its names takes in the file, about


def decoding_nodes(bits: int, *, blocks: bool, table: bool) -> int:
    """How many nodes decode a weight, about."""
    if bits == 8 and not table:
        return 4
    pieces = sum(2 * 8 // width for width in PLANES[bits] if width < 8)
    return 6 + pieces + 4 * (len(PLANES[bits]) - 1) + 4 * blocks


class StoredWeight:
    """A weight as initializers, and the ways to read it.

    Args:
        encoded: Codes [groups, K, N].
        shape: Of the float weight.
        columns_last: Whether it is [K, N] (MatMul); otherwise [N, K ...] (Gemm with transB, Conv, tables).
    """

    def __init__(self, encoded: Encoded, shape: Sequence[int], *, columns_last: bool) -> None:
        self._encoded = encoded
        self._shape = tuple(shape)
        self._columns_last = columns_last
        self._initializers: tuple[list[ir.Value], ir.Value | None, ir.Value] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the codes are stored as int8 numbers, without a table and unpacked."""
        return self._encoded.bits == 8 and self._encoded.is_uniform

    def bytes(self) -> int:
        """What it takes in the file, its nodes included."""
        encoded = self._encoded
        scales = stored_scale(encoded.scale).nbytes
        blocks = 0 if encoded.multipliers is None else encoded.multipliers.nbytes
        table = 0 if encoded.is_uniform else encoded.levels.nbytes
        nodes = decoding_nodes(encoded.bits, blocks=blocks > 0, table=table > 0) * NODE_BYTES
        return packed_bytes(encoded.codes.size, encoded.bits) + scales + blocks + table + nodes

    def write_float(self, writer: NodeWriter) -> ir.Value:
        """The whole weight as float32, in its own shape."""
        planes, multipliers, scale = self._add(writer)
        levels = self._levels(writer, self._codes(writer, planes))
        if multipliers is not None:
            levels = self._in_blocks(writer, levels, writer.cast(multipliers, ir.DataType.FLOAT))
        output = writer.add("Mul", [self._matrix(writer, levels), _squared(writer, scale)])
        return _typed(output if len(self._shape) == 2 else writer.reshape(output, self._shape), self._shape)

    def write_int8(self, writer: NodeWriter) -> tuple[ir.Value, ir.Value]:
        """Levels times multipliers as int8 [K, N], and the scale as float32 [N]; only for evenly spaced levels."""
        planes, multipliers, scale = self._add(writer)
        codes = writer.cast(self._codes(writer, planes), ir.DataType.INT32)
        low = writer.constant(np.array(self._encoded.levels[0], np.int32))
        levels = writer.add("Add", [codes, low])
        if multipliers is not None:
            levels = self._in_blocks(writer, levels, writer.cast(multipliers, ir.DataType.INT32))
        output = writer.cast(self._matrix(writer, levels), ir.DataType.INT8)
        flat = writer.reshape(_squared(writer, scale), [self._encoded.scale.size])
        return output, flat

    def write_rows(self, writer: NodeWriter, ids: ir.Value) -> ir.Value:
        """The rows of a table [N, K] that are looked up, as float32 [..., K]: decoded at each run."""
        planes, multipliers, scale = self._add(writer)
        found = [writer.add("Gather", [plane, ids]) for plane in planes]
        levels = self._levels(writer, self._codes(writer, found))
        steps = _squared(writer, writer.add("Gather", [scale, ids]))
        if multipliers is None:
            return writer.add("Mul", [levels, steps])
        blocks = writer.cast(writer.add("Gather", [multipliers, ids]), ir.DataType.FLOAT)
        steps = writer.add("Mul", [blocks, steps])
        # Rows [..., K] as [..., blocks, block]: leading dimensions are known only at run time, so Reshape copies none.
        size = self._encoded.multipliers.shape[1] if self._encoded.multipliers is not None else 1
        many = writer.constant(np.array([-1, size, self._encoded.block], np.int64))
        one = writer.constant(np.array([-1, size, 1], np.int64))
        pair = [
            writer.add("Reshape", [levels, many]),
            writer.add("Reshape", [steps, one]),
        ]
        product = writer.add("Mul", pair)
        return writer.add("Reshape", [product, writer.add("Shape", [levels])])

    def _add(self, writer: NodeWriter) -> tuple[list[ir.Value], ir.Value | None, ir.Value]:
        """The initializers, added once whoever reads them."""
        if self._initializers is None:
            planes = [writer.weight(f"codes{i or ''}", plane) for i, plane in enumerate(self._packed())]
            multipliers = self._encoded.multipliers
            blocks = None if multipliers is None else writer.weight("blocks", self._laid_out(multipliers))
            rank = (1, -1) if self._columns_last else (-1, 1)
            scale = writer.weight("scale", stored_scale(self._encoded.scale).reshape(rank))
            self._initializers = planes, blocks, scale
        return self._initializers

    def _packed(self) -> list[np.ndarray]:
        codes = self._laid_out(self._encoded.codes)
        if self.is_plain:
            return [(codes.astype(np.int16) - 128).astype(np.int8)]
        if not can_pack(codes.shape[-1], self._encoded.bits):
            codes = codes.reshape(1, -1)
        return pack(codes, self._encoded.bits)

    def _laid_out(self, array: np.ndarray) -> np.ndarray:
        """[groups, rows, N] as [rows, N] or [groups * N, rows]."""
        if self._columns_last:
            return np.ascontiguousarray(array[0])
        return np.ascontiguousarray(array.transpose(0, 2, 1).reshape(-1, array.shape[1]))

    def _codes(self, writer: NodeWriter, planes: Sequence[ir.Value]) -> ir.Value:
        return planes[0] if self.is_plain else writer.unpack(planes, self._encoded.bits)

    def _levels(self, writer: NodeWriter, codes: ir.Value) -> ir.Value:
        if self.is_plain:
            return writer.cast(codes, ir.DataType.FLOAT)
        if not self._encoded.is_uniform:
            table = writer.weight("table", self._encoded.levels)
            return writer.add("Gather", [table, writer.cast(codes, ir.DataType.INT32)])
        low = writer.constant(np.array(self._encoded.levels[0], np.float32))
        return writer.add("Add", [writer.cast(codes, ir.DataType.FLOAT), low])

    def _in_blocks(self, writer: NodeWriter, levels: ir.Value, multipliers: ir.Value) -> ir.Value:
        groups, rows, columns = self._encoded.codes.shape
        block = self._encoded.block
        if self._columns_last:
            many, one = [rows // block, block, columns], [rows // block, 1, columns]
        else:
            many, one = [groups * columns, rows // block, block], [groups * columns, rows // block, 1]
        pair = [writer.reshape(levels, many), writer.reshape(multipliers, one)]
        return writer.add("Mul", pair)

    def _matrix(self, writer: NodeWriter, value: ir.Value) -> ir.Value:
        """``value`` as it is stored, [K, N] or [N, K]."""
        groups, rows, columns = self._encoded.codes.shape
        two = (rows, columns) if self._columns_last else (groups * columns, rows)
        rows_packed = self.is_plain or can_pack(two[-1], self._encoded.bits)
        return value if rows_packed and self._encoded.multipliers is None else writer.reshape(value, two)


def _squared(writer: NodeWriter, root: ir.Value) -> ir.Value:
    """Scales from what `stored_scale` wrote."""
    real = writer.cast(root, ir.DataType.FLOAT)
    return writer.add("Mul", [real, real])


def _typed(value: ir.Value, shape: Sequence[int], dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    """``value`` with what later passes want to know of a weight."""
    value.type, value.shape = ir.TensorType(dtype), ir.Shape(shape)
    return value
