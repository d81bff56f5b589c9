"""A Cast that loses nothing before another Cast is not needed."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import made_by

# Types whose every number the other type holds.
INTEGERS = [ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64]
UNSIGNED = [ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64]
FLOATS = [ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE]
LADDERS = ([ir.DataType.BOOL, *INTEGERS], [ir.DataType.BOOL, *UNSIGNED], [ir.DataType.BOOL, *FLOATS])


@dataclass(frozen=True)
class Found:
    """The second Cast and what the first one reads."""

    node: ir.Node
    source: ir.Value


class MergeCasts(Rule[Found]):
    """Cast(Cast(x: int32, int64), float) -> Cast(x, float): the first one is into a wider type."""

    name = "merge-casts"
    roots = frozenset({"Cast"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        first = made_by(node.inputs[0], "Cast")
        source = None if first is None else first.inputs[0]
        if source is None or source.dtype is None or first is None or first.outputs[0].dtype is None:
            return None
        return Found(node, source) if _widens(source.dtype, first.outputs[0].dtype) else None

    def rewrite(self, found: Found, graph: Editor) -> None:
        graph.set_input(found.node, 0, found.source)


def _widens(narrow: ir.DataType, wide: ir.DataType) -> bool:
    return any(narrow in ladder and wide in ladder and ladder.index(narrow) < ladder.index(wide) for ladder in LADDERS)


class CastLikeToCast(Rule[ir.Node]):
    """CastLike(x, y) -> Cast(x) to y's type, which may be folded; functions of PyTorch's exporter leave it behind."""

    name = "cast-like-to-cast"
    roots = frozenset({"CastLike"})

    def match(self, node: ir.Node, graph: Editor) -> ir.Node | None:
        like = node.inputs[1]
        return node if like is not None and like.dtype is not None else None

    def rewrite(self, found: ir.Node, graph: Editor) -> None:
        out, like = found.outputs[0], found.inputs[1]
        assert like is not None and like.dtype is not None
        attributes: dict[str, object] = {"to": int(like.dtype)}
        graph.replace(out, graph.add("Cast", [found.inputs[0]], like=out, before=found, attributes=attributes))
