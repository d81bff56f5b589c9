"""Small questions that rules ask of the graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.affine import read_affine

STANDARD = ("", "ai.onnx")


def made_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The standard node of one of these types that computes ``value`` as its first output."""
    node = None if value is None else value.producer()
    if node is None or node.domain not in STANDARD or node.op_type not in op_types:
        return None
    return node if node.outputs[0] is value else None


def only_made_for(value: ir.Value | None, reader: ir.Node, *op_types: str) -> ir.Node | None:
    """As `made_by`, when nothing but ``reader`` reads the value."""
    node = made_by(value, *op_types)
    return node if node is not None and value is not None and edit.only_reader(value) is reader else None


def operands(node: ir.Node) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Both orders of the two inputs of a commutative node."""
    a, b = node.inputs[0], node.inputs[1]
    if a is not None and b is not None:
        yield a, b
        if a is not b:
            yield b, a


def is_close(a: float | None, b: float, tolerance: float = 1e-5) -> bool:
    """Equal up to the digits with which exporters write 1/6 or the square root of 2."""
    return a is not None and abs(a - b) <= tolerance * max(abs(b), 1e-30)


def clip_bounds(node: ir.Node | None) -> tuple[float, float] | None:
    """Lower and upper bound of a Clip (either form) or a Relu; None when they are computed."""
    if node is None or node.domain not in STANDARD:
        return None
    if node.op_type == "Relu":
        return 0.0, float("inf")
    if node.op_type != "Clip":
        return None
    low, high = node.attributes.get_float("min", float("-inf")), node.attributes.get_float("max", float("inf"))
    for index, value in enumerate(node.inputs[1:3]):
        if value is None:
            continue
        if (bound := edit.scalar(value)) is None:
            return None
        low, high = (bound, high) if index == 0 else (low, bound)
    return low, high


def linear_in(value: ir.Value | None, reader: ir.Node) -> tuple[ir.Value, float, float]:
    """``value`` as ``source * a + b`` with numbers: through one or two affine nodes that only ``reader`` needs."""
    assert value is not None
    a, b = 1.0, 0.0
    for _ in range(2):
        affine = read_affine(value.producer())
        if affine is None or edit.only_reader(value) is not reader:
            break
        parts = (affine.scale, affine.offset)
        if any(part is not None and part.size != 1 for part in parts):
            break
        s, o = (float(p.reshape(())) if p is not None else d for p, d in zip(parts, (1.0, 0.0), strict=True))
        a, b = a * s, a * o + b
        reader, value = affine.node, affine.source
    return value, a, b


def affine_nodes(value: ir.Value | None, source: ir.Value) -> list[ir.Node]:
    """The affine nodes from ``value`` back to ``source``, which `linear_in` followed."""
    nodes: list[ir.Node] = []
    while value is not None and value is not source and (affine := read_affine(value.producer())) is not None:
        nodes.append(affine.node)
        value = affine.source
    return nodes


@dataclass(frozen=True)
class Polynomial:
    """Coefficients by power of one value, and the nodes that compute it."""

    powers: dict[int, float]
    source: ir.Value | None
    nodes: tuple[ir.Node, ...]


def polynomial(value: ir.Value | None, reader: ir.Node) -> Polynomial | None:
    """``value``, which only ``reader`` needs, as a polynomial of one value; None when it depends on several."""
    if value is None:
        return None
    if (number := edit.scalar(value)) is not None:
        return Polynomial({0: number}, None, ())
    node = only_made_for(value, reader, "Add", "Mul", "Pow")
    if node is None:
        return Polynomial({1: 1.0}, value, ())
    a, b = polynomial(node.inputs[0], node), polynomial(node.inputs[1], node)
    if a is None or b is None or (a.source is not b.source and a.source is not None and b.source is not None):
        return None
    powers: dict[int, float] = {}
    if node.op_type == "Pow":
        exponent = b.powers.get(0, 0.0)
        if b.source is not None or exponent not in (2.0, 3.0) or len(a.powers) != 1:
            return None
        powers = {power * int(exponent): factor**exponent for power, factor in a.powers.items()}
    elif node.op_type == "Add":
        powers = {power: a.powers.get(power, 0.0) + b.powers.get(power, 0.0) for power in a.powers | b.powers}
    else:
        for p, x in a.powers.items():
            for q, y in b.powers.items():
                powers[p + q] = powers.get(p + q, 0.0) + x * y
    return Polynomial(powers, a.source if a.source is not None else b.source, (node, *a.nodes, *b.nodes))
