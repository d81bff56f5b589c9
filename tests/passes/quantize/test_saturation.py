"""Products whose 16-bit pair sums would saturate, and only those, have 7-bit weights on x64 without VNNI."""

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.passes.quantize.quantize_static import QuantizeStatic
from modelopt_cli.passes.quantize.saturation import largest_pair_sum
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import ArrayDataset, model_from_text, run_pass

TEXT = """net (float[1,8,32,32] x) => (float[1,8,32,32] y) {
    a = Conv <pads = [1,1,1,1]> (x, w1)
    r = Relu (a)
    y = Conv <pads = [1,1,1,1]> (r, w2)
}"""


def pair_sums(inputs, weights):
    """By hand, one at a time."""
    found = [0]
    for row in inputs.reshape(-1, inputs.shape[2]):
        for filter_ in weights.reshape(-1, weights.shape[2]):
            products = row.astype(int) * filter_
            found += [abs(int(products[k] + products[k + 1])) for k in range(0, len(products) - 1, 2)]
    return max(found)


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_the_largest_sum_is_that_of_every_pair(size):
    rng = np.random.default_rng(size)
    inputs, weights = rng.integers(0, 256, (5, 1, size)), rng.integers(-127, 128, (1, 6, size))
    assert largest_pair_sum(inputs, weights) == pair_sums(inputs, weights)


def seven_bits(result):
    """Names of the weights that stay within 64 steps."""
    arrays = {n: v.const_value.numpy() for n, v in result.model.graph.initializers.items() if n.endswith(".q")}
    return {n.split(".")[0] for n, a in arrays.items() if a.dtype == np.int8 and np.abs(a.astype(int)).max() <= 64}


def model(first, second):
    rng = np.random.default_rng(0)
    spread = {"alike": lambda: rng.choice([-0.1, 0.1], (8, 8, 3, 3)), "one large": lambda: one_large(rng)}
    w1, w2 = spread[first]().astype(np.float32), spread[second]().astype(np.float32)
    w1[0] *= 0.1  # so that what the large tap of the second reads is small too
    return model_from_text(TEXT, w1=w1, w2=w2)


def one_large(rng):
    """One tap decides the scale of each filter: no pair of the others comes near the limit."""
    array = rng.choice([-0.01, 0.01], (8, 8, 3, 3))
    array[:, 0, 0, 0] = 0.2
    return array


@pytest.mark.parametrize(
    ("first", "second", "isa", "expected"),
    [
        ("alike", "alike", "avx2", {"w1", "w2"}),
        ("alike", "one large", "avx2", {"w1"}),
        ("one large", "alike", "avx512", {"w2"}),
        ("alike", "alike", "avx512_vnni", set()),
    ],
)
def test_only_what_saturates_loses_a_bit(first, second, isa, expected):
    inputs = np.full((4, 8, 32, 32), 1.0, np.float32)
    inputs[:, 0] = 0.3  # what the large tap reads stays far from the end of the range
    data = ArrayDataset({"x": inputs})
    source = model(first, second)
    assert isinstance(source, ir.Model)
    found = run_pass(QuantizeStatic(budget=0, min_sqnr=0), source, calibration=data, target=Target(isa=isa))
    assert seven_bits(found) == expected
