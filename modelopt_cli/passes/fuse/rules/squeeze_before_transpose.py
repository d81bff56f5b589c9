"""Axes of length one go before a Transpose instead of behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.shapes import Elements, dimensions
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import only_made_for


@dataclass(frozen=True)
class Found:
    """The node that drops axes, the Transpose before it, and the axes of what that reads which stay."""

    node: ir.Node
    transpose: ir.Node
    kept: tuple[int, ...]


class SqueezeBeforeTranspose(Rule[Found]):
    """Where it meets the Reshape that made them, and patterns of fewer axes are known again; tf2onnx's Einsum has them.

    Reshape(Transpose(x: [a, b, c, 1], [0, 2, 1, 3]), [a, c, b]) -> Transpose(Reshape(x, [a, b, c]), [0, 2, 1])
    """

    name = "squeeze-before-transpose"
    roots = frozenset({"Reshape", "Squeeze"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        transpose = only_made_for(node.inputs[0], node, "Transpose")
        perm = () if transpose is None else tuple(transpose.attributes.get_ints("perm", ()))
        turned = dimensions(node.inputs[0])
        gone = None if turned is None else _gone(node, turned, graph)
        if transpose is None or not perm or gone is None:
            return None
        kept = tuple(axis for axis in range(len(perm)) if axis not in {perm[index] for index in gone})
        before = dimensions(transpose.inputs[0])
        if before is None or _target(before, kept) is None:
            return None
        return Found(node, transpose, kept)

    def rewrite(self, found: Found, graph: Editor) -> None:
        source, out = found.transpose.inputs[0], found.node.outputs[0]
        before = dimensions(source)
        assert source is not None and before is not None
        shape = graph.weight(np.array(_target(before, found.kept), np.int64), f"{out.name}_squeezed")
        squeezed = graph.add("Reshape", [source, shape], like=source, before=found.node)
        squeezed.shape = ir.Shape([before[axis] for axis in found.kept])
        perm = [axis for axis in found.transpose.attributes.get_ints("perm", ()) if axis in found.kept]
        attributes: dict[str, object] = {"perm": tuple(found.kept.index(axis) for axis in perm)}
        graph.replace(out, graph.add("Transpose", [squeezed], like=out, before=found.node, attributes=attributes))


def _gone(node: ir.Node, before: Elements, graph: Editor) -> set[int] | None:
    """Axes that the node drops, all of length one; None where it does anything else."""
    axes = graph.shapes.numbers(node.inputs[1]) if node.op_type == "Squeeze" and len(node.inputs) > 1 else None
    if axes:
        return {axis % len(before) for axis in axes}
    after = dimensions(node.outputs[0])
    return None if after is None or len(after) >= len(before) else _dropped(before, after)


def _dropped(before: Elements, after: Elements) -> set[int] | None:
    """Axes of length one that ``before`` has and ``after`` lacks; None where there is another difference."""
    gone: set[int] = set()
    rest = list(after)
    for index, size in enumerate(before):
        if size is not None and rest and rest[0] == size:
            rest.pop(0)
        elif size == 1:
            gone.add(index)
        else:
            return None
    return None if rest or not gone else gone


def _target(before: Elements, kept: tuple[int, ...]) -> list[int] | None:
    """What a Reshape needs to keep these axes: numbers, 0 for what stays in its place, and one -1."""
    sizes = []
    for index, axis in enumerate(kept):
        size = before[axis]
        if size is None:
            return None
        sizes.append(size if isinstance(size, int) else 0 if index == axis else -1)
    return sizes if sizes.count(-1) <= 1 and 0 not in (size for size in before if isinstance(size, int)) else None
