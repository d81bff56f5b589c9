"""Quotients and logarithms that are a Sigmoid, a Softsign or a Softplus."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.passes.fuse.affine import read_affine
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import only_made_for, operands


@dataclass(frozen=True)
class FoundSigmoid:
    """The quotient, x, and what is divided (None for 1)."""

    node: ir.Node
    source: ir.Value
    gated: ir.Value | None


class RecogniseSigmoid(Rule[FoundSigmoid]):
    """Give the decomposed activation its name.

    1 / (1 + Exp(-x)) -> Sigmoid(x), also with Reciprocal
    y / (1 + Exp(-x)) -> y * Sigmoid(x)        (SiLU, where y is x)
    """

    name = "recognise-sigmoid"
    roots = frozenset({"Div", "Reciprocal"})

    def match(self, node: ir.Node, graph: Editor) -> FoundSigmoid | None:
        gated = None if node.op_type == "Reciprocal" else node.inputs[0]
        power = _one_plus_exp(node.inputs[-1], node)
        mirrored = None if power is None else read_affine(only_made_for(power.inputs[0], power, "Neg", "Mul"))
        if mirrored is None or mirrored.scale is None or mirrored.scale.size != 1 or mirrored.scale.reshape(()) != -1:
            return None
        return FoundSigmoid(node, mirrored.source, None if edit.scalar(gated) == 1.0 else gated)

    def rewrite(self, found: FoundSigmoid, graph: Editor) -> None:
        out = found.node.outputs[0]
        result = graph.add("Sigmoid", [found.source], like=found.source, before=found.node)
        if found.gated is not None:
            result = graph.add("Mul", [found.gated, result], like=out, before=found.node)
        graph.replace(out, result)


class RecogniseSoftsign(Rule[FoundSigmoid]):
    """x / (1 + Abs(x)) -> Softsign(x)."""

    name = "recognise-softsign"
    roots = frozenset({"Div"})

    def match(self, node: ir.Node, graph: Editor) -> FoundSigmoid | None:
        source, add = node.inputs[0], only_made_for(node.inputs[1], node, "Add")
        for one, size in operands(add) if add is not None else ():
            absolute = only_made_for(size, add, "Abs") if add is not None else None
            if absolute is not None and absolute.inputs[0] is source is not None and edit.scalar(one) == 1.0:
                return FoundSigmoid(node, source, None)
        return None

    def rewrite(self, found: FoundSigmoid, graph: Editor) -> None:
        out = found.node.outputs[0]
        graph.replace(out, graph.add("Softsign", [found.source], like=out, before=found.node))


@dataclass(frozen=True)
class FoundSoftplus:
    """The last node of the pattern, x, and the threshold above which x itself is taken."""

    node: ir.Node
    source: ir.Value
    threshold: float


class RecogniseSoftplus(Rule[FoundSoftplus]):
    """Give the decomposed activation its name.

    Log(Exp(x) + 1) -> Softplus(x)
    Where(x > t, x, Softplus(x)) -> Softplus(x)       (both are the same number above t, as it is rounded)
    """

    name = "recognise-softplus"
    roots = frozenset({"Log", "Where"})

    def match(self, node: ir.Node, graph: Editor) -> FoundSoftplus | None:
        if node.op_type == "Log":
            power = _one_plus_exp(node.inputs[0], node)
            return None if power is None or power.inputs[0] is None else FoundSoftplus(node, power.inputs[0], math.inf)
        condition, above, below = node.inputs
        curve, greater = only_made_for(below, node, "Softplus"), only_made_for(condition, node, "Greater")
        if curve is None or greater is None or above is None or curve.inputs[0] is not above:
            return None
        limit = edit.scalar(greater.inputs[1])
        return FoundSoftplus(node, above, limit) if limit is not None and greater.inputs[0] is above else None

    def check(self, found: FoundSoftplus, graph: Editor) -> str | None:
        dtype = found.node.outputs[0].dtype
        if dtype is None or not dtype.is_floating_point():
            return "its type is not known to be a float"
        if math.isinf(found.threshold):
            return None
        difference = math.log1p(math.exp(-abs(found.threshold)))
        same = found.threshold > 0 and difference < float(np.spacing(np.array(found.threshold, dtype.numpy())))
        return None if same else "the two halves differ at its threshold"

    def rewrite(self, found: FoundSoftplus, graph: Editor) -> None:
        out = found.node.outputs[0]
        graph.replace(out, graph.add("Softplus", [found.source], like=out, before=found.node))


def _one_plus_exp(value: ir.Value | None, reader: ir.Node) -> ir.Node | None:
    """The Exp in ``Exp(..) + 1``, when nothing else reads it or the sum."""
    add = only_made_for(value, reader, "Add")
    if add is None:
        return None
    for power, one in operands(add):
        exp = only_made_for(power, add, "Exp")
        if exp is not None and edit.scalar(one) == 1.0:
            return exp
    return None
