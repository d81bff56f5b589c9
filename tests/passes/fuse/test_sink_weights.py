"""Weights that one body alone reads are put into it, and others are not."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from fuse_checks import check_pass, random

from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import model_from_text

WEIGHTS = {"w": random(8, 8), "v": random(8, 8, seed=1)}
IF = """y = If (flag) <
    then_branch = a () => (float[n,8] t) {{ t = MatMul(x, {then}) }},
    else_branch = b () => (float[n,8] e) {{ h = MatMul(x, {other})  e = Relu(h) }}> {more}"""
LOOP = """y = Loop (three, flag, x) <body = b (int64 i, bool c, float[n,8] s) => (bool c2, float[n,8] r) {
    c2 = Identity(c)  h = MatMul(s, w)  r = Tanh(h) }>"""
NESTED = """y = If (flag) <
    then_branch = a () => (float[n,8] t) { t = If (flag) <
        then_branch = c () => (float[n,8] p) { p = MatMul(x, w) },
        else_branch = d () => (float[n,8] q) { q = MatMul(x, v) }> },
    else_branch = b () => (float[n,8] e) { e = MatMul(x, v) }>"""


def places(model: ir.Model) -> dict[str, set[str]]:
    """The initializers of each graph, by its name."""
    return {graph.name or "": set(graph.initializers) for graph in model.graphs() if graph.initializers}


def model(body: str, outputs: str = "float[n,8] y", **weights: object) -> ir.Model:
    used = {name: array for name, array in (WEIGHTS | weights).items() if name in body or name in outputs}
    return model_from_text(f"g (float[n,8] x, bool flag) => ({outputs}) {{ {body} }}", **used)


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (IF.format(then="w", other="v", more=""), {"a": {"w"}, "b": {"v"}}),
        (IF.format(then="w", other="w", more=""), {"g": {"w"}}),  # it would be stored twice
        (IF.format(then="w", other="v", more="z = MatMul(x, w)"), {"g": {"w"}, "b": {"v"}}),
        (NESTED, {"c": {"w"}, "g": {"v"}}),
    ],
)
def test_a_weight_goes_where_nothing_else_reads_it(body: str, left: dict[str, set[str]]) -> None:
    outputs = "float[n,8] y, float[n,8] z" if "z =" in body else "float[n,8] y"
    assert places(check_pass(Fuse(), model(body, outputs), n=2).model) == left


def test_the_body_of_a_loop_holds_its_weights() -> None:
    result = check_pass(Fuse(), model(LOOP, three=np.array(3)), n=2).model
    assert places(result) == {"b": {"w"}, "g": {"three"}}


def test_a_weight_that_is_an_output_stays() -> None:
    body = IF.format(then="w", other="v", more="")
    assert places(check_pass(Fuse(), model(body, "float[n,8] y, float[8,8] w"), n=2).model)["g"] == {"w"}


def test_equal_weights_of_two_bodies_are_one_before_that() -> None:
    twice = model(IF.format(then="w", other="v", more=""), v=WEIGHTS["w"])
    assert places(check_pass(Fuse(), check_pass(Simplify(), twice, n=2).model, n=2).model) == {"g": {"w"}}


def test_it_is_for_onnxruntime_on_cpus_and_can_be_left_out() -> None:
    body = IF.format(then="w", other="v", more="")
    assert "g" in places(check_pass(Fuse(skip=("sink-weights",)), model(body), n=2).model)
    other = Target(provider="openvino", dialect="onnx")
    assert "g" in places(check_pass(Fuse(), model(body), target=other, n=2).model)
