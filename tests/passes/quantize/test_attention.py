"""The two forms of Attention compute the same; a plan chooses between them, and a search does so by the clock."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modelopt_cli.graph.shapes import infer_shapes
from modelopt_cli.passes.quantize import search
from modelopt_cli.passes.quantize.attention import spelled, write_attention_parts
from modelopt_cli.passes.quantize.builder import Builder
from modelopt_cli.passes.quantize.plan import Plan, default_plan
from modelopt_cli.progress import Silent
from modelopt_cli.targets.schemes import scheme_for
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import ArrayDataset, assert_same_outputs, model_from_text, op_types, random_feeds

HEADER = '<ir_version: 10, opset_import: ["" : 23]>'
HEADS = "q_num_heads = 2, kv_num_heads = 2"


def attention(attributes: str = HEADS, inputs: str = "q, k, v", more: str = "", outputs: str = "y") -> ir.Model:
    text = f"""{HEADER} g (float[b,n,16] q, float[b,m,16] k, float[b,m,24] v{more}) => (float[b,n,24] y)
        {{ {outputs} = Attention <{attributes}> ({inputs}) }}"""
    return _inferred(model_from_text(text))


def _inferred(model: ir.Model) -> ir.Model:
    infer_shapes(model)
    return model


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 5, 3), (1, 4, 9)], ids=["one token", "more queries", "more keys"])
@pytest.mark.parametrize(
    ("attributes", "inputs", "more"),
    [
        (HEADS, "q, k, v", ""),
        (f"{HEADS}, scale = 0.7", "q, k, v", ""),
        (f"{HEADS}, scale = 1.0", "q, k, v, mask", ", float[b,1,n,m] mask"),
        (f"{HEADS}, is_causal = 0", "q, k, v, mask", ", float[n,m] mask"),
    ],
    ids=["plain", "scale", "mask of each batch", "mask of all"],
)
def test_the_parts_compute_what_the_operator_does(attributes, inputs, more, sizes) -> None:
    model = attention(attributes, inputs, more)
    result = model.clone()
    assert write_attention_parts(result.graph) == 1
    onnx.checker.check_model(ir.to_proto(result))
    assert op_types(result).count("MatMul") == 2 and "Attention" not in op_types(result)
    b, n, m = sizes
    feeds = random_feeds(model, np.random.default_rng(0), b=b, n=n, m=m)
    assert_same_outputs(model, result, feeds, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("attributes", "inputs", "more"),
    [
        (f"{HEADS}, is_causal = 1", "q, k, v", ""),
        (f"{HEADS}, softcap = 2.0", "q, k, v", ""),
        (HEADS, "q, k, v, mask", ", bool[n,m] mask"),
        (HEADS, "q, k, v, , pk, pv", ", float[b,2,p,8] pk, float[b,2,p,12] pv"),
        ("q_num_heads = 4, kv_num_heads = 2", "q, k2, v2", ", float[b,m,8] k2, float[b,m,12] v2"),
    ],
    ids=["causal", "soft cap", "bool mask", "past", "shared keys"],
)
def test_others_stay_one_operator(attributes, inputs, more) -> None:
    model = attention(attributes, inputs, more)
    assert write_attention_parts(model.graph) == 0
    assert op_types(model) == ["Attention"]


def test_an_attention_of_unknown_width_stays() -> None:
    model = attention()
    model.graph.inputs[0].shape = None
    assert spelled(model.graph.node(0)) is None


BLOCK = f"""{HEADER} net (float[1,32,64] x) => (float[1,32,64] y) {{
    q = MatMul (x, wq) k = MatMul (x, wk) v = MatMul (x, wv)
    a = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, v)
    y = MatMul (a, wo) }}"""


def builder() -> Builder:
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((64, 64)).astype(np.float32) / 8 for name in ("wq", "wk", "wv", "wo")}
    model = _inferred(model_from_text(BLOCK, **weights))
    data = ArrayDataset({"x": rng.standard_normal((4, 32, 64)).astype(np.float32)})
    return Builder(model, scheme_for(Target(isa="avx512_vnni")), data, progress=Silent())


def test_a_plan_chooses_the_form_and_is_replayed_with_it() -> None:
    made = builder()
    operator = Plan(default_plan(made.scheme).ops, min_macs=0)
    parts = Plan(operator.ops, min_macs=0, attention_parts=True)
    whole, spelt = made.build(operator).model, made.build(Plan.from_json(parts.to_json())).model
    assert "Attention" in op_types(whole)
    assert "Softmax" in op_types(spelt) and "Attention" not in op_types(spelt)
    assert op_types(spelt).count("QuantizeLinear") == op_types(whole).count("QuantizeLinear") > 0
    onnx.checker.check_model(ir.to_proto(spelt))
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 32, 64)).astype(np.float32)}
    assert_same_outputs(whole, spelt, feeds, rtol=1e-4, atol=1e-4)
    assert (
        Plan.from_json({key: value for key, value in parts.to_json().items() if key != "attention_parts"}) == operator
    )


@pytest.mark.parametrize(("faster", "form"), [(True, "Softmax"), (False, "Attention")])
def test_a_search_takes_the_form_that_the_clock_says_is_faster(monkeypatch, faster: bool, form: str) -> None:
    def against(current, other, _builder):
        won = "Softmax" in op_types(other.model) and faster
        return SimpleNamespace(ratio=0.9 if won else 1.1, ratio_low=0.85, ratio_high=0.95 if won else 1.2)

    made = builder()
    start = Plan(default_plan(made.scheme).ops, min_macs=0)
    found = search.Search(made.build(start), start)
    monkeypatch.setattr(search, "_against", against)
    search._try_variants(found, made, deadline=time.monotonic() + 1000)
    assert any(line.startswith("Attention as its parts") for line in found.log)
    assert found.plan.attention_parts is faster
    assert form in op_types(found.built.model)
