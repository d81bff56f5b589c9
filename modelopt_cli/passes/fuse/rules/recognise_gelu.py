"""The Gaussian error linear unit, in the spellings of exporters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import affine_nodes, is_close, linear_in, only_made_for, polynomial

GELU_OPSET = 20


@dataclass(frozen=True)
class Found:
    """The last product, x, every node of the pattern, and which approximation it is."""

    node: ir.Node
    source: ir.Value
    nodes: tuple[ir.Node, ...]
    approximate: str


class RecogniseGelu(Rule[Found]):
    """Give the decomposed activation its name (Hendrycks and Gimpel, https://arxiv.org/abs/1606.08415).

    0.5 * x * (1 + Erf(x / sqrt(2))) -> Gelu(x)                                              (opset 20)
    0.5 * x * (1 + Tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) -> Gelu(x, approximate="tanh")

    The polynomial may be multiplied out in any way.

    In an older opset the pattern is kept whole, because runtimes recognise it themselves.
    """

    name = "recognise-gelu"
    roots = frozenset({"Mul"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        products, factors = _factors(node)
        for position, factor in enumerate(factors):
            curve = _curve(factor)
            if curve is None:
                continue
            source, nodes, approximate, gain = curve
            rest = factors[:position] + factors[position + 1 :]
            constants = [number for value in rest if (number := edit.scalar(value)) is not None]
            others = [value for value in rest if edit.scalar(value) is None]
            if len(others) == 1 and others[0] is source and is_close(gain * math.prod(constants), 0.5):
                return Found(node, source, (*products, *nodes), approximate)
        return None

    def check(self, found: Found, graph: Editor) -> str | None:
        if graph.opset >= GELU_OPSET:
            return None
        graph.protect(found.nodes)
        graph.wish(GELU_OPSET)
        return f"Gelu is an operator from opset {GELU_OPSET} on; the runtime recognises these nodes itself"

    def rewrite(self, found: Found, graph: Editor) -> None:
        out = found.node.outputs[0]
        attributes: dict[str, object] = {"approximate": "tanh"} if found.approximate == "tanh" else {}
        graph.replace(out, graph.add("Gelu", [found.source], like=out, before=found.node, attributes=attributes))


def _factors(node: ir.Node) -> tuple[list[ir.Node], list[ir.Value]]:
    """The Mul nodes of a product of three (``(a b) c`` or ``a (b c)``, a division by 2 as a factor) and its factors."""
    nodes, factors = [node], [value for value in node.inputs if value is not None]
    for value in list(factors):
        inner = only_made_for(value, node, "Mul")
        if inner is not None and len(factors) == 2:
            nodes.append(inner)
            factors.remove(value)
            factors.extend(v for v in inner.inputs if v is not None)
    return nodes, factors


def _curve(value: ir.Value) -> tuple[ir.Value, tuple[ir.Node, ...], str, float] | None:
    """``a (1 + Erf(x / sqrt(2)))`` or ``a (1 + Tanh(...))`` as x, its nodes, the approximation and a."""
    reader = edit.only_reader(value)
    if reader is None:
        return None
    curve, a, b = linear_in(value, reader)
    if a != b or curve is value:
        return None
    outer = affine_nodes(value, curve)
    if (erf := only_made_for(curve, outer[-1], "Erf")) is not None:
        source, slope, zero = linear_in(erf.inputs[0], erf)
        inner = affine_nodes(erf.inputs[0], source)
        if is_close(slope, math.sqrt(0.5), 1e-4) and zero == 0.0 and inner:
            return source, (*outer, erf, *inner), "none", a
    if (tanh := only_made_for(curve, outer[-1], "Tanh")) is not None:
        found = polynomial(tanh.inputs[0], tanh)
        if found is not None and found.source is not None and _is_tanh_argument(found.powers):
            return found.source, (*outer, tanh, *found.nodes), "tanh", a
    return None


def _is_tanh_argument(powers: dict[int, float]) -> bool:
    """sqrt(2 / pi) (x + 0.044715 x^3)."""
    slope = math.sqrt(2 / math.pi)
    wanted = {1: slope, 3: 0.044715 * slope}
    return powers.keys() == wanted.keys() and all(is_close(powers[n], number, 1e-3) for n, number in wanted.items())
