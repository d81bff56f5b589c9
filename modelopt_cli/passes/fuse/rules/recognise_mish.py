"""x times the hyperbolic tangent of its softplus is a Mish."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import only_made_for, operands

MISH_OPSET = 18


@dataclass(frozen=True)
class Found:
    """The product, and x."""

    node: ir.Node
    source: ir.Value


class RecogniseMish(Rule[Found]):
    """Give the decomposed activation its name (Misra, https://arxiv.org/abs/1908.08681).

    x * Tanh(Softplus(x)) -> Mish(x)                                                  (opset 18)
    x * Tanh(Log(Exp(x) + 1)) -> Mish(x)
    """

    name = "recognise-mish"
    roots = frozenset({"Mul"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        for source, gate in operands(node):
            tanh = only_made_for(gate, node, "Tanh")
            if tanh is not None and _softplus_of(tanh) is source:
                return Found(node, source)
        return None

    def check(self, found: Found, graph: Editor) -> str | None:
        if graph.opset >= MISH_OPSET:
            return None
        graph.wish(MISH_OPSET)
        return f"Mish is an operator from opset {MISH_OPSET} on"

    def rewrite(self, found: Found, graph: Editor) -> None:
        out = found.node.outputs[0]
        graph.replace(out, graph.add("Mish", [found.source], like=out, before=found.node))


def _softplus_of(reader: ir.Node) -> ir.Value | None:
    value = reader.inputs[0]
    if (named := only_made_for(value, reader, "Softplus")) is not None:
        return named.inputs[0]
    log = only_made_for(value, reader, "Log")
    add = None if log is None else only_made_for(log.inputs[0], log, "Add")
    if add is None:
        return None
    for power, one in operands(add):
        exp = only_made_for(power, add, "Exp")
        if exp is not None and edit.scalar(one) == 1.0:
            return exp.inputs[0]
    return None
