"""Attention heads: a projection whose columns are split among them, however the exporter reshapes and transposes it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import dimensions
from modelopt_cli.passes.fuse.affine import as_float
from modelopt_cli.passes.fuse.pattern import made_by, operands

TO_HEADS = (0, 2, 1, 3)  # [batch, length, heads, size] <-> [batch, heads, length, size]
TO_KEYS = (0, 2, 3, 1)  # -> [batch, heads, size, length]
LAST_TWO = (0, 1, 3, 2)
PACKED_TO_HEADS = (2, 0, 3, 1, 4)  # [batch, length, 3, heads, size] -> [3, batch, heads, length, size]


@dataclass(frozen=True)
class Heads:
    """[batch, heads, length, size] as columns of a [batch, length, columns] tensor.

    Attributes:
        source: The tensor of rank 3.
        first: Its first column that belongs to these heads.
        heads: How many heads.
        size: Columns of each.
        length: The length: a number, or the name of a symbol.
    """

    source: ir.Value
    first: int
    heads: int
    size: int
    length: int | str

    @property
    def whole(self) -> bool:
        """Whether the source has no other columns."""
        dims = dimensions(self.source)
        return dims is not None and dims[-1] == self.heads * self.size


@dataclass(frozen=True)
class Projection:
    """``x W + b`` with constant W [inputs, columns] and b [columns], both float64; b is zeros where there is none."""

    x: ir.Value
    weight: np.ndarray
    bias: np.ndarray
    has_bias: bool
    dtype: np.dtype
    stem: str

    def columns(self, first: int, count: int) -> Projection:
        """The part of it that makes some of the columns."""
        part = slice(first, first + count)
        return Projection(self.x, self.weight[:, part], self.bias[part], self.has_bias, self.dtype, self.stem)


def read_heads(value: ir.Value | None, *, transposed: bool = False) -> Heads | None:
    """The heads that ``value`` holds; ``transposed`` for keys as [batch, heads, size, length]."""
    if transposed:
        outer = made_by(value, "Transpose")
        if outer is not None and outer.attributes.get_ints("perm", ()) == LAST_TWO:
            return read_heads(outer.inputs[0])
    gather = made_by(value, "Gather")
    if gather is not None and not transposed:
        return _packed(gather)
    node = made_by(value, "Transpose")
    if node is None or tuple(node.attributes.get_ints("perm", ())) != (TO_KEYS if transposed else TO_HEADS):
        return None
    return _split(node.inputs[0], parts=None)


def _packed(gather: ir.Node) -> Heads | None:
    """One of the queries, keys and values that a single projection makes."""
    transpose, part = made_by(gather.inputs[0], "Transpose"), edit.scalar(gather.inputs[1])
    index = dimensions(gather.inputs[1])
    if transpose is None or part is None or index != () or gather.attributes.get_int("axis", 0) != 0:
        return None
    if tuple(transpose.attributes.get_ints("perm", ())) != PACKED_TO_HEADS:
        return None
    return _split(transpose.inputs[0], parts=int(part))


def _split(value: ir.Value | None, parts: int | None) -> Heads | None:
    """Heads of the Reshape behind ``value``, [batch, length, (parts,) heads, size]."""
    reshape = made_by(value, "Reshape")
    before = dimensions(None if reshape is None else reshape.inputs[0])
    after = dimensions(value)
    if reshape is None or before is None or after is None or len(before) != 3:
        return None
    if None in after[:2] or after[:2] != before[:2] or len(after) != (4 if parts is None else 5):
        return None
    source, length, (heads, size) = reshape.inputs[0], after[1], after[-2:]
    if source is None or length is None or not isinstance(heads, int) or not isinstance(size, int):
        return None
    count = 1 if parts is None else after[2]
    if not isinstance(count, int) or before[2] != count * heads * size:
        return None
    return Heads(source, ((parts or 0) % count) * heads * size, heads, size, length)


def read_projection(value: ir.Value) -> Projection | None:
    """The product with a constant, and the bias behind it, that makes a tensor of rank 3."""
    product, bias = made_by(value, "MatMul"), None
    add = made_by(value, "Add")
    if add is not None:
        for made, other in operands(add):
            bias = as_float(edit.constant(other))
            product = made_by(made, "MatMul") if bias is not None else None
            if product is not None:
                break
    weight = None if product is None else edit.constant(product.inputs[1])
    if product is None or product.inputs[0] is None or weight is None or weight.ndim != 2:
        return None
    columns = weight.shape[1]
    if weight.dtype.kind != "f" or (bias is not None and bias.size not in (1, columns)):
        return None
    spread = np.zeros(columns) if bias is None else np.broadcast_to(bias.reshape(-1), (columns,))
    stem = str(product.inputs[1].name) if product.inputs[1] is not None else str(value.name)
    return Projection(product.inputs[0], weight.astype(np.float64), spread, bias is not None, weight.dtype, stem)
