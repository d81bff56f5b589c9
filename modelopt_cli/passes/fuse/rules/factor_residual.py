"""A value plus a multiple of itself is one multiple of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import dimensions
from modelopt_cli.passes.fuse.affine import as_float, keeps_shape, rounded
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import only_made_for, operands


@dataclass(frozen=True)
class Found:
    """The Add, the Mul before it, x, and the gate."""

    node: ir.Node
    product: ir.Node
    source: ir.Value
    gate: ir.Value


class FactorResidual(Rule[Found]):
    """Add 1 to the gate, which is small, and not x to the product, which is large.

    x + x * g -> x * (g + 1)
    """

    name = "factor-residual"
    roots = frozenset({"Add"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        for source, product in operands(node):
            mul = only_made_for(product, node, "Mul")
            for same, gate in operands(mul) if mul is not None else ():
                if mul is not None and same is source and gate is not source:
                    return Found(node, mul, source, gate) if _is_smaller(gate, source) else None
        return None

    def check(self, found: Found, graph: Editor) -> str | None:
        dtype = found.node.outputs[0].dtype
        if dtype is None or not dtype.is_floating_point():
            return "its type is not known to be a float"
        constant = as_float(edit.constant(found.gate))
        fits = constant is None or rounded(constant + 1, dtype.numpy()) is not None
        return None if fits else "the new constant does not fit its type"

    def rewrite(self, found: Found, graph: Editor) -> None:
        out, constant = found.node.outputs[0], as_float(edit.constant(found.gate))
        assert out.dtype is not None
        dtype = out.dtype.numpy()
        if constant is not None:
            gate = graph.weight((constant + 1).astype(dtype), f"{found.gate.name}_plus_1")
        else:
            one = graph.weight(np.array(1, dtype=dtype), f"{found.gate.name}_one")
            gate = graph.add("Add", [found.gate, one], like=found.gate, before=found.product)
        graph.replace(out, graph.add("Mul", [found.source, gate], like=out, before=found.node))


def _is_smaller(gate: ir.Value, source: ir.Value) -> bool:
    """Whether the gate is repeated over the source, and not the other way round."""
    constant = edit.constant(gate)
    if constant is not None:
        return keeps_shape(constant, source)
    small, large = dimensions(gate), dimensions(source)
    if small is None or large is None or len(small) != len(large):
        return False
    repeated = [s == 1 and t != 1 for s, t in zip(small, large, strict=True)]
    return any(repeated) and all(r or s == t for r, s, t in zip(repeated, small, large, strict=True))
