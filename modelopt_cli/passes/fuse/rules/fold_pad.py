"""Zero padding before a convolution is the convolution's own padding."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import only_made_for


@dataclass(frozen=True)
class Found:
    """The Conv, the Pad before it, and the padding as begins and ends of all axes; None when it is computed."""

    node: ir.Node
    pad: ir.Node
    pads: tuple[int, ...] | None


class FoldPad(Rule[Found]):
    """Conv(Pad(x, p, 0), q) -> Conv(x, p + q), when only the spatial axes are padded."""

    name = "fold-pad"
    roots = frozenset({"Conv"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        pad = only_made_for(node.inputs[0], node, "Pad")
        return None if pad is None else Found(node, pad, padding(pad, graph))

    def check(self, found: Found, graph: Editor) -> str | None:
        mode = found.pad.attributes.get_string("mode", "constant")
        if mode != "constant":
            return f"it pads by mode '{mode}'"
        if found.pads is None:
            return "the padding is computed"
        value = found.pad.inputs[2] if len(found.pad.inputs) > 2 else None
        fill = found.pad.attributes.get_float("value", 0.0) if value is None else edit.scalar(value)
        if fill != 0.0:
            return "it pads with another number than 0"
        axes = len(found.pads) // 2
        if any(found.pads[axis] or found.pads[axis + axes] for axis in (0, 1)):
            return "it pads the batch or the channels"
        if min(found.pads) < 0:
            return "it crops"
        if found.node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            return "the convolution chooses its own padding"
        return None

    def rewrite(self, found: Found, graph: Editor) -> None:
        assert found.pads is not None
        axes = len(found.pads) // 2
        spatial = [*found.pads[2:axes], *found.pads[axes + 2 :]]
        own = found.node.attributes.get_ints("pads", [0] * len(spatial))
        graph.drop_attribute(found.node, "auto_pad")
        graph.set_attribute(found.node, "pads", [a + b for a, b in zip(spatial, own, strict=True)])
        graph.set_input(found.node, 0, found.pad.inputs[0])


def padding(pad: ir.Node, graph: Editor) -> tuple[int, ...] | None:
    """The padding of a Pad as begins and ends of all axes; None when it is computed."""
    if len(pad.inputs) < 2:
        return tuple(pad.attributes.get_ints("pads", ())) or None
    if len(pad.inputs) > 3 and pad.inputs[3] is not None:
        return _spread(pad, graph)
    return graph.shapes.numbers(pad.inputs[1])


def _spread(pad: ir.Node, graph: Editor) -> tuple[int, ...] | None:
    """Padding of some axes (an input since opset 18) as padding of all."""
    axes, pads = graph.shapes.numbers(pad.inputs[3]), graph.shapes.numbers(pad.inputs[1])
    source = pad.inputs[0]
    if axes is None or pads is None or source is None or source.shape is None:
        return None
    count = len(source.shape)
    full = [0] * (2 * count)
    for position, axis in enumerate(axes):
        full[axis % count] = pads[position]
        full[axis % count + count] = pads[position + len(axes)]
    return tuple(full)
