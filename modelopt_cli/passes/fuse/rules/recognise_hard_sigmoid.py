"""A clipped straight line is a HardSigmoid."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.affine import read_affine
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import clip_bounds, is_close, linear_in, only_made_for


@dataclass(frozen=True)
class Found:
    """The scaling at the end, the input of the line, and the line after the scaling."""

    node: ir.Node
    source: ir.Value
    alpha: float
    beta: float


class RecogniseHardSigmoid(Rule[Found]):
    """Give the decomposed activation its name.

    Clip(x + 3, 0, 6) / 6 -> HardSigmoid(x, 1/6, 0.5)
    Clip(a x + b, 0, h) * (1 / h) -> HardSigmoid(x, a / h, b / h)
    """

    name = "recognise-hard-sigmoid"
    roots = frozenset({"Div", "Mul"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        affine = read_affine(node)
        if affine is None or affine.scale is None or affine.scale.size != 1:
            return None
        clip = only_made_for(affine.source, node, "Clip")
        bounds = clip_bounds(clip)
        factor = float(affine.scale.reshape(()))
        if clip is None or bounds is None or bounds[0] != 0.0 or not is_close(bounds[1] * factor, 1.0):
            return None
        source, a, b = linear_in(clip.inputs[0], clip)
        return Found(node, source, a * factor, b * factor)

    def check(self, found: Found, graph: Editor) -> str | None:
        same = edit.only_reader(found.source) is None or found.beta != 0.0
        return None if same else "it is a Clip of a scaled value, which folds better as it is"

    def rewrite(self, found: Found, graph: Editor) -> None:
        attributes: dict[str, object] = {"alpha": found.alpha, "beta": found.beta}
        out = found.node.outputs[0]
        graph.replace(out, graph.add("HardSigmoid", [found.source], like=out, before=found.node, attributes=attributes))
