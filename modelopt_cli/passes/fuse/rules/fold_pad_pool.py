"""Padding before a pooling is the pooling's own padding."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import clip_bounds, only_made_for
from modelopt_cli.passes.fuse.rules.fold_pad import padding

NOT_NEGATIVE = frozenset({"Relu", "Sigmoid", "Softmax", "Exp", "Abs", "HardSigmoid", "Sqrt", "Softplus"})


@dataclass(frozen=True)
class Found:
    """The pooling, the Pad before it, and the padding as begins and ends of all axes; None when it is computed."""

    node: ir.Node
    pad: ir.Node
    pads: tuple[int, ...] | None


class FoldPadPool(Rule[Found]):
    """Give the padding to the pooling, where it means the same there.

    AveragePool(Pad(x, p, 0)) -> AveragePool(x, p, count_include_pad = 1)
    MaxPool(Pad(x, p, -inf)) -> MaxPool(x, p);  MaxPool(Pad(x, p, 0)) -> MaxPool(x, p) for x >= 0
    """

    name = "fold-pad-pool"
    roots = frozenset({"MaxPool", "AveragePool"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        pad = only_made_for(node.inputs[0], node, "Pad")
        return None if pad is None else Found(node, pad, padding(pad, graph))

    def check(self, found: Found, graph: Editor) -> str | None:
        node, pad = found.node, found.pad
        if pad.attributes.get_string("mode", "constant") != "constant":
            return "it does not pad with a constant"
        if found.pads is None:
            return "the padding is computed"
        axes = len(found.pads) // 2
        if min(found.pads) < 0 or any(found.pads[axis] or found.pads[axis + axes] for axis in (0, 1)):
            return "it crops, or pads the batch or the channels"
        if node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            return "the pooling chooses its own padding"
        if node.attributes.get_int("ceil_mode", 0):
            return "the pooling rounds its size up, and would count its own padding otherwise"
        kernel = node.attributes.get_ints("kernel_shape", ())
        if any(max(b, e) >= k for b, e, k in zip(*_spatial(found, axes), kernel, strict=True)):
            return "some windows would see nothing but padding"
        return self._check_values(found)

    def _check_values(self, found: Found) -> str | None:
        pad, own = found.pad, any(found.node.attributes.get_ints("pads", ()))
        value = pad.inputs[2] if len(pad.inputs) > 2 else None
        fill = pad.attributes.get_float("value", 0.0) if value is None else edit.scalar(value)
        if found.node.op_type == "AveragePool":
            if fill != 0.0:
                return "it pads with another number than 0"
            counts = found.node.attributes.get_int("count_include_pad", 0) == 1
            return "the pooling pads too, and does not count what it pads" if own and not counts else None
        if any(out.uses() or out.is_graph_output() for out in found.node.outputs[1:]):
            return "the indices count the padding"
        if fill == float("-inf") or (fill == 0.0 and _is_not_negative(pad.inputs[0])):
            return None
        return "what it pads with may win over the values"

    def rewrite(self, found: Found, graph: Editor) -> None:
        assert found.pads is not None
        begins, ends = _spatial(found, len(found.pads) // 2)
        graph.drop_attribute(found.node, "auto_pad")
        graph.set_attribute(found.node, "pads", [*begins, *ends])
        if found.node.op_type == "AveragePool":
            graph.set_attribute(found.node, "count_include_pad", 1)
        graph.set_input(found.node, 0, found.pad.inputs[0])


def _spatial(found: Found, axes: int) -> tuple[list[int], list[int]]:
    """Begins and ends of the padding of both nodes together."""
    assert found.pads is not None
    spatial = axes - 2
    own = found.node.attributes.get_ints("pads", [0] * (2 * spatial))
    begins = [a + b for a, b in zip(found.pads[2:axes], own[:spatial], strict=True)]
    ends = [a + b for a, b in zip(found.pads[axes + 2 :], own[spatial:], strict=True)]
    return begins, ends


def _is_not_negative(value: ir.Value | None) -> bool:
    node = None if value is None else value.producer()
    bounds = clip_bounds(node)
    return (bounds is not None and bounds[0] >= 0) or (node is not None and node.op_type in NOT_NEGATIVE)
