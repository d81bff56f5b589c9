from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.graph.arithmetic import ShapeArithmetic, product, quotient
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.graph.shapes import Elements, dimensions, infer_shapes, static_shape, without_weights
from modelopt_cli.testing import model_from_text


def elements(body: str) -> Elements | None:
    model = model_from_text(f"g (float[n,3,8] x) => (int64[k] y) {{ {body} }}")
    infer_shapes(model)
    return ShapeArithmetic().elements(model.graph.outputs[0])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Shape(x)", ("n", 3, 8)),
        ("y = Shape <start = 1> (x)", (3, 8)),
        ("y = Shape <start = -2, end = -1> (x)", (3,)),
        ("s = Shape(x) i = Constant <value_ints = [-1, 0]> () y = Gather(s, i)", (8, "n")),
        (
            "s = Shape(x) a = Constant <value_ints = [1]> () b = Constant <value_ints = [9]> () y = Slice(s, a, b)",
            (3, 8),
        ),
        ("s = Shape(x) c = Constant <value_ints = [-1]> () y = Concat <axis = 0> (s, c)", ("n", 3, 8, -1)),
        ("s = Shape(x) c = Constant <value_int = 2> () y = Mul(s, c)", ("2 * n", 6, 16)),
        ("s = Shape(x) c = Constant <value_int = -2> () y = Mul(s, c)", (None, -6, -16)),
        ("s = Shape(x) y = ReduceProd(s)", ("24 * n",)),
        ("s = Shape(x) c = Constant <value_int = 2> () t = Mul(s, c) y = Max(s, t)", (None, 6, 16)),
        ("s = Shape(x) y = Max(s, s, s)", ("n", 3, 8)),
        ("s = Shape(x) c = Constant <value_int = 4> () y = Min(s, c)", (None, 3, 4)),
        ("s = Shape(x) c = Constant <value_int = -3> () y = Div(s, c)", (None, -1, -2)),
        ("s = Shape(x) t = Cast <to = 6> (s) y = Cast <to = 7> (t)", ("n", 3, 8)),
        ("s = Shape(x) t = Cast <to = 1> (s) y = Cast <to = 7> (t)", None),
    ],
)
def test_elements_are_followed_through_shape_arithmetic(body: str, expected: Elements | None) -> None:
    assert elements(body) == expected


def test_inference_fills_in_and_keeps_what_is_declared() -> None:
    model = model_from_text(
        "g (float[n,3] x) => (float[p,q] y) { t = Relu(x) y = MatMul(t, w) }", w=np.ones((3, 4), np.float32)
    )
    infer_shapes(model)
    assert dimensions(model.graph.node(0).outputs[0]) == ("n", 3)
    assert dimensions(model.graph.outputs[0]) == ("p", "q")  # the interface is the user's
    again = model_bytes(model)
    infer_shapes(model)
    assert model_bytes(model) == again


def test_names_that_inference_makes_up_are_not_kept() -> None:
    body = "m = NonZero(x) c = Cast <to = 1> (m) z = Flatten(c) y = ReduceSum <keepdims = 0> (z)"
    model = model_from_text(f"g (float[n] x) => (float y) {{ {body} }}")
    infer_shapes(model)
    assert dimensions(model.graph.node(0).outputs[0]) == (1, None)
    assert static_shape(model.graph.node(0).outputs[0]) is None


def test_a_contradictory_model_is_left_as_it_is() -> None:
    model = model_from_text("g (float[2,3] x) => (float[a,b] y) { y = MatMul(x, x) }")
    before = model_bytes(model)
    infer_shapes(model)
    assert model_bytes(model) == before


def test_the_light_clone_has_no_large_weight_and_the_model_keeps_its_own() -> None:
    weight = np.ones((64, 64), np.float32)
    model = model_from_text("g (float[n,64] x) => (float[n,64] y) { y = MatMul(x, w) }", w=weight)
    light = without_weights(model)
    assert list(light.graph.initializers) == [] and [v.name for v in light.graph.inputs] == ["x", "w"]
    assert list(model.graph.initializers) == ["w"]
    assert light.graph.inputs[1].dtype == ir.DataType.FLOAT


SIZES = st.one_of(st.integers(1, 12), st.sampled_from(["batch", "heads", "a * b"]))


@given(st.lists(SIZES, max_size=4), st.lists(SIZES, max_size=3))
def test_a_product_divided_by_its_factors_is_what_is_left(left: list[int | str], others: list[int | str]) -> None:
    assert quotient(product([*left, *others]), product(others)) == product(left)
    assert product([product(left), product(others)]) == product([*others, *left])


def test_what_does_not_divide_is_unknown() -> None:
    assert quotient(product([4, "n"]), 3) is None
    assert quotient(product([4, "n"]), "m") is None
    assert quotient("n", None) is None and product([2, None]) is None
    assert quotient(6, 0) is None
    assert product(["n", -1]) is None and product(["n", 0]) == 0


def test_a_name_of_the_models_own_is_no_product() -> None:
    assert product(["2*n"]) == "2*n"
    assert quotient("2*n", 2) is None
    assert product(["2", "n"]) is None
