from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.graph.edit import replace_weight
from modelopt_cli.graph.shapes import infer_shapes
from modelopt_cli.passes.quantize.absorb import find_absorber
from modelopt_cli.testing import assert_same_outputs, model_from_text, op_types

RNG = np.random.default_rng(0)
HEADER = '<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>\n'
CHANNELS = 32

NORMALIZED = """
g (float[b, s, 32] x) => (float[b, s, 24] y) {
    h = LayerNormalization<axis=-1>(x, n, n)
    y = MatMul(h, w)
}
"""
RELU = """
g (float[b, s, 32] x) => (float[b, s, 24] y) {
    a = MatMul(x, m)
    c = Add(a, n)
    r = Relu(c)
    y = MatMul(r, w)
}
"""
GEMM = """
g (float[b, 32] x) => (float[b, 24] y) {
    a = Gemm<transB=1>(x, m, n)
    y = MatMul(a, w)
}
"""
GATE = """
g (float[b, s, 32] x) => (float[b, s, 24] y) {
    a = MatMul(x, m)
    i = Sigmoid(a)
    u = MatMul(x, m2)
    r = Mul(i, u)
    y = MatMul(r, w)
}
"""
ATTENTION = """
g (float[b, s, 32] x) => (float[b, s, 24] y) {
    v = MatMul(x, m)
    v4 = Reshape(v, split)
    vt = Transpose<perm=[0, 2, 1, 3]>(v4)
    xt0 = Reshape(x, split)
    q = Transpose<perm=[0, 2, 1, 3]>(xt0)
    k = Transpose<perm=[0, 2, 3, 1]>(xt0)
    qk = MatMul(q, k)
    p = Softmax<axis=-1>(qk)
    o = MatMul(p, vt)
    ot = Transpose<perm=[0, 2, 1, 3]>(o)
    j = Reshape(ot, join)
    y = MatMul(j, w)
}
"""
CONTRIB = (
    HEADER
    + """
g (float[b, s, 32] x) => (float[b, s, 24] y) {
    v = MatMul(x, m)
    j = com.microsoft.MultiHeadAttention<num_heads=4>(x, x, v)
    y = MatMul(j, w)
}
"""
)
STANDARD = """<ir_version: 11, opset_import: ["" : 23]>
g (float[b, s, 32] x) => (float[b, s, 24] y) {
    v = MatMul(x, m)
    j = Attention<q_num_heads=4, kv_num_heads=4>(x, x, v)
    y = MatMul(j, w)
}
"""
INTEGER = (
    HEADER
    + """
g (float[b, s, 32] x) => (float[b, s, 24] y) {
    u, us, uz = DynamicQuantizeLinear(x)
    v = com.microsoft.MatMulIntegerToFloat(u, m8, us, step, uz, , n)
    r = Relu(v)
    y = MatMul(r, w)
}
"""
)
STANDARD_INTEGER = """
g (float[b, s, 32] x) => (float[b, s, 24] y) {
    u, us, uz = DynamicQuantizeLinear(x)
    t = MatMulInteger(u, m8, uz)
    f = Cast<to=1>(t)
    both = Mul(us, step)
    v = Mul(f, both)
    c = Add(v, n)
    r = Relu(c)
    y = MatMul(r, w)
}
"""


def model_of(text: str) -> ir.Model:
    arrays = {
        "n": RNG.uniform(0.5, 2, CHANNELS).astype(np.float32),
        "m": RNG.standard_normal((CHANNELS, CHANNELS)).astype(np.float32) / 4,
        "m2": RNG.standard_normal((CHANNELS, CHANNELS)).astype(np.float32) / 4,
        "m8": RNG.integers(-127, 127, (CHANNELS, CHANNELS)).astype(np.int8),
        "step": RNG.uniform(0.001, 0.002, CHANNELS).astype(np.float32),
        "w": RNG.standard_normal((CHANNELS, 24)).astype(np.float32),
        "split": np.array([0, 0, 4, 8], np.int64),
        "join": np.array([0, 0, 32], np.int64),
    }
    model = model_from_text(text, **{name: array for name, array in arrays.items() if re.search(rf"\b{name}\b", text)})
    infer_shapes(model)
    return model


