"""Norms and activations, in the spellings of exporters, each beside what only looks like it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from fuse_checks import fused, random

from modelopt_cli.testing import model_from_text

ROWS = "(float[n,5,8] x) => (float[a,b,c] y)"


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def model(body: str, io: str = ROWS, opset: int = 17, **weights: np.ndarray) -> ir.Model:
    return model_from_text(f'<ir_version: 8, opset_import: ["" : {opset}]> g {io} {{ {body} }}', **weights)


CENTRED = "m = ReduceMean <axes = [-1]> (x) c = Sub(x, m)"
NORMS = {
    "div": f"{CENTRED} q = Pow(c, two) v = ReduceMean <axes = [-1]> (q) a = Add(v, e) r = Sqrt(a) y = Div(c, r)",
    "mul": f"{CENTRED} q = Mul(c, c) v = ReduceMean <axes = [2]> (q) a = Add(e, v) r = Sqrt(a) i = Reciprocal(r)"
    " y = Mul(i, c)",
    "one over": f"{CENTRED} q = Mul(c, c) v = ReduceMean <axes = [2]> (q) a = Add(e, v) r = Sqrt(a) i = Div(one, r)"
    " y = Mul(c, i)",
    "power": f"{CENTRED} q = Mul(c, c) v = ReduceMean <axes = [2]> (q) a = Add(e, v) i = Pow(a, minus) y = Mul(c, i)",
}
NUMBERS = {"two": number(2), "e": number(1e-5), "one": number(1), "minus": number(-0.5)}


def norm(body: str, opset: int = 17, **more: np.ndarray) -> ir.Model:
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    return model(body, opset=opset, **{k: v for k, v in NUMBERS.items() if k in words}, **more)


@pytest.mark.parametrize("spelling", NORMS)
def test_layer_normalization_is_recognised_with_its_scale_and_bias(spelling: str) -> None:
    assert fused(norm(NORMS[spelling]), n=2)[0] == {"LayerNormalization": 1}
    body = NORMS[spelling].replace("y =", "z =") + " s = Mul(g, z) y = Add(s, b)"
    affine = {"g": random(8), "b": random(8, seed=1)}
    assert fused(norm(body, **affine), n=2)[0] == {"LayerNormalization": 1}
    operators, reasons = fused(norm(body, opset=16, **affine), max_opset=16, n=2)
    assert operators["ReduceMean"] == 2 and "from opset 17" in reasons


def test_rms_normalization_is_recognised_from_opset_23_on() -> None:
    body = """q = Pow(x, two) v = ReduceMean <axes = [-1]> (q) a = Add(v, e) r = Sqrt(a) i = Reciprocal(r)
              z = Mul(x, i) y = Mul(g, z)"""
    assert fused(norm(body, g=random(8)), n=2)[0] == {"RMSNormalization": 1}
    assert "from opset 23" in fused(norm(body, g=random(8)), max_opset=22, n=2)[1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("v = ReduceMean <axes = [-1]>", "v = ReduceMean <axes = [1]>"),  # the variance of another axis
        ("q = Pow(c, two)", "q = Pow(x, two)"),  # of what is not centred
        ("y = Div(c, r)", "w = Neg(c) d = Div(c, r) y = Add(w, d)"),  # the difference is read elsewhere
    ],
)
def test_what_only_looks_like_a_norm_stays(old: str, new: str) -> None:
    operators, _ = fused(norm(NORMS["div"].replace(old, new)), n=2)
    assert "LayerNormalization" not in operators


def test_a_scale_of_another_axis_makes_it_another_norm() -> None:
    body = NORMS["div"].replace("y =", "z =") + " y = Mul(z, g)"
    assert fused(norm(body, g=random(5, 1)), n=2)[0] == {"InstanceNormalization": 1}


@pytest.mark.parametrize("softplus", ["s = Softplus(x)", "p = Exp(x) o = Add(p, one) s = Log(o)"])
def test_mish_is_recognised(softplus: str) -> None:
    body = f"{softplus} t = Tanh(s) y = Mul(t, x)"
    weights = {"one": number(1)} if "one" in body else {}
    assert fused(model(body, **weights), n=2)[0] == {"Mish": 1}
    assert "from opset 18" in fused(model(body, **weights), max_opset=17, n=2)[1]
    other = body.replace("y = Mul(t, x)", "z = Neg(x) y = Mul(t, z)")
    assert "Mish" not in fused(model(other, **weights), n=2)[0]


def test_a_line_with_a_bend_is_a_leaky_relu_or_a_prelu() -> None:
    io = "(float[n,4,h,w] x) => (float[a,b,c,d] y)"
    sizes = {"n": 2, "h": 3, "w": 3}
    halves = "p = Relu(x) m = Neg(x) r = Relu(m) s = Mul(k, r) y = Sub(p, s)"
    assert fused(model(halves, io, k=number(0.1)), **sizes)[0] == {"LeakyRelu": 1}
    assert fused(model(halves, io, k=random(4, 1, 1)), **sizes)[0] == {"PRelu": 1}
    assert fused(model("s = Mul(x, k) y = Max(x, s)", io, k=number(0.1)), **sizes)[0] == {"LeakyRelu": 1}
    assert fused(model("s = Mul(x, k) y = Max(x, s)", io, k=number(1.5)), **sizes)[0] == {"Mul": 1, "Max": 1}
    other = "p = Relu(x) m = Neg(x) r = Sigmoid(m) s = Mul(k, r) y = Sub(p, s)"
    assert "LeakyRelu" not in fused(model(other, io, k=number(0.1)), **sizes)[0]


def test_the_tanh_form_of_gelu_may_be_multiplied_out() -> None:
    body = """a = Mul(small, x) b = Mul(x, a) c = Mul(x, b) d = Add(x, c) f = Mul(slope, d) t = Tanh(f) o = Add(one, t)
              h = Mul(half, o) y = Mul(x, h)"""
    numbers = {"small": number(0.044715), "slope": number(0.7978846), "one": number(1), "half": number(0.5)}
    assert fused(model(body, **numbers), n=2)[0] == {"Gelu": 1}
    square = body.replace("c = Mul(x, b)", "c = Mul(b, one)")  # x squared
    assert "Gelu" not in fused(model(square, **numbers), n=2)[0]
