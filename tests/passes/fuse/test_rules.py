"""Each rule with what it must refuse."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from fuse_checks import check_pass, fused, random

from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import model_from_text, op_types

IMAGE = "(float[n,4,h,w] x) => (float[a,b,c,d] y)"
SIZES = {"n": 2, "h": 6, "w": 5}
CONV = "<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>"


def image_model(body: str, io: str = IMAGE, opset: int = 17, **weights: np.ndarray) -> ir.Model:
    return model_from_text(f'<ir_version: 8, opset_import: ["" : {opset}]> g {io} {{ {body} }}', **weights)


@pytest.mark.parametrize("shape", [(), (1,), (4, 1, 1), (1, 4, 1, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("op", ["Mul(t, s)", "Mul(s, t)", "Add(s, t)", "Sub(t, s)", "Sub(s, t)", "Div(t, s)"])
def test_arithmetic_after_a_convolution_is_folded(op: str, shape: tuple[int, ...]) -> None:
    model = image_model(f"t = Conv {CONV} (x, k) y = {op}", k=random(4, 4, 3, 3), s=random(*shape, seed=1))
    assert fused(model, **SIZES)[0] == {"Conv": 1}


def test_a_chain_with_batch_normalization_is_folded_at_once() -> None:
    model = image_model(
        f"t = Conv {CONV} (x, k, b) u = BatchNormalization(t, s, o, m, v) w1 = Mul(u, f) z = Neg(w1) y = Div(z, f)",
        **{"k": random(4, 4, 3, 3), "b": random(4), "s": random(4, seed=1), "o": random(4, seed=2)},
        **{"m": random(4, seed=3), "v": np.abs(random(4, seed=4)) + 0.1, "f": np.float32(3).reshape(())},
    )
    assert fused(model, **SIZES)[0] == {"Conv": 1}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"t = Conv {CONV} (x, k) u = Mul(t, s) v = Add(t, s) y = Mul(u, v)", "read by several nodes"),
        (f"y = Conv {CONV} (x, k) z = Mul(y, s)", "is an output of the model"),
        (f"t = Conv {CONV} (x, k) v = Conv {CONV} (t, k) y = Mul(v, s)", "shared by several nodes"),
    ],
)
def test_what_others_read_is_not_folded_into(body: str, reason: str) -> None:
    io = IMAGE.replace("y)", "y, float[a,b,c,d] z)") if "z = " in body else IMAGE
    model = image_model(body, io, k=random(4, 4, 3, 3), s=np.float32(2).reshape(()))
    assert reason in fused(model, rtol=1e-4, **SIZES)[1]


@pytest.mark.parametrize("shape", [(5,), (6, 1), (1, 1, 6, 5), (2, 1, 1, 1)])
def test_a_constant_that_varies_over_pixels_or_images_stays(shape: tuple[int, ...]) -> None:
    model = image_model(f"t = Conv {CONV} (x, k) y = Mul(t, s)", k=random(4, 4, 3, 3), s=random(*shape))
    assert fused(model, **SIZES)[0] == {"Conv": 1, "Mul": 1}


def test_a_transposed_convolution_with_groups_takes_channels_in_their_order() -> None:
    model = image_model(
        "t = ConvTranspose <group = 2, strides = [2, 2]> (x, k) y = Mul(t, s)",
        **{"k": random(4, 3, 2, 2), "s": random(6, 1, 1)},
    )
    assert fused(model, **SIZES)[0] == {"ConvTranspose": 1}


@pytest.mark.parametrize("attributes", ["", "<transB = 1>", "<alpha = 0.5, beta = 2.0>"])
def test_arithmetic_around_gemm_is_folded(attributes: str) -> None:
    weight = random(4, 3).T.copy() if "transB" in attributes else random(4, 3)
    model = model_from_text(
        "g (float[n,4] x) => (float[n,3] y) { p = Mul(x, q) o = Add(p, q)"
        f" t = Gemm {attributes} (o, k, b) u = Mul(t, s) y = Sub(s, u) }}",
        **{"k": weight, "b": random(3), "s": random(3, seed=1), "q": random(4, seed=2)},
    )
    assert fused(model, n=2)[0] == {"Gemm": 1}


def test_matmul_keeps_one_add_for_its_bias() -> None:
    model = model_from_text(
        "g (float[n,5,4] x) => (float[n,5,3] y) { t = MatMul(x, k) u = Add(b, t) y = Mul(u, s) }",
        **{"k": random(4, 3), "b": random(3), "s": random(3, seed=1)},
    )
    assert fused(model, n=2)[0] == {"MatMul": 1, "Add": 1}


def test_a_matrix_product_with_bias_is_a_gemm_and_a_batched_one_is_not() -> None:
    text = "g (float[{}4] x) => (float[{}3] y) {{ t = MatMul(x, k) y = Add(t, b) }}"
    weights = {"k": random(4, 3), "b": random(3)}
    assert fused(model_from_text(text.format("n,", "n,"), **weights), n=2)[0] == {"Gemm": 1}
    assert fused(model_from_text(text.format("n,2,", "n,2,"), **weights), n=2)[0] == {"MatMul": 1, "Add": 1}


def test_a_factor_passes_zero_padding_and_an_offset_does_not() -> None:
    model = image_model(f"t = Mul(x, s) y = Conv {CONV} (t, k)", s=random(4, 1, 1), k=random(4, 4, 3, 3))
    assert fused(model, **SIZES)[0] == {"Conv": 1}
    model = image_model(f"t = Add(x, s) y = Conv {CONV} (t, k)", s=random(4, 1, 1), k=random(4, 4, 3, 3))
    operators, reasons = fused(model, **SIZES)
    assert operators == {"Add": 1, "Conv": 1} and "pads with zeros" in reasons
    model = image_model("t = Add(x, s) y = Conv (t, k)", s=random(4, 1, 1), k=random(4, 4, 3, 3))
    assert fused(model, **SIZES)[0] == {"Conv": 1}


@pytest.mark.parametrize("op", ["Relu(t)", "LeakyRelu(t)", "MaxPool <kernel_shape = [2, 2]> (t)"])
def test_only_a_positive_factor_passes_what_is_not_linear(op: str) -> None:
    body = f"t = Mul(x, s) u = {op} y = Conv {CONV} (u, k)"
    scale = np.abs(random(4, 1, 1)) + 0.1
    name = op[: op.index("(")].split()[0]
    assert fused(image_model(body, s=scale, k=random(4, 4, 3, 3)), **SIZES)[0] == {name: 1, "Conv": 1}
    operators, reasons = fused(image_model(body, s=-scale, k=random(4, 4, 3, 3)), **SIZES)
    assert operators == {"Mul": 1, name: 1, "Conv": 1} and "positive factor" in reasons


def test_a_factor_passes_a_squeeze_and_excite_block_on_both_paths() -> None:
    body = f"""t = Mul(x, s) p = GlobalAveragePool(t) a = Conv (p, k1, b1) r = Relu(a) g = Conv (r, k1, b1)
               h = Sigmoid(g) u = Mul(t, h) y = Conv {CONV} (u, k)"""
    model = image_model(body, s=np.float32([0.3]), k=random(4, 4, 3, 3), k1=random(4, 4, 1, 1, seed=1), b1=random(4))
    # k1 is shared by two convolutions, so the factor has nowhere to go
    assert "shared by several nodes" in fused(model, **SIZES)[1]
    body = body.replace("g = Conv (r, k1, b1)", "g = Conv (r, k2, b1)")
    weights = {"k1": random(4, 4, 1, 1, seed=1), "k2": random(4, 4, 1, 1, seed=2), "b1": random(4)}
    model = image_model(body, s=np.float32([0.3]), k=random(4, 4, 3, 3), **weights)
    assert fused(model, **SIZES)[0]["Mul"] == 1


def test_a_factor_is_spread_over_the_channels_of_a_concat() -> None:
    io = "(float[n,4,h,w] x, float[n,2,h,w] z) => (float[a,b,c,d] y)"
    body = f"t = Mul(x, s) u = Concat <axis = 1> (z, t) y = Conv {CONV} (u, k)"
    model = image_model(body, io, s=random(4, 1, 1), k=random(4, 6, 3, 3))
    assert fused(model, **SIZES)[0] == {"Concat": 1, "Conv": 1}
    model = image_model(
        body.replace("axis = 1", "axis = 2"), io.replace("n,2,h", "n,4,h"), s=random(4, 1, 1), k=random(4, 4, 3, 3)
    )
    assert fused(model, **SIZES)[0]["Mul"] == 1


HARD_SWISH = {
    "paddle": "a = Add(t, three) c = Clip(a, zero, six) m = Mul(t, c) r = Div(m, six)",
    "factor": "a = Add(three, t) c = Clip(a, zero, six) m = Mul(c, t) r = Mul(sixth, m)",
    "gate first": "a = Add(t, three) c = Clip(a, zero, six) m = Div(c, six) r = Mul(t, m)",
    "named": "m = HardSigmoid <alpha = 0.1666667, beta = 0.5> (t) r = Mul(t, m)",
}


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


@pytest.mark.parametrize("spelling", HARD_SWISH)
@pytest.mark.parametrize(("limit", "activation"), [(None, {"HardSwish": 1}), (13, {"HardSigmoid": 1, "Mul": 1})])
def test_hard_swish_is_recognised(spelling: str, limit: int | None, activation: dict[str, int]) -> None:
    body = f"t = Conv {CONV} (x, k) {HARD_SWISH[spelling]} y = Conv {CONV} (r, k)"
    numbers = {"three": number(3), "zero": number(0), "six": number(6), "sixth": number(1 / 6)}
    used = {name: value for name, value in numbers.items() if name in HARD_SWISH[spelling]}
    model = image_model(body, opset=12, k=random(4, 4, 3, 3), **used)
    assert fused(model, max_opset=limit, **SIZES)[0] == {"Conv": 2, **activation}


def test_what_only_looks_like_hard_swish_stays() -> None:
    body = "a = Add(x, three) c = Clip(a, zero, six) m = Mul(z, c) y = Div(m, six)"
    io = "(float[n,4,h,w] x, float[n,4,h,w] z) => (float[a,b,c,d] y)"
    model = image_model(body, io, three=number(3), zero=number(0), six=number(6))
    assert "HardSwish" not in fused(model, **SIZES)[0]


def test_a_hard_sigmoid_after_a_convolution_becomes_its_clip() -> None:
    model = image_model(f"t = Conv {CONV} (x, k) y = HardSigmoid (t)", k=random(4, 4, 3, 3))
    assert fused(model, **SIZES)[0] == {"Conv": 1, "Clip": 1}
    model = image_model(f"t = Conv {CONV} (x, k) h = HardSigmoid (t) y = Mul(t, h)", k=random(4, 4, 3, 3))
    assert fused(model, **SIZES)[0] == {"Conv": 1, "HardSigmoid": 1, "Mul": 1}  # alpha 0.2 is no HardSwish


def test_the_residual_of_a_gate_goes_into_its_bias() -> None:
    body = "p = GlobalAveragePool(x) g = Conv (p, k, b) h = HardSigmoid (g) m = Mul(x, h) y = Add({}, m)"
    weights = {"k": random(4, 4, 1, 1), "b": random(4)}
    assert fused(image_model(body.format("x"), **weights), **SIZES)[0] == {
        "GlobalAveragePool": 1,
        "Conv": 1,
        "Clip": 1,
        "Mul": 1,
    }
    io = IMAGE.replace("x)", "x, float[n,4,h,w] z)")
    assert fused(image_model(body.format("z"), io, **weights), **SIZES)[0]["Add"] == 1


GELU = {
    "torch": "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)",
    "half first": "h = Mul(x, half) d = Mul(x, inverse) e = Erf(d) a = Add(one, e) y = Mul(h, a)",
    "tanh": "c = Pow(x, three) f = Mul(c, small) s = Add(x, f) g = Mul(s, slope) e = Tanh(g) a = Add(e, one)"
    " m = Mul(x, a) y = Mul(m, half)",
}
GELU_NUMBERS = {
    **{"root": math.sqrt(2), "inverse": math.sqrt(0.5), "one": 1.0, "half": 0.5, "three": 3.0},
    **{"small": 0.044715, "slope": math.sqrt(2 / math.pi)},
}


def gelu_model(body: str, **changed: float) -> ir.Model:
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    numbers = {name: number(value) for name, value in (GELU_NUMBERS | changed).items() if name in words}
    return model_from_text(f"g (float[n,5] x) => (float[n,5] y) {{ {body} }}", **numbers)


@pytest.mark.parametrize("spelling", GELU)
def test_gelu_is_recognised_where_the_opset_may_have_it(spelling: str) -> None:
    model = gelu_model(GELU[spelling])
    assert fused(model, n=2)[0] == {"Gelu": 1}
    operators, reasons = fused(model, max_opset=19, n=2)
    assert operators.total() == GELU[spelling].count("=") and "from opset 20" in reasons


@pytest.mark.parametrize("changed", [{"one": 2.0}, {"half": 0.25}, {"root": 2.0}])
def test_what_only_looks_like_gelu_stays(changed: dict[str, float]) -> None:
    assert "Gelu" not in fused(gelu_model(GELU["torch"], **changed), n=2)[0]


def test_zero_padding_goes_into_the_convolution() -> None:
    body = "u = Pad {}(x, p{}) y = Conv <pads = [0, 1, 0, 1]> (u, k)"
    pads = np.array([0, 0, 1, 2, 0, 0, 3, 4])
    weights = {"k": random(4, 4, 3, 3)}
    assert fused(image_model(body.format("", ""), p=pads, **weights), **SIZES)[0] == {"Conv": 1}
    for attributes, value, p, reason in (
        ('<mode = "reflect"> ', "", pads, "by mode 'reflect'"),
        ("", ", s", pads, "another number than 0"),
        ("", "", np.array([0, 0, -1, 0, 0, 0, 0, 0]), "crops"),
        ("", "", np.array([1, 0, 1, 0, 0, 0, 0, 0]), "batch or the channels"),
    ):
        used = {"s": number(1)} if value else {}
        model = image_model(body.format(attributes, value), p=p, **weights, **used)
        operators, reasons = fused(model, **SIZES)
        assert operators == {"Pad": 1, "Conv": 1} and reason in reasons


def test_clips_in_a_row_are_one() -> None:
    numbers = {"zero": number(0), "six": number(6), "one": number(1)}
    io = "(float[n,5] x) => (float[n,5] y)"
    for body, left in (
        ("t = Relu(x) y = Clip(t, zero, six)", {"Clip": 1}),
        ("t = Relu(x) y = Relu(t)", {"Relu": 1}),
        ("t = Clip(x, one, six) y = Clip(t, zero, one)", {"Clip": 1}),
        ("t = Relu(x) u = Neg(t) v = Clip(t, zero, six) y = Add(u, v)", {"Relu": 1, "Neg": 1, "Clip": 1, "Add": 1}),
    ):
        used = {name: value for name, value in numbers.items() if name in body}
        assert fused(image_model(body, io, **used), n=3)[0] == left


ATTENTION = """q = MatMul(x, wq) qb = Add(q, bq) qr = Reshape(qb, r) qt = Transpose <perm = [0, 2, 1, 3]> (qr)
    k = MatMul(x, wk) kr = Reshape(k, r) kt = Transpose <perm = [0, 2, 3, 1]> (kr)
    s = MatMul(qt, kt) d = Div(s, scale) y = Softmax <axis = -1> (d)"""


@pytest.mark.parametrize(("wk", "left"), [("wk", 0), ("wq", 1)])
def test_the_scale_of_attention_scores_goes_into_a_projection(wk: str, left: int) -> None:
    body = ATTENTION.replace("x, wk", f"x, {wk}")
    weights = {"wq": random(8, 8), "bq": random(8), "wk": random(8, 8, seed=1), "r": np.array([0, 0, 2, 4])}
    weights = {name: value for name, value in weights.items() if name != "wk" or wk == "wk"}
    io = "(float[n,m,8] x) => (float[a,b,c,d] y)"
    model = image_model(body, io, scale=number(2), **weights)
    assert fused(model, n=2, m=3)[0]["Div"] == left


def test_float16_weights_are_folded_and_an_overflow_is_refused() -> None:
    io = "(float16[n,4,h,w] x) => (float16[a,b,c,d] y)"
    body = f"t = Conv {CONV} (x, k) y = Mul(t, s)"
    weights = {"k": random(4, 4, 3, 3).astype(np.float16)}
    model = image_model(body, io, s=np.array(0.5, np.float16), **weights)
    result = check_pass(Fuse(), check_pass(Simplify(), model, **SIZES).model, atol=2e-2, **SIZES)
    assert op_types(result.model) == ["Conv"]
    model = image_model(body, io, s=np.array(60000, np.float16), **weights)
    skipped = Fuse().apply(Simplify().apply(model, _context()).model, _context()).skipped
    assert any("does not fit" in skip.reason for skip in skipped)


def _context() -> object:
    from modelopt_cli.passes.base import PassContext

    return PassContext(Target())


@pytest.mark.zoo
@pytest.mark.parametrize(
    ("name", "most"),
    [("ppocr_det", 155), pytest.param("minilm_sentiment", 199, marks=pytest.mark.slow), ("efficientnet_lite0", 94)],
)
def test_real_models(zoo: Path, name: str, most: int) -> None:
    model = ir.load(zoo / name / "model.onnx")
    dims = {"batch": 2, "seq": 7, "p2o.DynamicDimension.1": 32, "p2o.DynamicDimension.2": 64}
    assert fused(model, atol=1e-5, **dims)[0].total() <= most
