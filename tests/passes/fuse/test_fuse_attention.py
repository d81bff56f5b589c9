"""Attention as one operator: every spelling, every length, batch and mask, and what must stay as it is."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir
import pytest
from fuse_checks import check_pass, random
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import model_from_text, op_types, run_model, run_pass

WIDTH, HEADS = 8, 2
SPLIT = np.array([0, 0, HEADS, WIDTH // HEADS])
PROJECT = """
    {0}m = MatMul ({1}, w{0}) {0}b = Add ({0}m, b{0}) {0}r = Reshape ({0}b, split)
    {0}h = Transpose <perm = [0,2,{2}]> ({0}r)"""
MIX = """
    c = MatMul (p, vh) t = Transpose <perm = [0,2,1,3]> (c) y = Reshape (t, join)"""
CROSS = PROJECT.format("q", "x", "1,3") + PROJECT.format("k", "z", "3,1") + PROJECT.format("v", "z", "1,3")
PLAIN = "s = MatMul (qh, kh) p = Softmax <axis = -1> (s)" + MIX
MASKED = "s = MatMul (qh, kh) a = Add (s, far) p = Softmax <axis = -1> (a)" + MIX
PADDING = """
    wide = Unsqueeze (mask, axes) real = Cast <to = 1> (wide) off = Sub (one, real) far = Mul (off, low)"""
HEAD = "g (float[n,s,8] x, float[n,t,8] z{}) => (float[n,s,8] y)"

WEIGHTS = {f"w{part}": random(WIDTH, WIDTH, seed=i) for i, part in enumerate("qkv")}
WEIGHTS |= {f"b{part}": random(WIDTH, seed=i + 5) for i, part in enumerate("qkv")}
WEIGHTS |= {"split": SPLIT, "join": np.array([0, 0, WIDTH])}
NUMBERS = {"axes": np.array([1, 2]), "one": np.array(1, np.float32), "low": np.array(-1e4, np.float32)}
FUSED = {"MatMul": 3, "Add": 2, "Attention": 1}


def attention(body: str, more: str = "", **weights: np.ndarray) -> ir.Model:
    return model_from_text(f"{HEAD.format(more)} {{ {body} }}", **WEIGHTS, **weights)


def masked(low: float = -1e4) -> ir.Model:
    numbers = NUMBERS | {"low": np.array(low, np.float32)}
    return attention(PADDING + CROSS + MASKED, ", int64[n,t] mask", **numbers)


def applied(model: ir.Model, target: Target | None = None, **dims: int) -> tuple[ir.Model, str]:
    simple = run_pass(Simplify(), model).model
    result = check_pass(Fuse(), simple, target=target or Target(), **dims)
    return result.model, "\n".join(skip.reason for skip in result.skipped)


def test_attention_without_a_mask_is_one_operator_and_needs_no_bias_of_the_keys() -> None:
    result, _ = applied(attention(CROSS + PLAIN), n=2, s=3, t=5)
    assert Counter(op_types(result)) == FUSED
    assert {node.domain for node in result.graph} == {""}


def test_the_scale_is_kept() -> None:
    body = PLAIN.replace("p = Softmax <axis = -1> (s)", "d = Div (s, two) p = Softmax <axis = -1> (d)")
    result, _ = applied(attention(CROSS + body, two=np.array(2, np.float32)), n=2, s=3, t=5)
    assert Counter(op_types(result)) == FUSED


@pytest.mark.parametrize("low", [-1e4, float(np.finfo(np.float32).min)])
def test_a_padding_mask_is_read_by_the_operator(low: float) -> None:
    operators = Counter(op_types(applied(masked(low), n=2, s=3, t=5)[0]))
    assert operators["Attention"] == 1 and operators["Softmax"] == 0 and operators["Expand"] == 1


def test_layers_share_the_mask() -> None:
    first = re.sub(r"\b([qkv][mbrh]|[sapct])\b(?! *=? *<|\])", r"\g<1>1", CROSS + MASKED).replace("y =", "x1 =")
    body = PADDING + first + CROSS.replace("(x,", "(x1,") + MASKED
    result, _ = applied(attention(body, ", int64[n,t] mask", **NUMBERS), n=2, s=3, t=5)
    operators = Counter(op_types(result))
    assert (operators["Attention"], operators["Expand"]) == (2, 1)


def test_one_projection_of_queries_keys_and_values_becomes_three() -> None:
    body = """j = MatMul (x, w) jb = Add (j, b) r = Reshape (jb, packed) h = Transpose <perm = [2,0,3,1,4]> (r)
        qh = Gather <axis = 0> (h, i0) kt = Gather <axis = 0> (h, i1) vh = Gather <axis = 0> (h, i2)
        kh = Transpose <perm = [0,1,3,2]> (kt)"""
    indices = {f"i{i}": np.array(i) for i in range(3)}
    weights = {"w": random(8, 24), "b": random(24, seed=3), "packed": np.array([0, 0, 3, HEADS, 4]), **indices}
    text = f"g (float[n,s,8] x) => (float[n,s,8] y) {{ {body} {PLAIN} }}"
    result, _ = applied(model_from_text(text, join=WEIGHTS["join"], **weights), n=2, s=3)
    assert Counter(op_types(result)) == FUSED


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("y = Reshape (t, join)", "u = Tanh (t) y = Reshape (u, join)", "not joined"),
        (
            "qh = Transpose <perm = [0,2,1,3]> (qr)",
            "qt = Transpose <perm = [0,2,1,3]> (qr) qh = Tanh (qt)",
            "queries are not",
        ),
        ("Softmax <axis = -1> (a)", "Softmax <axis = 2> (a)", "not over the keys"),
        ("a = Add (s, far)", "n = Tanh (s) a = Add (n, far)", "its scores are no product"),
        ("c = MatMul (p, vh)", "r = Relu (p) c = MatMul (r, vh)", "a Relu lies between"),
        ("c = MatMul (p, vh)", "c0 = MatMul (p, vh) e = ReduceMax (p) c = Add (c0, e)", "read by more than"),
    ],
)
def test_what_it_is_not_for(old: str, new: str, reason: str) -> None:
    body = PADDING + CROSS + MASKED
    assert old in body
    model = attention(body.replace(old, new), ", int64[n,t] mask", **NUMBERS)
    result, reasons = applied(model, n=2, s=3, t=5)
    assert "Attention" not in op_types(result) and reason in reasons


def test_a_softmax_that_no_product_reads_is_not_spoken_of() -> None:
    model = model_from_text("g (float[n,8] x) => (float[n,8] y) { p = Softmax <axis = -1> (x) y = Relu (p) }")
    assert "fuse-attention" not in applied(model, n=2)[1]


def test_a_mask_of_any_numbers_is_kept_above_those_that_the_kernel_takes_for_nothing() -> None:
    text = HEAD.format(", float[n,2,s,t] far") + f" {{ {CROSS + MASKED} }}"
    result, _ = applied(model_from_text(text, **WEIGHTS), n=2, s=3, t=5)
    assert Counter(op_types(result)) == {**FUSED, "Clip": 1}
    text = HEAD.format(", float[n,2,s,u] far") + f" {{ {CROSS + MASKED} }}"
    assert "its mask is not known" in applied(model_from_text(text, **WEIGHTS), n=2, s=3, t=5, u=5)[1]


def test_older_opsets_and_other_providers_keep_the_parts() -> None:
    for target in (Target(max_opset=22), Target(provider="cuda", isa="none")):
        result, reasons = applied(attention(CROSS + PLAIN), target, n=2, s=3, t=5)
        assert "Softmax" in op_types(result) and ("from opset 23" in reasons) == (target.max_opset == 22)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    queries=st.integers(1, 40),
    keys=st.integers(1, 40),
    low=st.sampled_from([-1e4, float(np.finfo(np.float32).min)]),
    data=st.data(),
)
def test_every_length_batch_and_mask_gives_the_reference_s_numbers(
    batch: int, queries: int, keys: int, low: float, data: st.DataObject
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    real = [data.draw(st.integers(0, keys)) for _ in range(batch)]  # 0: a row that is masked as a whole
    mask = np.array([[int(i < count) for i in range(keys)] for count in real], np.int64)
    if data.draw(st.booleans()):
        mask = mask[:, ::-1].copy()  # padded on the left, as decoders are
    feeds = {
        "x": rng.standard_normal((batch, queries, WIDTH)).astype(np.float32),
        "z": rng.standard_normal((batch, keys, WIDTH)).astype(np.float32),
        "mask": mask,
    }
    model = masked(low)
    (expected,) = onnx.reference.ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)
    result = run_pass(Fuse(), run_pass(Simplify(), model).model).model
    assert "Attention" in op_types(result)
    # Where all keys are masked, the scores that count are the digits that a number of 10,000 has left.
    atol = 5e-3 if 0 in real else 2e-4
    np.testing.assert_allclose(run_model(result, feeds)["y"], expected, rtol=1e-3, atol=atol)


@pytest.mark.parametrize(
    ("behind", "adds"),
    [
        ("o = MatMul (t2, wo) y = Add (o, bo)", 2),  # of the queries, and behind
        ("o = MatMul (t2, wo) y = Tanh (o)", 2),  # of the queries and the values
        ("o = MatMul (t2, wo) u = Add (o, bo) y = Add (u, t2)", 4),  # the joined heads are read twice
    ],
)
def test_a_bias_of_values_goes_on_to_the_product_behind(behind: str, adds: int) -> None:
    body = (PADDING + CROSS + MASKED).replace("y = Reshape", "t2 = Reshape") + behind
    weights = {
        name: random(*shape, seed=9) for name, shape in {"wo": (8, 8), "bo": (8,)}.items() if f", {name})" in behind
    }
    result, _ = applied(attention(body, ", int64[n,t] mask", **NUMBERS, **weights), n=2, s=3, t=5)
    assert op_types(result).count("Add") == adds and "Attention" in op_types(result)
