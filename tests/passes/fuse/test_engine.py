from __future__ import annotations

import time

import numpy as np
import onnx_ir as ir
from fuse_checks import random

from modelopt_cli.passes.base import PassContext
from modelopt_cli.passes.fuse.engine import Editor, Rule, apply_rules
from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import model_from_text, op_types

CHAIN = "g (float[n] x) => (float[n] y) { a = Neg(x) b = Neg(a) c = Neg(b) d = Neg(c) y = Relu(d) }"


class CancelNegations(Rule[tuple[ir.Node, ir.Value]]):
    """-(-x) -> x."""

    name = "cancel-negations"
    roots = frozenset({"Neg"})

    def match(self, node: ir.Node, graph: Editor) -> tuple[ir.Node, ir.Value] | None:
        inner = node.inputs[0].producer() if node.inputs[0] is not None else None
        return (node, inner.inputs[0]) if inner is not None and inner.op_type == "Neg" and inner.inputs[0] else None

    def check(self, found: tuple[ir.Node, ir.Value], graph: Editor) -> str | None:
        return "it reads an input" if found[1].is_graph_input() else None

    def rewrite(self, found: tuple[ir.Node, ir.Value], graph: Editor) -> None:
        graph.replace(found[0].outputs[0], found[1])


def test_rules_run_to_their_fixpoint_and_only_lasting_refusals_are_told() -> None:
    model = model_from_text(CHAIN)
    outcome = apply_rules(model, [[CancelNegations()]])
    assert op_types(model) == ["Neg", "Neg", "Relu"]
    assert outcome.applied == {"cancel-negations": 1}
    assert [skip.reason for skip in outcome.skips] == ["cancel-negations: it reads an input"]


def test_weights_die_with_the_nodes_that_read_them() -> None:
    model = model_from_text(
        "g (float[n,4,h,w] x) => (float[a,b,c,d] y) { t = Conv(x, k) y = Mul(t, s) }",
        k=random(4, 4, 1, 1),
        s=np.float32([2]),
    )
    Fuse().apply(model, PassContext(Target()))
    read = {value.name for node in model.graph for value in node.inputs if value is not None}
    assert set(model.graph.initializers) <= read


def test_a_long_model_takes_no_quadratic_time() -> None:
    def seconds(length: int) -> float:
        body = " ".join(f"t{i} = Conv(v{i}, k{i}) u{i} = Mul(t{i}, s{i}) v{i + 1} = Relu(u{i})" for i in range(length))
        weights = {f"k{i}": random(2, 2, 1, 1, seed=i) for i in range(length)}
        weights |= {f"s{i}": np.float32([i + 2.0]) for i in range(length)}
        model = model_from_text(f"g (float[n,2,h,w] v0) => (float[a,b,c,d] v{length}) {{ {body} }}", **weights)
        started = time.process_time()
        Fuse().apply(model, PassContext(Target()))
        assert len(model.graph) == 2 * length
        return time.process_time() - started

    seconds(20)  # imports and caches
    short, long = seconds(100), seconds(800)
    assert long < 24 * short, f"8 times the nodes took {long / short:.0f} times as long"
