"""Parts of a value that go through a sequence are the outputs of a Split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import dimensions
from modelopt_cli.passes.fuse.engine import Editor, Rule

SIZES_AS_INPUT_OPSET = 13


@dataclass(frozen=True)
class Found:
    """The node that makes the sequence, the sizes of its parts, and the nodes that take one out, by position."""

    node: ir.Node
    sizes: tuple[int, ...] | None
    readers: dict[ir.Node, int | None]


class SequenceToSplit(Rule[Found]):
    """SequenceAt(SplitToSequence(x, sizes), i) -> output i of Split(x, sizes); PyTorch's exporter writes chunk() so."""

    name = "sequence-to-split"
    roots = frozenset({"SplitToSequence"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        out = node.outputs[0]
        readers = [usage.node for usage in out.uses()]
        if out.is_graph_output() or not readers or any(reader.op_type != "SequenceAt" for reader in readers):
            return None
        return Found(node, _sizes(node), {reader: _position(reader) for reader in readers})

    def check(self, found: Found, graph: Editor) -> str | None:
        if graph.opset < SIZES_AS_INPUT_OPSET:
            return f"Split has its sizes as input from opset {SIZES_AS_INPUT_OPSET} on"
        if not found.node.attributes.get_int("keepdims", 1) and len(found.node.inputs) < 2:
            return "it drops the axis"
        if found.sizes is None or any(index is None for index in found.readers.values()):
            return "which parts are taken, or their sizes, is computed"
        count = len(found.sizes)
        inside = all(index is not None and -count <= index < count for index in found.readers.values())
        return None if inside else "a part is taken that is not there"

    def rewrite(self, found: Found, graph: Editor) -> None:
        node, sizes = found.node, found.sizes
        assert sizes is not None
        first = next(iter(found.readers)).outputs[0]
        source = node.inputs[0]
        given = graph.weight(np.array(sizes, np.int64), f"{first.name}_sizes")
        attributes: dict[str, object] = {"axis": node.attributes.get_int("axis", 0)}
        one = graph.add("Split", [source, given], like=first, before=node, attributes=attributes)
        split = one.producer()
        assert split is not None
        split.resize_outputs(len(sizes))
        for position, out in enumerate(split.outputs):
            out.name = out.name or edit.fresh_name(graph.graph, f"{first.name}_part_{position}")
            out.type = first.type
        one.shape = None
        for reader, index in found.readers.items():
            assert index is not None
            graph.replace(reader.outputs[0], split.outputs[index])


def _position(reader: ir.Node) -> int | None:
    number = edit.constant(reader.inputs[1])
    return None if number is None else int(number.reshape(-1)[0])


def _sizes(node: ir.Node) -> tuple[int, ...] | None:
    """Sizes of the parts along the axis; ones when none are given."""
    dims = dimensions(node.inputs[0])
    axis = node.attributes.get_int("axis", 0)
    total = None if dims is None else dims[axis]
    if not isinstance(total, int):
        return None
    given = edit.constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else np.array(1)
    if given is None:
        return None
    if given.ndim == 0:
        size = int(given)
        rest = (total % size,) if total % size else ()
        return (size,) * (total // size) + rest
    return tuple(int(size) for size in given)
