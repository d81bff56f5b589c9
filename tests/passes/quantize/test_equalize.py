from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
import pytest

from modelopt_cli.passes.quantize.channel_sets import channel_sets
from modelopt_cli.passes.quantize.equalize import equalize, scale_channels
from modelopt_cli.passes.quantize.quantize_static import QuantizeStatic
from modelopt_cli.progress import Silent
from modelopt_cli.testing import ArrayDataset, assert_same_outputs, model_from_text, run_model, run_pass

RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 8, 12, 12)).astype(np.float32)
IO = "g (float[N, 8, 12, 12] x) => (float[N, 16, 12, 12] y)"
BODIES = {
    "chain": "a = Conv(x, w, b) r = Relu(a) y = Conv(r, v)",
    "leaky": "a = Conv(x, w, b) r = LeakyRelu<alpha = 0.1>(a) y = Conv(r, v)",
    "depthwise": "a = Conv(x, w, b) r = Relu(a) c = Conv<group = 16>(r, d) s = Relu(c) y = Conv(s, v)",
    "residual": "a = Conv(x, w, b) r = Relu(a) c = Conv(r, u) e = Add(a, c) y = Conv(e, v)",
    "gate": "a = Conv(x, w, b) p = GlobalAveragePool(a) h = Conv(p, u) s = Sigmoid(h) e = Mul(a, s) y = Conv(e, v)",
    "pool": "a = Conv(x, w, b) r = Relu(a) p = MaxPool<kernel_shape = [1, 1]>(r) y = Conv(p, v)",
}
REFUSED = {
    "Clip does not pass factors on": "a = Conv(x, w, b) r = Clip(a, zero, six) y = Conv(r, v)",
    "HardSwish does not pass factors on": "a = Conv(x, w, b) r = HardSwish(a) y = Conv(r, v)",
    "is an input or output of the graph": "y = Conv(x, w, b) z = Conv(y, v)",
    "Conv does not pass factors on": "a = Conv(x, w, b) r = Relu(a) c = Conv(r, v) y = Conv(c, v)",
}


def model_of(body: str, head: str = IO) -> ir.Model:
    shapes = {"w": (16, 8, 1, 1), "b": (16,), "v": (16, 16, 1, 1), "u": (16, 16, 1, 1), "d": (16, 1, 1, 1)}
    words = body.replace("(", " ").replace(")", " ").replace(",", " ").split()
    weights = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items() if name in words}
    weights["w"] *= np.geomspace(1, 40, 16, dtype=np.float32).reshape(-1, 1, 1, 1)
    weights["b"] *= 0.1
    clip = {"zero": np.float32(0), "six": np.float32(6)} if "Clip" in words else {}
    arrays = weights | {name: np.asarray(number) for name, number in clip.items()}
    return with_shapes(model_from_text(f"{head} {{ {body} }}", **arrays))


def with_shapes(model: ir.Model) -> ir.Model:
    return common_passes.ShapeInferencePass()(model).model


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_ranges_become_alike_and_outputs_stay(body: str) -> None:
    model = model_of(body)
    found, (line,) = equalize(model, ArrayDataset({"x": X}), Silent())
    assert found is not model and not line.startswith("equalized: 0")
    assert_same_outputs(model, found, {"x": X}, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_any_positive_factors_leave_the_outputs(body: str) -> None:
    model = model_of(body)
    found = model.clone()
    free = [each for each in channel_sets(found.graph) if each.refusal is None]
    for each in free:
        scale_channels(found.graph, each, RNG.uniform(0.2, 5, each.channels).astype(np.float32))
    assert free
    assert_same_outputs(model, found, {"x": X}, rtol=1e-4, atol=1e-3)


def test_linear_layers_behind_a_pool_take_part() -> None:
    text = """g (float[N, 8, 12, 12] x) => (float[N, 4] y)
        { a = Conv(x, w) r = Relu(a) p = GlobalAveragePool(r) f = Flatten(p) h = Gemm(f, m) s = Relu(h)
          y = Gemm<transB = 1>(s, k) }"""
    arrays = {"w": (16, 8, 1, 1), "m": (16, 10), "k": (4, 10)}
    weights = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in arrays.items()}
    model = with_shapes(model_from_text(text, **weights))
    found = model.clone()
    sets = [each for each in channel_sets(found.graph) if each.refusal is None]
    assert [each.channels for each in sets] == [16, 10]
    for each in sets:
        scale_channels(found.graph, each, RNG.uniform(0.2, 5, each.channels).astype(np.float32))
    assert_same_outputs(model, found, {"x": X}, rtol=1e-4, atol=1e-3)


def test_a_convolution_in_groups_takes_factors_by_group() -> None:
    text = f"{IO} {{ a = Conv(x, w) r = Relu(a) y = Conv<group = 4>(r, v) }}"
    w, v = (RNG.standard_normal(shape).astype(np.float32) for shape in ((16, 8, 1, 1), (16, 4, 1, 1)))
    model = model_from_text(text, w=w, v=v)
    found = model.clone()
    (only,) = [each for each in channel_sets(found.graph) if each.refusal is None]
    scale_channels(found.graph, only, RNG.uniform(0.2, 5, 16).astype(np.float32))
    assert_same_outputs(model, found, {"x": X}, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("reason", "body"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_be_scaled_is_left_and_said(reason: str, body: str) -> None:
    head = IO.replace("y)", "y, float[N, 16, 12, 12] z)") if "z =" in body else IO
    model = model_of(body, head)
    found, (line,) = equalize(model, ArrayDataset({"x": X}), Silent())
    assert found is model and line.startswith("equalized: 0 of") and f"not: {reason}" in line


def test_channels_that_are_alike_are_left() -> None:
    model = model_of(BODIES["chain"])
    found, _ = equalize(model, ArrayDataset({"x": X}), Silent())
    again, (line,) = equalize(found, ArrayDataset({"x": X}), Silent())
    assert again is found and line.startswith("equalized: 0 of")


def test_integers_get_closer_where_channels_differ() -> None:
    text = "g (float[N, 8, 64, 64] x) => (float[N, 16, 64, 64] y) { a = Conv(x, w) r = Relu(a) y = Conv(r, v) }"
    factors = np.geomspace(1, 40, 16, dtype=np.float32)  # a channel of small numbers may count as much as a large one
    w = RNG.standard_normal((16, 8, 1, 1)).astype(np.float32) * factors.reshape(-1, 1, 1, 1)
    v = RNG.standard_normal((16, 16, 1, 1)).astype(np.float32) / factors.reshape(1, -1, 1, 1)
    model, x = with_shapes(model_from_text(text, w=w, v=v)), RNG.standard_normal((6, 8, 64, 64)).astype(np.float32)
    exact = run_model(model, {"x": x})["y"]
    noise = []
    for equalized in (False, True):
        pass_ = QuantizeStatic(budget=0, equalize=equalized, min_sqnr=0)
        found = run_pass(pass_, model, calibration=ArrayDataset({"x": x})).model
        noise.append(float(((run_model(found, {"x": x})["y"] - exact) ** 2).sum()))
    assert 0 < noise[1] < noise[0] / 2
