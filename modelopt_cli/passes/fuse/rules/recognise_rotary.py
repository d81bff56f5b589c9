"""Rotary position embedding, spelled out in halves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import dimensions
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import made_by, only_made_for, operands

OPSET = 23
END = 2**31 - 1  # from here on an end means "to the end"


@dataclass(frozen=True)
class Angles:
    """Cosines or sines of angles [batch or 1, length, size / 2], and what they are multiplied with."""

    function: str
    angles: ir.Value
    factor: float
    spread: ir.Value


@dataclass(frozen=True)
class Found:
    """The Add at the end, what is rotated [batch, heads, length, size], and the angles' cosines and sines."""

    node: ir.Node
    source: ir.Value
    cos: Angles | None
    sin: Angles | None


class RecogniseRotary(Rule[Found]):
    """Give the rotation of pairs its name (https://arxiv.org/abs/2104.09864).

    x * c + Concat(-x[d / 2 :], x[: d / 2]) * s   =>   RotaryEmbedding(x, cos a, sin a)     (opset 23)

    where c and s are the cosine and sine of Concat(a, a).
    """

    name = "recognise-rotary"
    roots = frozenset({"Add"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        for straight, turned in operands(node):
            plain, crossed = only_made_for(straight, node, "Mul"), only_made_for(turned, node, "Mul")
            if plain is None or crossed is None:
                continue
            for rotated, sin in operands(crossed):
                source = _rotates(rotated, graph)
                cos = [other for x, other in operands(plain) if x is source]
                if source is not None and cos:
                    return Found(node, source, _angles(cos[0]), _angles(sin))
        return None

    def check(self, found: Found, graph: Editor) -> str | None:
        cos, sin, dims = found.cos, found.sin, dimensions(found.source)
        if cos is None or sin is None or (cos.function, sin.function) != ("Cos", "Sin") or cos.angles is not sin.angles:
            return "its factors are not the cosine and sine of one set of angles, joined to itself"
        angles = dimensions(cos.angles)
        if dims is None or angles is None or None in dims[:1] or angles[0] not in (1, dims[0]) or angles[1] != dims[2]:
            return "the length or batch of its angles is not known to be that of the data"
        if graph.opset < OPSET:
            graph.wish(OPSET)
            return f"RotaryEmbedding is an operator from opset {OPSET} on"
        return None

    def rewrite(self, found: Found, graph: Editor) -> None:
        assert found.cos is not None and found.sin is not None
        caches = [_cache(graph, each, found.source) for each in (found.cos, found.sin)]
        out = found.node.outputs[0]
        graph.replace(out, graph.add("RotaryEmbedding", [found.source, *caches], like=out, before=found.node))


def _rotates(value: ir.Value, graph: Editor) -> ir.Value | None:
    """The x of ``Concat(-x[..., d / 2 :], x[..., : d / 2])`` with rank 4."""
    concat = made_by(value, "Concat")
    if concat is None or len(concat.inputs) != 2 or concat.attributes.get_int("axis", 0) not in (-1, 3):
        return None
    negated = made_by(concat.inputs[0], "Neg")
    upper = _half(None if negated is None else negated.inputs[0], graph)
    lower = _half(concat.inputs[1], graph)
    if upper is None or lower is None or upper[0] is not lower[0] or (upper[1], lower[1]) != (1, 0):
        return None
    return upper[0]


def _half(value: ir.Value | None, graph: Editor) -> tuple[ir.Value, int] | None:
    """What ``value`` is the first (0) or the second (1) half of, along the last of four axes."""
    node = None if value is None else value.producer()
    source = None if node is None or not node.inputs else node.inputs[0]
    dims = dimensions(source)
    if value is None or node is None or source is None or dims is None or len(dims) != 4:
        return None
    size, half = dims[3], dimensions(value)
    if not isinstance(size, int) or size % 2 or half is None or half[-1] != size // 2:
        return None
    if node.op_type == "Split" and node.attributes.get_int("axis", 0) in (-1, 3) and len(node.outputs) == 2:
        return source, list(node.outputs).index(value)
    if node.op_type != "Slice" or len(node.inputs) < 4:
        return None
    start, end, axis = (graph.shapes.numbers(each) for each in node.inputs[1:4])
    step = graph.shapes.numbers(node.inputs[4]) if len(node.inputs) > 4 else (1,)
    if axis not in ((3,), (-1,)) or step != (1,) or start is None or end is None or len(start) != 1 or len(end) != 1:
        return None
    if start[0] == 0 and end[0] in (size // 2, -size // 2):
        return source, 0
    return (source, 1) if start[0] in (size // 2, -size // 2) and (end[0] == size or end[0] >= END) else None


def _angles(value: ir.Value | None) -> Angles | None:
    """The angles behind ``Unsqueeze(Cos(Concat(a, a)) * factor, 1)``."""
    spread = made_by(value, "Unsqueeze", "Reshape")
    inner = None if spread is None else spread.inputs[0]
    before, after = dimensions(inner), dimensions(value)
    if value is None or before is None or after is None or len(before) != 3 or after != (before[0], 1, *before[1:]):
        return None
    factor, scaled = 1.0, made_by(inner, "Mul")
    if scaled is not None:
        for made, other in operands(scaled):
            if (number := edit.scalar(other)) is not None:
                inner, factor = made, number
    function = made_by(inner, "Cos", "Sin")
    concat = made_by(None if function is None else function.inputs[0], "Concat")
    if function is None or concat is None or len(concat.inputs) != 2 or concat.inputs[0] is not concat.inputs[1]:
        return None
    angles = concat.inputs[0]
    if angles is None or concat.attributes.get_int("axis", 0) not in (-1, 2):
        return None
    return Angles(function.op_type, angles, factor, value)


def _cache(graph: Editor, angles: Angles, source: ir.Value) -> ir.Value:
    """Cosines or sines [batch, length, size / 2], made once for all layers."""
    batch, dims = dimensions(source), dimensions(angles.angles)
    assert batch is not None and dims is not None
    key = ("rotary", angles.function, angles.angles, angles.factor, batch[0])
    if key not in graph.shared:
        readers = {usage.node for usage in angles.spread.uses()}
        first = next(node for node in graph.graph if node in readers)
        rotated = next(value for value in first.inputs if value is not angles.spread and value is not None)
        rotated = _rotates(rotated, graph) or rotated
        graph.shared[key] = _computed(graph, angles, rotated, first, expanded=dims[0] != batch[0])
    return graph.shared[key]


def _computed(graph: Editor, angles: Angles, rotated: ir.Value, before: ir.Node, *, expanded: bool) -> ir.Value:
    result = graph.add(angles.function, [angles.angles], like=angles.angles, before=before)
    if angles.factor != 1.0:
        assert result.dtype is not None
        number = graph.weight(np.array(angles.factor, result.dtype.numpy()), f"{result.name}_factor")
        result = graph.add("Mul", [result, number], like=result, before=before)
    if expanded:  # the operator does not repeat one sample's angles for the others
        batch = graph.add("Shape", [rotated], like=rotated, before=before, attributes={"start": 0, "end": 1})
        batch.type, batch.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([1])
        ones = graph.weight(np.array([1, 1], np.int64), f"{result.name}_ones")
        target = graph.add("Concat", [batch, ones], like=batch, before=before, attributes={"axis": 0})
        target.shape = ir.Shape([3])
        dims, sizes = dimensions(result), dimensions(rotated)
        assert dims is not None and sizes is not None
        result = graph.add("Expand", [result, target], like=result, before=before)
        result.shape = ir.Shape([sizes[0], *dims[1:]])
    return result
