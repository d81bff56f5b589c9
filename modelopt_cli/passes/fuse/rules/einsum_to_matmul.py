"""An Einsum that is a matrix product becomes a MatMul."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.engine import Editor, Rule


@dataclass(frozen=True)
class Found:
    """The Einsum, its operands in order, and whether the second one's last two axes are the other way round."""

    node: ir.Node
    left: ir.Value
    right: ir.Value
    turned: bool


class EinsumToMatMul(Rule[Found]):
    """MatMul has fast kernels, takes a bias and can be quantized; exporters of JAX write Einsum.

    Einsum("abc,cd->abd", x, W) -> MatMul(x, W)
    Einsum("abc,dc->abd", x, W) -> MatMul(x, transposed W)     (W constant)
    Einsum("bhqd,bhdk->bhqk", q, k) -> MatMul(q, k)
    """

    name = "einsum-to-matmul"
    roots = frozenset({"Einsum"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        equation = node.attributes.get_string("equation", "").replace(" ", "")
        if len(node.inputs) != 2 or equation.count("->") != 1 or "." in equation:
            return None
        operands, out = equation.split("->")
        one, other = operands.split(",")
        a, b = node.inputs[0], node.inputs[1]
        if a is None or b is None:
            return None
        for left, right, x, y in ((one, other, a, b), (other, one, b, a)):
            turned = _turned(left, right, out)
            if turned is not None:
                return Found(node, x, y, turned)
        return None

    def check(self, found: Found, graph: Editor) -> str | None:
        computed = edit.constant(found.right) is None
        return "its second operand would have to be transposed" if found.turned and computed else None

    def rewrite(self, found: Found, graph: Editor) -> None:
        out, right, array = found.node.outputs[0], found.right, edit.constant(found.right)
        if found.turned and array is not None:
            right = graph.weight(array.swapaxes(-1, -2), f"{found.right.name}_transposed")
        graph.replace(out, graph.add("MatMul", [found.left, right], like=out, before=found.node))


def _turned(left: str, right: str, out: str) -> bool | None:
    """Whether ``right`` is [.., columns, inner] instead of [.., inner, columns]; None when it is no matrix product."""
    if len(left) < 2 or len(right) < 2 or any(len(set(word)) < len(word) for word in (left, right, out)):
        return None
    inner, column, shared = left[-1], out[-1:], right[:-2]
    if inner in out or out != left[:-1] + column or column in left:
        return None
    if shared and shared != left[:-2]:  # MatMul repeats a matrix over all that comes before, or none
        return None
    return {(inner, column): False, (column, inner): True}.get((right[-2], right[-1]))
