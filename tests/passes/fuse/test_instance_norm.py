"""Instance and group normalisation and Euclidean lengths, spelled out; and what only looks like them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from fuse_checks import fused, random

from modelopt_cli.testing import model_from_text

SPELLED = """{0} = ReduceMean <axes = [2,3]> (x) c = Sub (x, {0}) q = {1} v = ReduceMean <axes = [2,3]> (q)
    a = Add (v, e) r = Sqrt (a) {2}"""
ENDS = ["d = Div (c, r)", "i = Reciprocal (r) d = Mul (c, i)"]
NUMBERS = {"two": np.array(2, np.float32), "e": np.array(1e-5, np.float32)}
IO = "(float[n,4,h,w] x) => (float[n,4,h,w] y)"


def norm(body: str, io: str = IO, opset: int = 17, **weights: np.ndarray) -> ir.Model:
    numbers = {name: array for name, array in NUMBERS.items() if f", {name})" in body}
    return model_from_text(f'<ir_version: 8, opset_import: ["" : {opset}]> g {io} {{ {body} }}', **numbers, **weights)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("square", ["Mul (c, c)", "Pow (c, two)"])
def test_instance_normalization_is_recognised_with_its_scale_and_bias(end: str, square: str) -> None:
    body = SPELLED.format("m", square, end)
    assert fused(norm(body + " y = Relu (d)"), n=2, h=3, w=5)[0] == {"InstanceNormalization": 1, "Relu": 1}
    affine = {"s": random(4, 1, 1), "b": random(1, 4, 1, 1, seed=1)}
    body += " f = Mul (d, s) y = Add (b, f)"
    assert fused(norm(body, **affine), n=2, h=3, w=5)[0] == {"InstanceNormalization": 1}


def test_groups_of_channels_are_channels() -> None:
    body = SPELLED.replace("[2,3]", "[2]").format("m", "Mul (c, c)", ENDS[0]).replace("(x", "(g")
    body = f"g = Reshape (x, grouped) {body} y = Reshape (d, back)"
    shapes = {"grouped": np.array([0, 2, -1]), "back": np.array([0, 4, 5, 6])}
    model = norm(body, "(float[n,4,5,6] x) => (float[n,4,5,6] y)", **shapes)
    found = fused(model, n=2)[0]
    assert found["ReduceMean"] == 0 and found["Reshape"] == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("v = ReduceMean <axes = [2,3]>", "v = ReduceMean <axes = [1,3]>"),
        ("v = ReduceMean <axes = [2,3]>", "v = ReduceMean <axes = [3]>"),
        ("q = Mul (c, c)", "q = Mul (c, x)"),
        ("Sub (x, m)", "Sub (m, x)"),
    ],
)
def test_what_only_looks_like_it_stays(old: str, new: str) -> None:
    body = SPELLED.format("m", "Mul (c, c)", ENDS[0]) + " y = Relu (d)"
    assert old in body
    assert "InstanceNormalization" not in fused(norm(body.replace(old, new)), n=2, h=4, w=4)[0]


@pytest.mark.parametrize(("shape", "operator"), [((4, 1, 1), "InstanceNormalization"), ((2, 5), "LayerNormalization")])
def test_the_scale_says_which_one_it_is_where_sizes_are_known(shape: tuple[int, ...], operator: str) -> None:
    body = SPELLED.format("m", "Mul (c, c)", ENDS[0]) + " y = Mul (d, s)"
    model = norm(body, "(float[n,4,2,5] x) => (float[n,4,2,5] y)", s=random(*shape))
    assert fused(model, n=2)[0] == {operator: 1}


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize(
    "spelled", ["q = Mul (x, x) s = ReduceSum (q, axes)", "q = Pow (x, two) s = ReduceSum (q, axes)"]
)
def test_a_root_of_a_sum_of_squares_is_a_length(spelled: str, opset: int) -> None:
    body = f"{spelled} l = Sqrt (s) y = Div (x, l)"
    assert fused(norm(body, opset=opset, axes=np.array([1])), n=2, h=3, w=5)[0] == {"ReduceL2": 1, "Div": 1}
    other = body.replace("(x, x)", "(x, two)").replace("(x, two) s", "(x, e) s")
    assert "ReduceL2" not in fused(norm(other, opset=opset, axes=np.array([1])), n=2, h=3, w=5)[0]
