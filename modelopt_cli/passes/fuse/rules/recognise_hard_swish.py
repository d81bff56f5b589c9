"""x times a clipped straight line of x is a HardSwish, up to a factor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.affine import read_affine
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import clip_bounds, is_close, linear_in, made_by, only_made_for, operands

HARD_SWISH_OPSET = 14


@dataclass(frozen=True)
class Found:
    """The last node of the pattern, x, the line of the HardSigmoid, and the factor that is left over."""

    last: ir.Node
    source: ir.Value
    alpha: float
    beta: float
    factor: float


class RecogniseHardSwish(Rule[Found]):
    """Give the decomposed activation its name, or where the opset has none, the two nodes it is made of.

    x * Clip(x + 3, 0, 6) / 6 -> HardSwish(x)                                  (opset 14)
    x * Clip(x + 3, 0, 6) / 6 -> x * HardSigmoid(x, 1/6, 0.5)
    x * HardSigmoid(x, 1/6, 0.5) -> HardSwish(x)                               (opset 14)
    """

    name = "recognise-hard-swish"
    roots = frozenset({"Mul"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        for source, gate in operands(node):
            found = _clipped(node, source, gate) or _named(node, source, gate, graph)
            if found is not None:
                return found
        return None

    def check(self, found: Found, graph: Editor) -> str | None:
        if graph.opset < HARD_SWISH_OPSET and found.last.op_type == "Mul" and found.factor != 1.0:
            return "no constant after it takes the factor"
        return None

    def rewrite(self, found: Found, graph: Editor) -> None:
        out = found.last.outputs[0]
        if graph.opset >= HARD_SWISH_OPSET and is_close(found.alpha, 1 / 6) and is_close(found.beta, 0.5):
            result = graph.add("HardSwish", [found.source], like=out, before=found.last)
        else:
            graph.wish(HARD_SWISH_OPSET)
            attributes: dict[str, object] = {"alpha": found.alpha, "beta": found.beta}
            gate = graph.add("HardSigmoid", [found.source], like=out, before=found.last, attributes=attributes)
            result = graph.add("Mul", [found.source, gate], like=out, before=found.last)
        if found.factor != 1.0:
            assert out.dtype is not None
            factor = graph.weight(np.array(found.factor, dtype=out.dtype.numpy()), f"{out.name}_factor")
            result = graph.add("Mul", [result, factor], like=out, before=found.last)
        graph.replace(out, result)


def _clipped(node: ir.Node, source: ir.Value, gate: ir.Value) -> Found | None:
    clip = only_made_for(gate, node, "Clip")
    bounds = clip_bounds(clip)
    if clip is None or bounds is None or bounds[0] != 0.0 or not 0.0 < bounds[1] < float("inf"):
        return None
    line, a, b = linear_in(clip.inputs[0], clip)
    if line is not source or source.dtype is None:
        return None
    last, factor = node, bounds[1]
    after = read_affine(edit.only_reader(node.outputs[0]))
    if after is not None and after.offset is None and after.scale is not None and after.scale.size == 1:
        last, factor = after.node, bounds[1] * float(after.scale.reshape(()))
    return Found(last, source, a / bounds[1], b / bounds[1], 1.0 if is_close(factor, 1.0) else factor)


def _named(node: ir.Node, source: ir.Value, gate: ir.Value, graph: Editor) -> Found | None:
    named = made_by(gate, "HardSigmoid")
    if named is None or named.inputs[0] is not source:
        return None
    alpha, beta = named.attributes.get_float("alpha", 0.2), named.attributes.get_float("beta", 0.5)
    if edit.only_reader(gate) is not node or not is_close(alpha, 1 / 6) or not is_close(beta, 0.5):
        return None
    if graph.opset < HARD_SWISH_OPSET:
        graph.wish(HARD_SWISH_OPSET)
        return None
    return Found(node, source, alpha, beta, 1.0)
