"""Rounding by what weights are multiplied with leaves products closer to float than rounding to the nearest step."""

import numpy as np
import pytest

from modelopt_cli.calibration.memory import COPIES
from modelopt_cli.graph.edit import constant, replace_weight
from modelopt_cli.passes.quantize.patches import _batches, collect_patches
from modelopt_cli.passes.quantize.second_order import round_products
from modelopt_cli.passes.quantize.weights import quantize_weight
from modelopt_cli.progress import Silent
from modelopt_cli.testing import model_from_text, run_model

CASES = {
    "conv": ("Conv <pads = [1,1,1,1], strides = [2,2]> (x, w)", (6, 4, 3, 3), (1, 4, 16, 16), 0),
    "depthwise": ("Conv <pads = [1,1,1,1], group = 4> (x, w)", (4, 1, 3, 3), (1, 4, 16, 16), 0),
    "dilated": ("Conv <dilations = [2,2]> (x, w)", (6, 4, 3, 3), (1, 4, 16, 16), 0),
    "gemm": ("Gemm (x, w)", (16, 6), (32, 16), 1),
    "gemm transposed": ("Gemm <transB = 1> (x, w)", (6, 16), (32, 16), 0),
    "matmul": ("MatMul (x, w)", (16, 6), (32, 16), 1),
}


class Samples:
    """Correlated, off-centre inputs: what a network's activations are like."""

    source, labels, batch_size = "generated", None, 1

    def __init__(self, shape, count=24, seed=0):
        rng = np.random.default_rng(seed)
        channels = shape[1]
        mix = np.random.default_rng(5).standard_normal((channels, channels)).astype(np.float32)
        self.arrays = []
        for _ in range(count):
            noise = np.cumsum(rng.standard_normal(shape), axis=-1 if len(shape) == 4 else 0).astype(np.float32)
            self.arrays.append(np.abs(np.einsum("nc...,cd->nd...", noise, mix)) + 1)

    def __len__(self):
        return len(self.arrays)

    def __iter__(self):
        return ({"x": array} for array in self.arrays)

    def take(self, count):
        return self


@pytest.fixture(params=CASES)
def case(request):
    body, weight_shape, shape, axis = CASES[request.param]
    dims = ",".join(map(str, shape))
    out = ",".join("abcd"[: len(shape)])
    weight = np.random.default_rng(1).standard_normal(weight_shape).astype(np.float32)
    model = model_from_text(f"net (float[{dims}] x) => (float[{out}] y) {{ y = {body} }}", w=weight)
    return model, weight, shape, axis


def with_weight(model, weight):
    clone = model.clone()
    value = clone.graph.initializers["w"]
    replace_weight(value, weight)
    return clone


def test_products_are_closer_than_with_nearest_rounding(case):
    model, weight, shape, axis = case
    node = next(iter(model.graph))
    rounding = round_products(collect_patches(model, [node], Samples(shape), Silent()), reduce_range=False)
    found = rounding.weights["w", axis]
    shift = rounding.bias_shift(node, constant(node.inputs[1]), found)
    assert found.axis == axis
    nearest = with_weight(model, quantize_weight(weight, axis=axis).dequantize())
    second = with_weight(model, found.dequantize())
    broadcast = shift.reshape((-1, 1, 1)) if node.op_type == "Conv" else shift
    errors = np.zeros(2)
    for sample in Samples(shape, count=4, seed=9):  # others than those it was made from
        exact = run_model(model, sample)["y"]
        errors[0] += np.square(run_model(nearest, sample)["y"] - exact).sum()
        errors[1] += np.square(run_model(second, sample)["y"] + broadcast - exact).sum()
    assert errors[1] < 0.7 * errors[0]


def test_mean_of_the_outputs_is_kept(case):
    model, _, shape, axis = case
    node = next(iter(model.graph))
    data = Samples(shape)
    rounding = round_products(collect_patches(model, [node], data, Silent()), reduce_range=True)
    found = rounding.weights["w", axis]
    shift = rounding.bias_shift(node, constant(node.inputs[1]), found)
    coarse = with_weight(model, found.dequantize())
    channel = 1
    others = tuple(i for i in range(len(shape)) if i != channel)
    drift = [run_model(model, s)["y"] - run_model(coarse, s)["y"] for s in data]
    mean = np.mean([d.mean(axis=others) for d in drift], axis=0)
    # Patches are a sample of the positions, so the means agree within sampling noise.
    spread = np.std([d.mean(axis=others) for d in drift], axis=0) + np.abs(mean)
    assert np.all(np.abs(mean - shift) <= 0.5 * spread + 1e-3)


def test_weights_of_unsupported_rank_are_left_out():
    weight = np.ones((4, 4, 3), np.float32)
    model = model_from_text("net (float[1,4,9] x) => (float[1,4,7] y) { y = Conv (x, w) }", w=weight)
    rounding = round_products(
        collect_patches(model, list(model.graph), Samples((1, 4, 9)), Silent()), reduce_range=False
    )
    assert rounding.weights == {}
    assert rounding.bias_shift(next(iter(model.graph)), weight, quantize_weight(weight, axis=0)) is None


def test_a_matmul_keeps_its_mean_without_a_bias():
    weight, shape = np.random.default_rng(1).standard_normal((16, 6)).astype(np.float32), (32, 16)
    model = model_from_text("net (float[32,16] x) => (float[a,b] y) { y = MatMul (x, w) }", w=weight)
    data = Samples(shape)
    data.arrays = [10 + np.random.default_rng(i).standard_normal(shape).astype(np.float32) for i in range(24)]
    found = round_products(collect_patches(model, list(model.graph), data, Silent()), reduce_range=False)
    nearest, second = (each.dequantize() for each in (quantize_weight(weight, axis=1), found.weights["w", 1]))
    errors = [sum(np.square(x @ (each - weight)).sum() for x in data.arrays) for each in (nearest, second)]
    assert errors[1] < 0.3 * errors[0]


def test_nodes_share_passes_as_far_as_moments_and_inputs_fit_together():
    text = """net (float[4,32] x) => (float[4,8] y) {
        a = MatMul (x, w) b = MatMul (x, w) c = MatMul (a, w) y = MatMul (c, v) }"""
    weights = {"w": np.ones((32, 32), np.float32), "v": np.ones((32, 8), np.float32)}
    nodes = list(model_from_text(text, **weights).graph)
    moment, large = 32 * 32 * 4, 5000.0

    def counts(limit):
        return [len(batch) for batch in _batches(nodes, {"x": large, "a": 100.0, "c": 100.0}, limit)]

    assert counts(0) == [1, 1, 1, 1]
    assert counts(4 * moment + COPIES * (large + 200)) == [4]
    assert counts(2 * moment + COPIES * large) == [2, 2]  # both read x, which is held once; then it is let go
    assert counts(2 * moment + COPIES * large - 1) == [1, 1, 2]
