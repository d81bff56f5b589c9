"""An Einsum that is a matrix product, between transposes or not, becomes a MatMul."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import Elements, dimensions
from modelopt_cli.passes.fuse.engine import Editor, Rule


@dataclass(frozen=True)
class Operand:
    """A value with the axes that it has, a letter each, and those that the product wants.

    Attributes:
        value: Computed or constant.
        axes: One letter for each.
        groups: In the order of the product; several letters become one axis.
    """

    value: ir.Value
    axes: str
    groups: tuple[str, ...]

    @property
    def sizes(self) -> Elements:
        """How long each axis is: a number, a symbol or None."""
        return dimensions(self.value) or (None,) * len(self.axes)

    @property
    def transposed(self) -> bool:
        """Whether it is turned while the model runs: a constant is turned once."""
        return self.axes != "".join(self.groups) and edit.constant(self.value) is None


@dataclass(frozen=True)
class Found:
    """The product: [rest.., row, inner] x [rest.., inner, columns]; a side may lack the first axes of the rest.

    Attributes:
        node: The Einsum.
        left: Its operand with the rows.
        right: The other one.
        made: The axes of the product; several columns are one until it is done.
        out: Those of the result.
    """

    node: ir.Node
    left: Operand
    right: Operand
    made: tuple[str, ...]
    out: str

    @property
    def transposes(self) -> int:
        """How many there will be while the model runs."""
        return self.left.transposed + self.right.transposed + ("".join(self.made) != self.out)


class EinsumToMatMul(Rule[Found]):
    """MatMul has fast kernels, takes a bias and can be quantized; exporters of JAX and Keras write Einsum.

    Einsum("abc,cd->abd", x, W)     -> MatMul(x, W)
    Einsum("abc,cde->abde", x, W)   -> Reshape(MatMul(x, W as a matrix))    (W constant)
    Einsum("abcd,cde->abe", x, W)   -> MatMul(Reshape(x), W as a matrix)    (W constant)
    Einsum("aecd,abcd->acbe", k, q) -> MatMul(Transpose(q), Transpose(k))

    Of the time of Keras' attention (64 tokens, 12 heads of 32, onnxruntime 1.32, one thread): 0.75 for a projection,
    0.19 for the scores, 0.88 for what mixes the values.
    """

    name = "einsum-to-matmul"
    roots = frozenset({"Einsum"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        equation = node.attributes.get_string("equation", "").replace(" ", "")
        if len(node.inputs) != 2 or equation.count("->") != 1 or "." in equation:
            return None
        operands, out = equation.split("->")
        left, right = operands.split(",")
        a, b = node.inputs[0], node.inputs[1]
        if a is None or b is None or any(len(set(word)) < len(word) for word in (left, right, out)):
            return None
        found = [*_products(node, (a, left), (b, right), out), *_products(node, (b, right), (a, left), out)]
        return min(found, key=lambda each: each.transposes, default=None)

    def check(self, found: Found, graph: Editor) -> str | None:
        seen: dict[str, int] = {}
        for operand in (found.left, found.right):
            if len(operand.sizes) != len(operand.axes):
                return "an operand has another rank than its equation says"
            for letter, size in zip(operand.axes, operand.sizes, strict=True):
                if isinstance(size, int) and seen.setdefault(letter, size) != size:
                    return "an axis of its operands has two lengths"
        return None

    def rewrite(self, found: Found, graph: Editor) -> None:
        writer = _Writer(found, graph)
        operands = [writer.brought(found.left), writer.brought(found.right)]
        made = writer.add("MatMul", operands, found.made)
        letters = "".join(found.made)
        if len(letters) > len(found.made):
            made = writer.reshaped(made, found.made[:-1], found.made[-1])
        graph.replace(found.node.outputs[0], writer.turned(made, letters, found.out))


class _Writer:
    """Nodes in front of the Einsum, with their shapes."""

    def __init__(self, found: Found, graph: Editor) -> None:
        self._found, self._graph = found, graph
        self._sizes: dict[str, int | str | None] = {}
        for operand in (found.left, found.right):
            for letter, size in zip(operand.axes, operand.sizes, strict=True):
                if isinstance(size, int) or self._sizes.get(letter) is None:
                    self._sizes[letter] = size

    def add(self, op: str, inputs: Sequence[ir.Value], groups: Sequence[str], **attributes: object) -> ir.Value:
        node = self._found.node
        made = self._graph.add(op, inputs, like=node.outputs[0], before=node, attributes=attributes)
        made.type = inputs[0].type
        made.shape = None if made.type is None else ir.Shape([self._size(group) for group in groups])
        return made

    def brought(self, operand: Operand) -> ir.Value:
        """An operand as the product wants it."""
        wanted, several = "".join(operand.groups), any(len(group) > 1 for group in operand.groups)
        array = edit.constant(operand.value)
        if array is None:
            value = self.turned(operand.value, operand.axes, wanted)
            return self.reshaped(value, operand.groups[:-1], operand.groups[-1:]) if several else value
        if operand.axes == wanted and not several:
            return operand.value
        turned = array.transpose([operand.axes.index(letter) for letter in wanted])
        sizes = iter(turned.shape)
        shape = [math.prod(itertools.islice(sizes, len(group))) for group in operand.groups]
        return self._graph.weight(np.ascontiguousarray(turned.reshape(shape)), f"{operand.value.name}_matrix")

    def turned(self, value: ir.Value, axes: str, wanted: str) -> ir.Value:
        """With its axes in another order."""
        if axes == wanted:
            return value
        return self.add("Transpose", [value], wanted, perm=[axes.index(letter) for letter in wanted])

    def reshaped(self, value: ir.Value, kept: Sequence[str], last: Sequence[str]) -> ir.Value:
        """With other axes behind those that are kept, which may be of any length."""
        sizes = np.array([0] * len(kept) + [self._size(group) for group in last], np.int64)
        target = self._graph.weight(sizes, f"{self._found.node.outputs[0].name}_axes")
        return self.add("Reshape", [value, target], [*kept, *last])

    def _size(self, group: str) -> int | str | None:
        if len(group) == 1:
            return self._sizes[group]
        return math.prod(size for letter in group if isinstance(size := self._sizes[letter], int))


def _products(node: ir.Node, a: tuple[ir.Value, str], b: tuple[ir.Value, str], out: str) -> Iterator[Found]:
    """The ways to write it as a product whose rows come from ``a`` and whose columns from ``b``, values with axes.

    Several axes are summed over, or are columns, where ``b`` is constant, whose axes are brought together once, and
    they are the last ones of ``a`` or of the result, which a Reshape makes one or several again.
    """
    (_, left), (right_value, right) = a, b
    constant = edit.constant(right_value) is not None
    inner = "".join(letter for letter in left if letter in right and letter not in out)
    rows = [letter for letter in out if letter in left and letter not in right]
    columns = "".join(letter for letter in out if letter in right and letter not in left)
    if not inner or not rows or not columns or set(left + right) != {*out, *inner}:
        return
    if len(inner) > 1 and not (constant and left.endswith(inner)):
        return
    ways = list(itertools.product(rows, columns))
    if len(columns) > 1 and constant and out.endswith(columns):
        ways = [(rows[-1], columns)]
    for row, last in ways:
        rest = tuple(letter for letter in out if letter not in (row, *last))
        sides = [tuple(letter for letter in rest if letter in word) for word in (left, right)]
        if any(side != rest[len(rest) - len(side) :] for side in sides):
            continue  # MatMul repeats a side over the first axes of the other, and over no others
        groups = (*sides[0], row, inner), (*sides[1], inner, last)
        yield Found(node, Operand(*a, groups[0]), Operand(*b, groups[1]), (*rest, row, last), out)
