"""Computing for the tokens that are read: how far back, and what must be computed for all."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from fuse_checks import check_pass, random
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import model_from_text, run_pass

WIDTH, HEADS, TOKENS = 8, 2, 6
ARRAYS: dict[str, np.ndarray] = {
    **{name: random(WIDTH, WIDTH, seed=i) for i, name in enumerate(("w", "wq", "wk", "wv", "wo"))},
    **{"gain": random(WIDTH, seed=6), "bias": random(WIDTH, seed=7), "places": random(1, TOKENS, WIDTH, seed=8)},
    **{"first": np.array(0), "last": np.array([-1]), "second": np.array([1]), "four": np.array([4])},
    **{"one": np.array([1]), "two": np.array([2]), "split": np.array([0, 0, HEADS, WIDTH // HEADS])},
    **{"fixed": np.array([-1, TOKENS, WIDTH]), "heads": np.array([-1, TOKENS, HEADS, WIDTH // HEADS])},
    "join": np.array([0, 0, WIDTH]),
}
TAKE = "y = Gather <axis = 1> (t, first)"
ATTEND = f"""
    q = MatMul (x, wq) k = MatMul (x, wk) v = MatMul (x, wv)
    m = Attention <q_num_heads = {HEADS}, kv_num_heads = {HEADS}%s> (q, k, v%s) o = MatMul (m, wo) t = Add (o, x)"""
SPELLED = """
    q = MatMul (x, wq) qr = Reshape (q, {0}) qh = Transpose <perm = [0, 2, 1, 3]> (qr)
    k = MatMul (x, wk) kr = Reshape (k, {0}) kh = Transpose <perm = [0, 2, 3, 1]> (kr)
    v = MatMul (x, wv) vr = Reshape (v, {0}) vh = Transpose <perm = [0, 2, 1, 3]> (vr)
    s = MatMul (qh, kh) f = Add (s, mask) p = Softmax <axis = -1> (f) c = MatMul (p, vh)
    ct = Transpose <perm = [0, 2, 1, 3]> (c) cr = Reshape (ct, {1}) o = MatMul (cr, wo) t = Add (o, x)"""


NEWEST = '<ir_version: 11, opset_import: ["" : 23]>'
OLDER = '<ir_version: 8, opset_import: ["" : 17]>'


def model(body: str, inputs: str = "float[n,6,8] x", output: str = "float[a,b] y", more: str = "") -> ir.Model:
    used = {name: array for name, array in ARRAYS.items() if f", {name})" in body or f", {name}," in body}
    return model_from_text(f"{NEWEST} g ({inputs}) => ({output}{more}) {{ {body} }}", **used)


def applied(source: ir.Model, target: Target | None = None, **dims: int) -> tuple[ir.Model, int]:
    """The fused model and how often the rule was applied; the outputs are compared."""
    simple = run_pass(Simplify(), source).model
    result = check_pass(Fuse(), simple, target=target or Target(), **({"n": 2} | dims))
    return result.model, result.details["rules"].get("select-first", 0)


def rows(result: ir.Model, op_type: str, axis: int = 1) -> list[object]:
    """How many entries along the axis each node of the type makes; a name where it depends on the input."""
    shapes = [node.outputs[0].shape for node in result.graph if node.op_type == op_type]
    sizes = [shape[axis] for shape in shapes if shape is not None]
    return [size if isinstance(size, int) else size.value for size in sizes]


@pytest.mark.parametrize(
    "body",
    [
        "t = MatMul (x, w)",
        "c = Cast <to = 1> (x) m = MatMul (c, w) t = Gelu (m)",
        "m = MatMul (x, w) t = LayerNormalization (m, gain, bias)",
        "m = MatMul (x, w) a = Add (m, places) t = Tanh (a)",
        "m = MatMul (x, w) b = Add (m, x) t = Softmax <axis = -1> (b)",
        "m = MatMul (x, w) r = Reshape (m, heads) b = Relu (r) t = Reshape (b, fixed)",
        "m = MatMul (x, w) t = Concat <axis = 2> (m, x)",
    ],
)
def test_what_is_computed_of_each_token_is_computed_of_the_one_that_is_read(body: str) -> None:
    result, times = applied(model(f"{body} {TAKE}"))
    assert times == 1
    assert rows(result, "MatMul") == [1]


@pytest.mark.parametrize(("index", "output"), [("first", "float[a,b] y"), ("last", "float[a,1,b] y")])
def test_an_index_may_count_from_the_end_and_keep_its_axis(index: str, output: str) -> None:
    result, times = applied(model(f"m = MatMul (x, w) t = Tanh (m) y = Gather <axis = 1> (t, {index})", output=output))
    assert times == 1
    assert rows(result, "MatMul") == [1]


def test_a_slice_of_a_few_is_taken_first_and_one_of_most_is_not() -> None:
    body = "m = MatMul (x, w) t = Tanh (m) y = Slice (t, one, {}, one)"
    result, times = applied(model(body.format("four"), output="float[a,3,b] y"))
    assert (times, rows(result, "MatMul")) == (1, [3])
    many = "m = MatMul (x, w) t = Tanh (m) y = Slice (t, two, last, one)"
    short = model(many, "float[n,4,8] x", "float[a,1,b] y")
    assert applied(short)[1] == 1
    most = model("m = MatMul (x, w) t = Tanh (m) y = Slice (t, one, last, one)", output="float[a,4,b] y")
    assert applied(most)[1] == 0


@pytest.mark.parametrize("tokens", ["6", "s"])
@pytest.mark.parametrize("mask", ["", "float[n,1,{},{}] mask", "float[{},{}] mask"])
def test_attention_is_computed_for_the_query_that_is_read(tokens: str, mask: str) -> None:
    inputs = f"float[n,{tokens},8] x" + (f", {mask.format(tokens, tokens)}" if mask else "")
    source = model(ATTEND % ("", ", mask" if mask else "") + TAKE, inputs)
    result, times = applied(source, s=6)
    assert times == 1
    whole = 6 if tokens == "6" else tokens
    assert sorted(map(str, rows(result, "MatMul"))) == sorted(map(str, (1, whole, whole, 1)))
    assert rows(result, "Attention") == [1]


@pytest.mark.parametrize("max_opset", [17, None])
@pytest.mark.parametrize("shapes", [("split", "join"), ("heads", "fixed")])
def test_attention_that_is_spelled_out_too(shapes: tuple[str, str], max_opset: int | None) -> None:
    text = SPELLED.format(*shapes) + TAKE
    used = {name: array for name, array in ARRAYS.items() if f", {name})" in text}
    source = model_from_text(f"{OLDER} g (float[n,6,8] x, float[n,1,1,6] mask) => (float[a,b] y) {{ {text} }}", **used)
    result, times = applied(source, Target(max_opset=max_opset))
    assert times == 1
    assert rows(result, "Attention") == ([] if max_opset else [1])
    of_tokens = [node.outputs[0].shape for node in result.graph if node.op_type == "MatMul"]
    assert sum(shape is not None and 6 in list(shape)[:2] for shape in of_tokens) == 2  # keys and values


@pytest.mark.parametrize(
    ("body", "more"),
    [
        ("m = MatMul (x, w) t = Tanh (m) z = Exp (m)", ", float[n,6,8] z"),  # all of it is an output
        ("t = MatMul (x, w) y2 = Gather <axis = 1> (t, second)", ", float[n,1,8] y2"),  # two are read
        ("m = MatMul (x, w) t = Softmax <axis = 1> (m)", ""),  # over the tokens
        ("m = MatMul (x, w) t = CumSum (m, one)", ""),  # as above
        ("m = MatMul (x, w) r = Transpose <perm = [0, 2, 1]> (m) t = Reshape (r, fixed)", ""),  # tokens mixed
        (ATTEND % (", is_causal = 1", "") + " u = Softmax <axis = 1> (t)", ""),
    ],
)
def test_what_needs_all_tokens_stays(body: str, more: str) -> None:
    take = TAKE.replace("(t,", "(u,") if " u = " in body else TAKE
    result, times = applied(model(f"{body} {take}", more=more))
    assert times == 0
    assert 1 not in rows(result, "MatMul")


def test_causal_attention_is_computed_for_all_and_the_product_behind_it_for_one() -> None:
    result, times = applied(model(ATTEND % (", is_causal = 1", "") + TAKE))
    assert times == 1
    assert rows(result, "Attention") == [6]
    assert rows(result, "MatMul")[-1] == 1


def test_a_selection_without_a_product_to_save_stays() -> None:
    assert applied(model(f"r = Relu (x) t = Exp (r) {TAKE}"))[1] == 0


OPERATORS = [
    "{out} = MatMul ({a}, w)",
    "{out} = Add ({a}, {b})",
    "{out} = Mul ({a}, places)",
    "{out} = LayerNormalization ({a}, gain, bias)",
    "{out} = Gelu ({a})",
    "{out} = Softmax <axis = 1> ({a})",
    "{out} = Softmax <axis = 2> ({a})",
    f"{{out}} = Attention <q_num_heads = {HEADS}, kv_num_heads = {HEADS}> ({{a}}, {{b}}, {{b}})",
]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.sampled_from(OPERATORS), st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=9),
    st.sampled_from(["first", "second"]),
    st.booleans(),
)
def test_outputs_stay_whatever_is_computed(steps: list[tuple[str, int, int]], index: str, fixed: bool) -> None:
    names, lines = ["x"], []
    for i, (text, a, b) in enumerate(steps):
        lines.append(text.format(out=f"v{i}", a=names[-1 - a % min(len(names), 2)], b=names[b % len(names)]))
        names.append(f"v{i}")
    body = " ".join([*lines, f"y = Gather <axis = 1> ({names[-1]}, {index})"])
    output = "float[a,b] y" if index == "first" else "float[a,1,b] y"
    if not fixed:
        body = body.replace("places", "gain")
    source = model(body, f"float[n,{6 if fixed else 's'},8] x", output)
    applied(source, s=6)
