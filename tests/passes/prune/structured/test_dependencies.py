"""What leaves together and what stays, operator by operator; each case with its removal proved exact."""

from __future__ import annotations

import numpy as np
import pytest
from channel_models import assert_exact_removal, attention, fused_attention, groups, ints, lstm, named, reasons, w

from modelopt_cli.graph.edit import constant
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.prune.structured.analysis import find_dependencies
from modelopt_cli.testing import model_from_text

HEAD = "p = GlobalAveragePool (z)  f = Flatten (p)  y = Gemm <transB=1> (f, wy)"

IMAGES: dict[str, tuple[str, dict[str, np.ndarray], list[int]]] = {
    "a residual addition joins both sides": (
        f"a = Conv (x, w1)  b = Conv (a, w2)  z = Add (a, b)  {HEAD}",
        {"w1": w(6, 3, 1, 1), "w2": w(6, 6, 1, 1), "wy": w(4, 6)},
        [6],
    ),
    "a gate joins what it scales": (
        f"a = Conv (x, w1)  s = GlobalAveragePool (a)  q = Conv (s, w2)  r = Relu (q)  t = Conv (r, w3) "
        f"g = Sigmoid (t)  z = Mul (a, g)  {HEAD}",
        {"w1": w(6, 3, 1, 1), "w2": w(4, 6, 1, 1), "w3": w(6, 4, 1, 1), "wy": w(4, 6)},
        [4, 6],
    ),
    "Concat keeps two producers apart": (
        f"a = Conv (x, w1)  b = Conv (x, w2)  z = Concat <axis=1> (a, b)  {HEAD}",
        {"w1": w(6, 3, 1, 1), "w2": w(4, 3, 1, 1), "wy": w(4, 10)},
        [4, 6],
    ),
    "Split offsets follow": (
        f"a = Conv (x, w1)  l, r = Split <axis=1> (a, sizes)  c = Conv (l, w2)  z = Concat <axis=1> (c, r)  {HEAD}",
        {"w1": w(8, 3, 1, 1), "sizes": ints(3, 5), "w2": w(4, 3, 1, 1), "wy": w(4, 9)},
        [3, 4, 5],
    ),
    "Slice bounds follow": (
        f"a = Conv (x, w1)  z = Slice (a, from, to, at)  {HEAD}",
        {"w1": w(8, 3, 1, 1), "from": ints(2), "to": ints(8), "at": ints(1), "wy": w(4, 6)},
        [6],
    ),
    "Gather indices follow": (
        f"a = Conv (x, w1)  z = Gather <axis=1> (a, order)  {HEAD}",
        {"w1": w(6, 3, 1, 1), "order": ints(5, 3, 1, 0, 2, 4), "wy": w(4, 6)},
        [6],
    ),
    "a depthwise Conv goes with its channels": (
        f"a = Conv (x, w1)  z = Conv <group=6, pads=[1,1,1,1]> (a, w2, b2)  {HEAD}",
        {"w1": w(6, 3, 1, 1), "w2": w(6, 1, 3, 3), "b2": w(6), "wy": w(4, 6)},
        [6],
    ),
    "a depthwise Conv may multiply channels": (
        f"a = Conv (x, w1)  z = Conv <group=4> (a, w2)  {HEAD}",
        {"w1": w(4, 3, 1, 1), "w2": w(8, 1, 1, 1), "wy": w(4, 8)},
        [4],
    ),
    "batch normalisation, bias and bounds": (
        f"a = Conv (x, w1, b1)  n = BatchNormalization (a, s, o, m, v)  r = Relu (n)  q = Mul (r, c)  "
        f"z = PRelu (q, d)  {HEAD}",
        {"w1": w(6, 3, 1, 1), "b1": w(6), "s": w(6), "o": w(6), "m": w(6), "v": np.ones(6, np.float32)}
        | {"c": w(1, 6, 1, 1), "d": w(6, 1, 1), "wy": w(4, 6)},
        [6],
    ),
    "Resize, Pad and pooling keep channels": (
        f'a = Conv (x, w1)  u = Resize <mode="nearest"> (a, , scales)  k = Pad (u, pads) '
        f"z = MaxPool <kernel_shape=[2,2]> (k)  {HEAD}",
        {"w1": w(6, 3, 1, 1), "scales": np.asarray([1, 1, 2, 2], np.float32), "pads": ints(0, 0, 1, 1, 0, 0, 1, 1)}
        | {"wy": w(4, 6)},
        [6],
    ),
    "Resize by sizes": (
        f'a = Conv (x, w1)  z = Resize <mode="nearest"> (a, , , sizes)  {HEAD}',
        {"w1": w(6, 3, 1, 1), "sizes": ints(1, 6, 8, 8), "wy": w(4, 6)},
        [6],
    ),
    "a channel becomes many columns in Flatten": (
        "a = Conv (x, w1)  f = Flatten (a)  y = Gemm <transB=1> (f, wy)",
        {"w1": w(6, 3, 1, 1), "wy": w(4, 96)},
        [6],
    ),
    "Reshape to rows": (
        "a = Conv (x, w1)  t = Reshape (a, to)  s = Transpose <perm=[0,2,1]> (t)  q = MatMul (s, w2) "
        "y = ReduceMean <axes=[1], keepdims=0> (q)",
        {"w1": w(6, 3, 1, 1), "to": ints(0, 6, 16), "w2": w(6, 4)},
        [6],
    ),
    "a channel shuffle goes by position": (
        f"a = Conv (x, w1)  s = Reshape (a, five)  t = Transpose <perm=[0,2,1,3,4]> (s)  z = Reshape (t, four)  {HEAD}",
        {"w1": w(6, 3, 1, 1), "five": ints(1, 2, 3, 4, 4), "four": ints(1, 6, 4, 4), "wy": w(4, 6)},
        [3],
    ),
    "ConvTranspose, both ways": (
        f"a = Conv (x, w1)  z = ConvTranspose <strides=[2,2]> (a, w2, b2)  {HEAD}",
        {"w1": w(6, 3, 1, 1), "w2": w(6, 4, 2, 2), "b2": w(4), "wy": w(4, 4)},
        [4, 6],
    ),
    "DepthToSpace binds blocks": (
        f"a = Conv (x, w1)  z = DepthToSpace <blocksize=2> (a)  {HEAD}",
        {"w1": w(12, 3, 1, 1), "wy": w(4, 3)},
        [3],
    ),
    "a shared weight shrinks once": (
        f"a = Conv (x, w1)  b = Conv (a, w2)  c = Conv (b, w2)  z = Relu (c)  {HEAD}",
        {"w1": w(6, 3, 1, 1), "w2": w(6, 6, 1, 1), "wy": w(4, 6)},
        [6],
    ),
    "a shared bias is copied": (
        f"a = Conv (x, w1, b)  c = Conv (a, w2, b)  z = Relu (c)  {HEAD}",
        {"w1": w(6, 3, 1, 1), "b": w(6), "w2": w(6, 6, 1, 1), "wy": w(4, 6)},
        [6, 6],
    ),
    "quantization parameters by channel": (
        f"v = DequantizeLinear <axis=0> (w1, s, o)  a = Conv (x, v)  q = QuantizeLinear (a, c, d) "
        f"z = DequantizeLinear (q, c, d)  {HEAD}",
        {"w1": (w(6, 3, 1, 1) * 60).astype(np.int8), "s": np.abs(w(6)) / 50 + 0.01}
        | {"o": np.zeros(6, np.int8), "c": np.float32(0.05), "d": np.uint8(128), "wy": w(4, 6)},
        [6],
    ),
}