@pytest.mark.parametrize(
    "text",
    [NORMALIZED, RELU, GEMM, GATE, ATTENTION, CONTRIB, STANDARD, INTEGER, STANDARD_INTEGER],
    ids=["normalization", "relu", "gemm", "gate", "attention", "contrib", "standard", "integer", "standard-integer"],
)
def test_scales_go_into_the_weight_in_front(text: str) -> None:
    model = model_of(text)
    result = model.clone()
    product = result.graph[-1]
    source = product.inputs[0]
    assert source is not None
    absorber = find_absorber(source, CHANNELS, [product])
    assert absorber is not None
    scales = RNG.uniform(1, 8, CHANNELS).astype(np.float32)
    absorber(scales)
    weight = result.graph.initializers["w"]
    array = weight.const_value
    assert array is not None
    replace_weight(weight, array.numpy() * scales[:, None])
    assert op_types(result) == op_types(model)
    shape = (3, CHANNELS) if text is GEMM else (2, 5, CHANNELS)
    assert_same_outputs(model, result, {"x": RNG.standard_normal(shape).astype(np.float32)}, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        ("y = MatMul(r, w)", "k = Identity(r)\n y = MatMul(k, w)\n z = Mul(r, r)"),
        ("r = Relu(c)", "r = Gelu(c)"),
        ("r = Relu(c)", "s1 = Sum(c, c)\n r = Relu(s1)"),
        ("a = MatMul(x, m)", "a = MatMul(x, m)\n z = Mul(a, a)"),
        ("a = MatMul(x, m)", "a = MatMul(m, m)"),
    ],
    ids=["read elsewhere", "not homogeneous", "a sum", "its product is read elsewhere", "weight on both sides"],
)
def test_scales_stay_where_they_would_change_something_else(change: tuple[str, str]) -> None:
    before, after = change
    text = HEADER + RELU.replace(before, after)
    if "z =" in after:
        text = text.replace("[b, s, 24] y)", "[b, s, 24] y, float[b, s, 32] z)")
    model = model_of(text)
    product = next(node for node in model.graph if node.outputs[0].name == "y")
    source = product.inputs[0]
    assert source is not None
    assert find_absorber(source, CHANNELS, [product]) is None


def test_weighted_rows_are_not_weighted_channels() -> None:
    """The left operand of a product makes rows: its channels are summed."""
    text = ATTENTION.replace("o = MatMul(p, vt)", "vx = MatMul(vt, k)\n o = MatMul(vx, q)")
    product = (model := model_of(text)).graph[-1]
    source = product.inputs[0]
    assert source is not None and model is not None
    assert find_absorber(source, CHANNELS, [product]) is None


def test_heads_that_share_values_cannot_take_scales_of_their_own() -> None:
    text = """
    g (float[b, s, 32] x) => (float[b, s, 24] y) {
        v = MatMul(x, narrow)
        v4 = Reshape(v, split)
        q4 = Reshape(x, heads)
        q = Transpose<perm=[0, 2, 1, 3]>(q4)
        k = Transpose<perm=[0, 2, 3, 1]>(q4)
        p = MatMul(q, k)
        vt = Transpose<perm=[0, 2, 1, 3]>(v4)
        o = MatMul(p, vt)
        ot = Transpose<perm=[0, 2, 1, 3]>(o)
        j = Reshape(ot, join)
        y = MatMul(j, w)
    }
    """
    model = model_from_text(
        text,
        narrow=RNG.standard_normal((32, 8)).astype(np.float32),
        split=np.array([0, 0, 1, 8], np.int64),
        heads=np.array([0, 0, 4, 8], np.int64),
        join=np.array([0, 0, 32], np.int64),
        w=RNG.standard_normal((32, 24)).astype(np.float32),
    )
    infer_shapes(model)
    product = model.graph[-1]
    source = product.inputs[0]
    assert source is not None
    assert find_absorber(source, CHANNELS, [product]) is None
