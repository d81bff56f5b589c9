"""The Gaussian error linear unit, in the spellings of exporters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import is_close, linear_in, made_by, only_made_for, operands

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
    0.5 * x * (1 + Tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) -> Gelu(x, approximate="tanh")   (x^3 also as x * x * x)

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
            source, nodes, approximate = curve
            rest = factors[:position] + factors[position + 1 :]
            constants = [number for value in rest if (number := edit.scalar(value)) is not None]
            others = [value for value in rest if edit.scalar(value) is None]
            if len(others) == 1 and others[0] is source and len(constants) == 1 and is_close(constants[0], 0.5):
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


def _curve(value: ir.Value) -> tuple[ir.Value, tuple[ir.Node, ...], str] | None:
    """``1 + Erf(x / sqrt(2))`` or ``1 + Tanh(...)`` as x, its nodes and the approximation."""
    add = made_by(value, "Add")
    if add is None:
        return None
    for one, curve in operands(add):
        if edit.scalar(one) != 1.0:
            continue
        if (erf := only_made_for(curve, add, "Erf")) is not None:
            source, a, b = linear_in(erf.inputs[0], erf)
            inner = made_by(erf.inputs[0], "Mul", "Div")
            if is_close(a, math.sqrt(0.5), 1e-4) and b == 0.0 and inner is not None:
                return source, (add, erf, inner), "none"
        if (tanh := only_made_for(curve, add, "Tanh")) is not None:
            return _tanh_curve(add, tanh)
    return None


def _tanh_curve(add: ir.Node, tanh: ir.Node) -> tuple[ir.Value, tuple[ir.Node, ...], str] | None:
    total, a, b = linear_in(tanh.inputs[0], tanh)
    inner = made_by(total, "Add")
    if inner is None or not is_close(a, math.sqrt(2 / math.pi), 1e-4) or b != 0.0:
        return None
    scaled = made_by(tanh.inputs[0], "Mul")
    for source, cube in operands(inner):
        mul = only_made_for(cube, inner, "Mul")
        if mul is None or scaled is None:
            continue
        products, factors = _monomial(mul, source)
        if factors is not None and is_close(factors, 0.044715, 1e-3):
            return source, (add, tanh, scaled, inner, *products), "tanh"
    return None


def _monomial(node: ir.Node, source: ir.Value) -> tuple[list[ir.Node], float | None]:
    """The nodes of ``c * x^3``, however it is multiplied out, and c; None when it is another product."""
    nodes, power, factor = [node], 0, 1.0
    pending = [(value, node) for value in node.inputs]
    while pending:
        value, reader = pending.pop()
        inner = None if value is None else only_made_for(value, reader, "Mul", "Pow")
        if value is source:
            power += 1
        elif (number := edit.scalar(value)) is not None:
            factor *= number
        elif inner is None:
            return nodes, None
        elif inner.op_type == "Mul":
            nodes.append(inner)
            pending.extend((value, inner) for value in inner.inputs)
        elif inner.inputs[0] is source and edit.scalar(inner.inputs[1]) in (2.0, 3.0):
            nodes.append(inner)
            power += int(edit.scalar(inner.inputs[1]) or 0)
        else:
            return nodes, None
    return nodes, factor if power == 3 else None