@pytest.mark.parametrize("case", IMAGES)
def test_channels_are_followed_and_removal_is_exact(case: str) -> None:
    body, weights, sizes = IMAGES[case]
    model = named(model_from_text(f"m (float[1,3,4,4] x) => (float[1,4] y) {{ {body} }}", **weights))
    assert groups(model) == sizes
    assert_exact_removal(model)


def test_whole_heads_leave_and_shape_constants_follow() -> None:
    model = attention()
    found = find_dependencies(model)
    assert [(group.kind, group.size) for group in found.groups] == [("heads", 4), ("channels", 10)]
    after = assert_exact_removal(model, N=2, S=5)
    split = next(node for node in after.graph if node.name == "q2")
    assert constant(split.inputs[1]).tolist() == [0, 0, 2, 3]


@pytest.mark.parametrize(("shared", "mask"), [(4, ""), (2, ""), (1, ""), (4, "each"), (2, "each"), (4, "all")])
def test_heads_of_attention_that_is_one_operator_leave(shared: int, mask: str) -> None:
    model = fused_attention(shared, mask)
    found = find_dependencies(model)
    assert [(group.kind, group.size) for group in found.groups] == ([("heads", shared)] if shared > 1 else [])
    if shared > 1:
        after = assert_exact_removal(model, N=2)
        operator = next(node for node in after.graph if node.op_type == "Attention")
        assert [operator.attributes[f"{which}_num_heads"].as_int() for which in ("q", "kv")] == [2, shared // 2]


def test_heads_that_have_an_axis_of_their_own_leave() -> None:
    text = """<ir_version: 10, opset_import: ["" : 23]> m (float[N,5,8] x) => (float[N,5,8] y) {
        q0 = MatMul (x, wq)  q1 = Reshape (q0, split)  q = Transpose <perm=[0,2,1,3]> (q1)
        k0 = MatMul (x, wk)  k1 = Reshape (k0, split)  k = Transpose <perm=[0,2,1,3]> (k1)
        v0 = MatMul (x, wv)  v1 = Reshape (v0, split)  v = Transpose <perm=[0,2,1,3]> (v1)
        a = Attention (q, k, v)  t = Transpose <perm=[0,2,1,3]> (a)  m0 = Reshape (t, merge)  y = MatMul (m0, wo) }"""
    weights = {"wq": w(8, 12), "wk": w(8, 12) * 2, "wv": w(8, 12) * 3, "wo": w(12, 8)}
    model = named(model_from_text(text, **weights, split=ints(0, 0, 4, 3), merge=ints(0, 0, 12)))
    assert [(group.kind, group.size) for group in find_dependencies(model).groups] == [("heads", 4)]
    assert_exact_removal(model, N=2)


def test_heads_whose_keys_are_kept_for_later_stay() -> None:
    text = """<ir_version: 10, opset_import: ["" : 23]>
        m (float[N,5,8] x) => (float[N,5,8] y, float[N,4,5,3] keys, float[N,4,5,3] values) {
        q = MatMul (x, wq)  k = MatMul (x, wk)  v = MatMul (x, wv)
        a, keys, values = Attention <q_num_heads=4, kv_num_heads=4> (q, k, v)  y = MatMul (a, wo) }"""
    model = named(model_from_text(text, wq=w(8, 12), wk=w(8, 12), wv=w(8, 12), wo=w(12, 8)))
    assert groups(model) == []
    assert reasons(model)["q"] == "Attention 'a' keeps keys and values for later"


def test_what_is_normalised_together_stays_with_the_reason() -> None:
    text = """m (float[N,3] x) => (float[N,4] y) {
        a = MatMul (x, w1)  n = LayerNormalization (a, g, z)  y = MatMul (n, w2) }"""
    model = named(model_from_text(text, w1=w(3, 6), g=w(6), z=w(6), w2=w(6, 4)))
    assert reasons(model)["a"] == "LayerNormalization 'n' normalises its channels together"


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_units_leave_all_gates_and_both_directions(direction: str) -> None:
    model = lstm(direction)
    assert groups(model) == [6]
    after = assert_exact_removal(model, N=2)
    assert after.graph[0].attributes["hidden_size"].as_int() == 3


def test_units_whose_state_comes_from_outside_stay() -> None:
    model = lstm("forward", initial=True)
    assert groups(model) == []
    assert reasons(model)["l"] == "it is an input of the model"


def test_gru_units_leave() -> None:
    text = """m (float[5,N,3] x) => (float[5,N,4] y) {
        g, last = GRU <hidden_size=6, linear_before_reset=1> (x, w1, r1, b1)
        s = Squeeze (g, at)  y = MatMul (s, wy) }"""
    model = named(model_from_text(text, w1=w(1, 18, 3), r1=w(1, 18, 6), b1=w(1, 36), at=ints(1), wy=w(6, 4)))
    assert groups(model) == [6]
    assert_exact_removal(model, N=2)


REFUSALS: dict[str, tuple[str, dict[str, np.ndarray], str]] = {
    "a sum over channels": ("a = Conv (x, w1)  q = ReduceMax <axes=[1]> (a)  y = Conv (q, wy)", {}, "ReduceMax"),
    "softmax over channels": (f"a = Conv (x, w1)  z = Softmax <axis=1> (a)  {HEAD}", {}, "Softmax"),
    "padding of channels": (
        f"a = Conv (x, w1)  z = Pad (a, pads)  {HEAD}",
        {"pads": ints(0, 1, 0, 0, 0, 0, 0, 0), "wy": w(4, 7)},
        "Pad",
    ),
    "its size is read": (
        f"a = Conv (x, w1)  s = Shape (a)  i = Cast <to=1> (s)  t = ReduceSum <keepdims=0> (i)  z = Mul (a, t)  {HEAD}",
        {},
        "its number is read by Shape",
    ),
    "a subgraph reads it": (
        f"""a = Conv (x, w1)  n = ReduceMax <keepdims=0> (x)  c = Greater (n, zero)
        z = If (c) <then_branch = t () => (float[1,6,4,4] u) {{ u = Relu (a) }},
                    else_branch = e () => (float[1,6,4,4] v) {{ v = Neg (a) }}>  {HEAD}""",
        {"zero": np.float32(0)},
        "a subgraph of If",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_followed_stays_with_the_reason(case: str) -> None:
    body, more, reason = REFUSALS[case]
    weights = {"w1": w(6, 3, 1, 1), "wy": w(4, 1, 1, 1) if "ReduceMax <axes" in body else w(4, 6), **more}
    shape = "float[1,4,4,4]" if "ReduceMax <axes" in body else "float[1,4]"
    model = named(model_from_text(f"m (float[1,3,4,4] x) => ({shape} y) {{ {body} }}", **weights))
    assert groups(model) == []
    assert reason in reasons(model)["a"]


def test_an_output_of_the_model_stays() -> None:
    model = named(model_from_text("m (float[1,3,4,4] x) => (float[1,6,4,4] y) { y = Conv (x, w1) }", w1=w(6, 3, 1, 1)))
    assert reasons(model) == {"y": "it is an output of the model"}


def test_an_unknown_operator_holds_what_it_reads() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "com.strangers" : 1]>
    m (float[1,3,4,4] x) => (float[1,4,4,4] y) { a = Conv (x, w1)  z = com.strangers.Odd (a)  y = Conv (z, w2) }"""
    model = named(model_from_text(text, w1=w(6, 3, 1, 1), w2=w(4, 6, 1, 1)))
    assert reasons(model)["a"] == "nothing is known of Odd 'z'"


def test_the_analysis_edits_nothing() -> None:
    model = attention()
    before = model_bytes(model)
    find_dependencies(model)
    assert model_bytes(model) == before
