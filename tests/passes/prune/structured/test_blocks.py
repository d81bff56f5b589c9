"""Whole branches leave: the result is the network whose branch gives zeros, and plans with them are tried first."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from channel_models import attention, fused_attention, named, w

from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.prune.structured.blocks import Block, find_blocks, remove_blocks
from modelopt_cli.passes.prune.structured.flow import inferred_shapes
from modelopt_cli.passes.prune.structured.plan import Plan
from modelopt_cli.passes.prune.structured.prune_channels import PruneChannels
from modelopt_cli.passes.prune.structured.search import Trial, best_trial
from modelopt_cli.testing import ArrayDataset, assert_same_outputs, model_from_text, op_types, random_feeds, run_pass

HEAD = "p = GlobalAveragePool (t)  f = Flatten (p)  y = Gemm <transB=1> (f, wy)"


def residual(body: str, **more: np.ndarray) -> ir.Model:
    text = f"m (float[N,3,6,6] x) => (float[N,4] y) {{ s = Conv (x, w0)  {body}  t = Relu (z)  {HEAD} }}"
    return named(model_from_text(text, w0=w(8, 3, 1, 1), wy=w(4, 8), **more))


def blocks_of(model: ir.Model) -> list[Block]:
    return find_blocks(model.graph, inferred_shapes(model))


def assert_exact(model: ir.Model, blocks: list[Block]) -> ir.Model:
    """Removal gives what the network with zeros for the branches gives, and nothing of them is left."""
    silent, after = model.clone(), model.clone()
    for block in blocks:
        add = next(node for node in silent.graph if node.outputs[0].name == block.sum)
        index = [value.name for value in add.inputs if value is not None].index(block.branch)
        zero = ir.Value(name=f"zero_{block.sum}", const_value=ir.tensor(np.zeros(1, np.float32)))
        silent.graph.register_initializer(zero)
        add.replace_input_with(index, zero)
    assert remove_blocks(after, blocks) == len(blocks)
    onnx.checker.check_model(onnx.load_from_string(model_bytes(after)), full_check=True)
    assert all(value.uses() for value in after.graph.initializers.values())
    feeds = random_feeds(model, np.random.default_rng(3), N=2, S=5)
    assert_same_outputs(silent, after, feeds, rtol=1e-5, atol=1e-6)
    return after


CASES = {
    "identity beside two convolutions": (
        "a = Conv <pads=[1,1,1,1]> (s, w1)  b = Relu (a)  c = Conv (b, w2)  z = Add (c, s)",
        {"w1": w(8, 8, 3, 3), "w2": w(8, 8, 1, 1)},
        ("a", "c"),
    ),
    "the main path beside a projection": (
        "a = Conv <pads=[1,1,1,1]> (s, w1)  c = Conv (a, w2)  d = Conv (s, w3)  z = Add (c, d)",
        {"w1": w(8, 8, 3, 3), "w2": w(8, 8, 1, 1), "w3": w(8, 8, 1, 1)},
        ("a", "c"),
    ),
    "a gate within the branch": (
        "a = Conv (s, w1) g = GlobalAveragePool (a) h = Conv (g, w2) i = Sigmoid (h) c = Mul (a, i) z = Add (s, c)",
        {"w1": w(8, 8, 1, 1), "w2": w(8, 8, 1, 1)},
        ("a", "h"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_branch_leaves(case: str) -> None:
    body, weights, producers = CASES[case]
    model = residual(body, **weights)
    (block,) = blocks_of(model)
    assert block.producers == producers
    after = assert_exact(model, [block])
    assert op_types(after).count("Conv") == op_types(model).count("Conv") - len(producers)


def test_halves_of_a_transformer_layer_leave() -> None:
    model = attention()
    (only,) = blocks_of(model)  # the other sum is the output of the model
    assert {"q0", "k0", "v0", "r"} <= set(only.producers)
    assert "Softmax" not in op_types(assert_exact(model, [only]))


def test_a_branch_of_a_sum_that_is_spelled_so_leaves() -> None:
    model = fused_attention()
    (only,) = blocks_of(model)
    assert only.name == "s"
    assert {"q0", "k", "v", "r"} <= set(only.producers)
    assert op_types(assert_exact(model, [only])) == ["LayerNormalization", "MatMul"]


REFUSALS = {
    "what others read too": (
        "a = Conv (s, w1)  u = GlobalAveragePool (a)  v = Add (s, a)  z = Mul (v, u)",
        {"w1": w(8, 8, 1, 1)},
    ),
    "what is left would be smaller than the sum": (
        "g = GlobalAveragePool (s)  a = Conv (s, w1)  z = Add (g, a)",
        {"w1": w(8, 8, 1, 1)},
    ),
    "a sum with a constant": ("a = Conv (s, w1)  z = Add (a, c)", {"w1": w(8, 8, 1, 1), "c": w(8, 1, 1)}),
    "a branch without weights": ("a = Relu (s)  z = Add (a, s)", {}),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_leave(case: str) -> None:
    body, weights = REFUSALS[case]
    model = residual(body, **weights)
    assert blocks_of(model) == []


def test_an_input_that_only_the_branch_reads_keeps_it() -> None:
    text = """m (float[N,8] x, float[N,8] v) => (float[N,2] y) {
        a = MatMul (v, w1)  s = Relu (x)  z = Add (s, a)  y = MatMul (z, w2) }"""
    assert blocks_of(named(model_from_text(text, w1=w(8, 8), w2=w(8, 2)))) == []


def test_a_branch_that_says_nothing_is_what_leaves() -> None:
    body, weights, _ = CASES["identity beside two convolutions"]
    model = residual(body, **(weights | {"w2": w(8, 8, 1, 1) * 1e-4}))
    data = ArrayDataset({"x": np.random.default_rng(1).standard_normal((16, 3, 6, 6)).astype(np.float32)})
    result = run_pass(PruneChannels(macs=0.5, seconds=0), model, calibration=data)
    assert result.details["groups"] == {"z": [1, 0]}
    kept = run_pass(PruneChannels(macs=0.5, seconds=0, exclude=("a",)), model, calibration=data)
    assert "z" not in kept.details["groups"]


def plan(name: str, keep: int) -> Plan:
    return Plan((1,), (), {name: [8, keep]}, 0.5, 0.5, 0.5, met=True)


def test_the_best_of_several_plans_and_of_their_neighbours_is_taken() -> None:
    errors = {4: 1.0, 5: 0.5, 6: 0.3, 7: 0.29}
    tried: list[int] = []

    def attempt(each: Plan) -> Trial:
        (keep,) = (counts[1] for counts in each.groups.values())
        tried.append(keep)
        return Trial(each, ir.Model(ir.Graph([], [], nodes=[]), ir_version=8), 1, errors[keep])

    def neighbours(each: Plan) -> list[Plan]:
        (keep,) = (counts[1] for counts in each.groups.values())
        return [plan("g", near) for near in (keep - 1, keep + 1) if near in errors]

    best = best_trial([plan("g", 4), plan("g", 4)], attempt, neighbours, 8)
    assert best.plan.groups == {"g": [8, 6]}  # 0.29 is not better enough than 0.3
    assert tried == [4, 5, 6, 7]
    tried.clear()
    assert best_trial([plan("g", 4)], attempt, neighbours, 0).error == 1.0
    assert tried == [4]
