"""Which nodes run as integers, by the table."""

from __future__ import annotations

import numpy as np
import pytest

from modelopt_cli.passes.quantize.plan import default_plan, label
from modelopt_cli.passes.quantize.regions import choose_regions
from modelopt_cli.passes.quantize.shapes import observed_shapes
from modelopt_cli.targets.schemes import scheme_for
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import model_from_text

PICTURE = """net (float[1,{channels},48,48] x) => (float[1,32,24,24] y) {{
    a = Conv <pads = [1,1,1,1], group = {group}> (x, first)
    r = Relu (a)
    {between}
    y = Conv <pads = [1,1,1,1], strides = [2,2]> (p, second)
}}"""


@pytest.mark.parametrize(
    ("channels", "group", "between", "integer"),
    [
        (3, 1, "p = Identity (r)", False),
        (3, 1, "p = MaxPool <kernel_shape = [3,3], pads = [1,1,1,1]> (r)", True),
        (8, 1, "p = Identity (r)", True),
        (24, 24, "p = Identity (r)", True),  # depthwise: one input channel each, and a kernel of its own
    ],
    ids=["three channels", "a MaxPool follows", "eight channels", "depthwise"],
)
def test_a_convolution_of_few_channels_stays_float(channels: int, group: int, between: str, integer: bool) -> None:
    rng = np.random.default_rng(0)
    first = rng.standard_normal((24, channels // group, 3, 3)).astype(np.float32)
    second = rng.standard_normal((32, 24, 3, 3)).astype(np.float32)
    model = model_from_text(PICTURE.format(channels=channels, group=group, between=between), first=first, second=second)
    scheme = scheme_for(Target(provider="cpu", isa="avx512_vnni"))
    shapes = observed_shapes(model, {"x": np.zeros((1, channels, 48, 48), np.float32)})
    regions = choose_regions(model.graph, scheme, default_plan(scheme), shapes)
    names = {label(node) for node in regions.integer}
    assert "y" in names and ("a" in names) is integer
    if not integer:
        assert any("so few input channels" in skip.reason for skip in regions.skipped)


MOBILE = """net (float[1,{channels},48,48] x) => (float[1,32,48,48] y) {{
    a = Conv <pads = [1,1,1,1]> (x, first)
    r = Relu (a)
    d = Conv <pads = [1,1,1,1], group = {group}> (r, second)
    s = Relu (d)
    y = Conv (s, third)
}}"""


@pytest.mark.parametrize(
    ("channels", "group", "integer"),
    [(3, 24, {"y"}), (8, 24, {"a", "d", "y"}), (3, 1, {"d", "y"})],
    ids=["MobileNet", "the first is an integer", "not depthwise"],
)
def test_a_depthwise_convolution_behind_a_float_one_stays_float(channels: int, group: int, integer: set[str]) -> None:
    rng = np.random.default_rng(0)
    shapes_of = {"first": (24, channels, 3, 3), "second": (24, 24 // group, 3, 3), "third": (32, 24, 1, 1)}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes_of.items()}
    model = model_from_text(MOBILE.format(channels=channels, group=group), **weights)
    scheme = scheme_for(Target(provider="cpu", isa="avx512_vnni"))
    shapes = observed_shapes(model, {"x": np.zeros((1, channels, 48, 48), np.float32)})
    regions = choose_regions(model.graph, scheme, default_plan(scheme), shapes)
    assert {label(node) for node in regions.integer if node.op_type == "Conv"} == integer


def test_other_targets_decide_that_themselves() -> None:
    assert default_plan(scheme_for(Target(provider="tensorrt"))).min_channels == 0


SUMS = """net (float[1,16,32,32] x, float[1,16,32,32] z) => (float[1,16,32,32] y, float[1,16,32,32] v) {
    [a] a = Conv <pads = [1,1,1,1]> (x, w)
    [b] b = Conv <pads = [1,1,1,1]> (a, w)
    [s] s = Add (a, b)
    [y] y = Conv <pads = [1,1,1,1]> (s, w)
    [t] t = Add (y, z)
    [u] u = Tanh (t)
    [v] v = Conv <pads = [1,1,1,1]> (u, w)
}"""


def test_nodes_at_one_place_have_one_decision_by_their_costs_together() -> None:
    model = model_from_text(SUMS, w=np.random.default_rng(0).standard_normal((16, 16, 3, 3)).astype(np.float32))
    scheme = scheme_for(Target(provider="cpu", isa="avx512_vnni"))
    shapes = observed_shapes(model, {name: np.zeros((1, 16, 32, 32), np.float32) for name in "xz"})

    def integer(places: dict[str, str]) -> set[str]:
        found = choose_regions(model.graph, scheme, default_plan(scheme), shapes, places).integer
        return {label(node) for node in found} & {"s", "t"}

    assert integer({}) == {"s"}  # between integers it pays; between floats it does not
    assert integer({"s": "sum", "t": "sum"}) in ({"s", "t"}, set())
