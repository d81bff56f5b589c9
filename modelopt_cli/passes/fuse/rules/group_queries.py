"""Keys and values that several heads share are multiplied with all of them at once, not repeated for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.shapes import Elements, dimensions
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.heads import LAST_TWO
from modelopt_cli.passes.fuse.pattern import made_by


@dataclass(frozen=True)
class Found:
    """The product, what is shared, its Transpose behind the repetition if any, and how many heads share one."""

    product: ir.Node
    shared: ir.Value
    transpose: ir.Node | None
    heads: int
    groups: int


class GroupQueries(Rule[Found]):
    """Grouped-query attention (https://arxiv.org/abs/2305.13245) without copies of keys and values.

    MatMul(q: [b, h, s, d], repeat(k: [b, h / g, t, d], g)^T)
        =>   Reshape(MatMul(Reshape(q, [b, h / g, g s, d]), k^T), [b, h, s, t])

    The heads of a group lie one after the other, so both Reshapes move nothing.
    """

    name = "group-queries"
    roots = frozenset({"MatMul"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        transpose = made_by(node.inputs[1], "Transpose")
        if transpose is not None and tuple(transpose.attributes.get_ints("perm", ())) != LAST_TWO:
            return None
        repeated = node.inputs[1] if transpose is None else transpose.inputs[0]
        shared, query = _repeats(repeated, graph), dimensions(node.inputs[0])
        after, before = dimensions(repeated), dimensions(shared)
        if shared is None or query is None or after is None or before is None or len(query) != 4:
            return None
        heads, few = after[1], before[1]
        if not isinstance(heads, int) or not isinstance(few, int) or query[1] != heads:
            return None
        return Found(node, shared, transpose, heads, few)

    def rewrite(self, found: Found, graph: Editor) -> None:
        node, out = found.product, found.product.outputs[0]
        query = node.inputs[0]
        assert query is not None
        operand = found.shared
        if found.transpose is not None:
            dims = dimensions(operand)
            assert dims is not None
            attributes: dict[str, object] = {"perm": LAST_TWO}
            operand = graph.add("Transpose", [operand], like=operand, before=node, attributes=attributes)
            operand.shape = ir.Shape([*dims[:2], dims[3], dims[2]])
        grouped = _reshape(graph, query, [0, found.groups, -1, 0], found.groups, node)
        product = graph.add("MatMul", [grouped, operand], like=grouped, before=node)
        sizes, last = dimensions(grouped), dimensions(out)
        assert sizes is not None
        product.shape = ir.Shape([*sizes[:3], None if last is None else last[-1]])
        result = _reshape(graph, product, [0, found.heads, -1, 0], found.heads, node)
        result.shape = out.shape
        graph.replace(out, result)


def _repeats(value: ir.Value | None, graph: Editor) -> ir.Value | None:
    """The x of ``Reshape(Expand(x: [b, k, 1, t, d], [b, k, g, t, d]), [b, k g, t, d])``."""
    reshape = made_by(value, "Reshape")
    expand = made_by(None if reshape is None else reshape.inputs[0], "Expand")
    split = made_by(None if expand is None else expand.inputs[0], "Unsqueeze", "Reshape")
    if reshape is None or expand is None or split is None:
        return None
    few, one, many = (dimensions(each) for each in (split.inputs[0], split.outputs[0], value))
    if few is None or one is None or many is None or len(few) != 4 or len(one) != 5 or len(many) != 4:
        return None
    target = graph.shapes.elements(expand.inputs[1])
    if one != (*few[:2], 1, *few[2:]) or None in one or target is None or len(target) != 5:
        return None
    return split.inputs[0] if _copies(few, target, many) else None


def _copies(few: Elements, target: Elements, many: Elements) -> bool:
    """Whether only the new axis is expanded: an Expand of another would leave more elements than the result has."""
    heads, copies = few[1], target[2]
    if not isinstance(heads, int) or not isinstance(copies, int):
        return False
    return many == (few[0], heads * copies, *few[2:])


def _reshape(graph: Editor, value: ir.Value, target: list[int], heads: int, before: ir.Node) -> ir.Value:
    shape = graph.weight(np.array(target, np.int64), f"{value.name}_shape")
    result = graph.add("Reshape", [value, shape], like=value, before=before)
    dims = dimensions(value)
    assert dims is not None
    result.shape = ir.Shape([dims[0], heads, None, dims[3]])
    return result
