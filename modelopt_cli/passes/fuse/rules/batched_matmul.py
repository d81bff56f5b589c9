"""A MatMul takes batch axes as they are: nothing has to join them before it, and take them apart behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.arithmetic import product
from modelopt_cli.graph.shapes import Element, Elements, dimensions, rank
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import made_by

JOINED = 3  # axes of an operand whose batch axes are one


@dataclass(frozen=True)
class Operand:
    """What was reshaped to one batch of matrices, and how it would be several.

    Attributes:
        value: Before the Reshape.
        batch: How many of its first axes are the batch.
        matrix: The two axes of a matrix.
        transposed: Whether its matrices are turned before the product.
    """

    value: ir.Value
    batch: int
    matrix: tuple[Element, Element]
    transposed: bool


@dataclass(frozen=True)
class Found:
    """The product and its operands."""

    node: ir.Node
    left: Operand
    right: Operand


class BatchedMatMul(Rule[Found]):
    """As tf2onnx writes Einsum, attention of Keras among them.

    Reshape(MatMul(Reshape(a, [b c, m, k]), Reshape(b, [b c, k, n])), shape)
    -> Reshape(MatMul(Reshape(a, [b, c, m, k]), Reshape(b, [b, c, k, n])), shape)

    The Reshapes that are left are of known shapes, and mostly none.
    """

    name = "batched-matmul"
    roots = frozenset({"MatMul"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        reader = edit.only_reader(node.outputs[0])
        if reader is None or reader.op_type != "Reshape" or not _stands_alone(reader, graph):
            return None
        left, right = _operand(node.inputs[0]), _operand(node.inputs[1])
        if left is None or right is None:
            return None
        first, second = dimensions(left.value), dimensions(right.value)
        if first is None or second is None or first[: left.batch] != second[: right.batch]:
            return None
        return Found(node, left, right)

    def rewrite(self, found: Found, graph: Editor) -> None:
        node, out = found.node, found.node.outputs[0]
        inputs = [_batched(operand, node, graph) for operand in (found.left, found.right)]
        made = graph.add("MatMul", inputs, like=out, before=node)
        made.shape = None
        graph.replace(out, made)


def _stands_alone(reshape: ir.Node, graph: Editor) -> bool:
    """Whether the Reshape means the same whatever the axes before it are: it takes over none of them."""
    shape = graph.shapes.elements(reshape.inputs[1])
    return shape is not None and 0 not in shape


def _operand(value: ir.Value | None) -> Operand | None:
    turn = made_by(value, "Transpose")
    if turn is not None and tuple(turn.attributes.get_ints("perm", ())) != (0, 2, 1):
        return None
    reshape = made_by(value if turn is None else turn.inputs[0], "Reshape")
    if reshape is None or rank(reshape.outputs[0]) != JOINED:
        return None
    source, joined = reshape.inputs[0], dimensions(reshape.outputs[0])
    before = dimensions(source)
    if source is None or joined is None or before is None or None in joined or None in before:
        return None
    batch = _batch_axes(before, joined)
    if batch is None or (before[batch:] != joined[1:] and not any(isinstance(size, int) for size in joined[1:])):
        return None
    return Operand(source, batch, (joined[1], joined[2]), turn is not None)


def _batch_axes(before: Elements, joined: Elements) -> int | None:
    """How many of the first axes are joined, two or more; a matrix may have been of more than two axes."""
    counts = (n for n in range(2, len(before)) if product(before[:n]) == joined[0])
    return next((n for n in counts if product(before[n:]) == product(joined[1:])), None)


def _batched(operand: Operand, node: ir.Node, graph: Editor) -> ir.Value:
    value, (rows, columns) = operand.value, operand.matrix
    before = dimensions(value)
    assert before is not None
    if before[operand.batch :] != (rows, columns):
        sizes = [0] * operand.batch + [size if isinstance(size, int) else -1 for size in (rows, columns)]
        shape = graph.weight(np.array(sizes, np.int64), f"{value.name}_matrices")
        value = _made(
            graph.add("Reshape", [value, shape], like=value, before=node), (*before[: operand.batch], rows, columns)
        )
    if operand.transposed:
        axes = (*range(operand.batch), operand.batch + 1, operand.batch)
        attributes: dict[str, object] = {"perm": axes}
        turned = graph.add("Transpose", [value], like=value, before=node, attributes=attributes)
        value = _made(turned, (*before[: operand.batch], columns, rows))
    return value


def _made(value: ir.Value, dims: Elements) -> ir.Value:
    value.shape = ir.Shape(dims)
    return value
