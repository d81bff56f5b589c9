from __future__ import annotations

import numpy as np
import pytest

from modelopt_cli.passes.quantize.builder import Builder
from modelopt_cli.passes.quantize.plan import default_plan
from modelopt_cli.passes.quantize.weight_only import store_weights_as_int8
from modelopt_cli.passes.quantize.weights import quantize_weight
from modelopt_cli.progress import Silent
from modelopt_cli.targets.schemes import scheme_for
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import ArrayDataset, assert_same_outputs, model_from_text, run_model

RNG = np.random.default_rng(0)
W = RNG.standard_normal((16, 16, 3, 3)).astype(np.float32)
ONE = "g (float[N, 16, 8, 8] x) => (float[N, 16, 6, 6] y) { y = Conv(x, w) }"
TWO = "g (float[N, 16, 8, 8] x) => (float[N, 16, 6, 6] y, float[N, 16, 6, 6] z) { y = Conv(x, w) z = Conv(x, w) }"


def test_what_a_rounder_knows_is_stored_and_its_shift_goes_into_the_bias() -> None:
    model, shift = model_from_text(ONE, w=W), np.arange(16, dtype=np.float32)
    coarse = quantize_weight(W, axis=0, bits=4)
    assert store_weights_as_int8(model.graph, lambda *_: (coarse, shift)) == ["w"]
    exact = model_from_text(ONE.replace("(x, w)", "(x, w, b)"), w=coarse.dequantize(), b=shift)
    feeds = {"x": RNG.standard_normal((2, 16, 8, 8)).astype(np.float32)}
    assert_same_outputs(exact, model, feeds, rtol=1e-5, atol=1e-4)


def test_a_weight_of_two_readers_goes_to_the_nearest_step() -> None:
    found, plain = model_from_text(TWO, w=W), model_from_text(TWO, w=W)
    coarse = quantize_weight(W, axis=0, bits=4)
    store_weights_as_int8(found.graph, lambda *_: (coarse, None))
    store_weights_as_int8(plain.graph)
    feeds = {"x": RNG.standard_normal((2, 16, 8, 8)).astype(np.float32)}
    assert_same_outputs(plain, found, feeds, rtol=0, atol=0)


@pytest.mark.parametrize("final", [False, True])
def test_a_product_that_goes_back_to_float_keeps_its_second_order_rounding(final: bool) -> None:
    text = """g (float[N, 16, 24, 24] x) => (float[N, 16, 20, 20] z)
        { a = Conv(x, w) y = Relu(a) z = Conv(y, v) }"""
    mixing = RNG.standard_normal((16, 16)).astype(np.float32)  # neighbours that say nearly the same
    smooth = np.cumsum(RNG.standard_normal((16, 16, 24, 24)), axis=3).astype(np.float32)
    data = np.einsum("oi,nihw->nohw", mixing, smooth)
    model = model_from_text(text, w=W / 12, v=RNG.standard_normal((16, 16, 3, 3)).astype(np.float32))
    scheme = scheme_for(Target(isa="avx512_vnni"))
    builder = Builder(model, scheme, ArrayDataset({"x": data}), progress=Silent())
    plan = default_plan(scheme)
    builder.build(plan, final=True)
    in_float = builder.build(plan.in_float(["a", "z"]), final=final).model
    nearest = model.clone()
    store_weights_as_int8(nearest.graph)
    exact = run_model(model, {"x": data})["z"]
    noise, before = (float(((run_model(m, {"x": data})["z"] - exact) ** 2).sum()) for m in (in_float, nearest))
    assert noise < before / 2 if final else noise == pytest.approx(before)
