"""Rules that make one node of two, each with what it must refuse."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from fuse_checks import check_pass, fused, random

from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.testing import model_from_text, op_types

IMAGE = "(float[n,4,h,w] x) => (float[a,b,c,d] y)"
SIZES = {"n": 2, "h": 6, "w": 5}
SAME = "<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>"


def image(body: str, io: str = IMAGE, **weights: np.ndarray) -> ir.Model:
    return model_from_text(f"g {io} {{ {body} }}", **weights)


def norm(source: str, out: str) -> tuple[str, dict[str, np.ndarray]]:
    names = [f"{out}_{part}" for part in ("s", "o", "m", "v")]
    arrays = [random(4, seed=3), random(4, seed=4), random(4, seed=5), np.abs(random(4, seed=6)) + 0.5]
    return f"{out} = BatchNormalization({source}, {', '.join(names)})", dict(zip(names, arrays, strict=True))


def test_a_block_of_three_branches_is_one_convolution() -> None:
    """RepVGG in training form: 3 x 3, 1 x 1 and identity, each with BatchNormalization."""
    (third, a), (second, b), (first, c) = norm("t3", "b3"), norm("t1", "b1"), norm("x", "b0")
    body = f"t3 = Conv {SAME} (x, k3) {third} t1 = Conv (x, k1) {second} {first} u = Add(b3, b1) y = Add(u, b0)"
    model = image(body, k3=random(4, 4, 3, 3), k1=random(4, 4, 1, 1), **a, **b, **c)
    assert fused(model, atol=1e-4, **SIZES)[0] == {"Conv": 1}


def test_grouped_branches_are_merged_too_and_a_plain_residual_stays() -> None:
    body = "t = Conv <group = 4, kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, k3) u = Conv <group = 4> (x, k1) "
    weights = {"k3": random(4, 1, 3, 3), "k1": random(4, 1, 1, 1)}
    assert fused(image(body + "y = Add(u, t)", **weights), **SIZES)[0] == {"Conv": 1}
    model = image(f"t = Conv {SAME} (x, k) y = Add(x, t)", k=random(4, 4, 3, 3))
    assert fused(model, **SIZES)[0] == {"Conv": 1, "Add": 1}


@pytest.mark.parametrize(
    ("second", "kernel", "fits"),
    [
        ("<pads = [1, 1, 1, 1]>", (4, 4, 3, 3), True),
        ("<pads = [1, 0, 0, 1]>", (4, 4, 2, 2), True),
        ("<pads = [2, 1, 1, 1]>", (4, 4, 4, 3), True),
        ("<pads = [2, 0, 2, 0]>", (4, 4, 5, 1), False),
        ("<dilations = [2, 2], pads = [2, 2, 2, 2]>", (4, 4, 3, 3), False),
        ("<group = 2, pads = [1, 1, 1, 1]>", (4, 2, 3, 3), False),
        ('<auto_pad = "SAME_UPPER">', (4, 4, 3, 3), False),
    ],
)
def test_branches_are_merged_when_one_window_lies_in_the_other(
    second: str, kernel: tuple[int, ...], fits: bool
) -> None:
    body = f"t = Conv {SAME} (x, k3) u = Conv {second} (x, k) y = Add(t, u)"
    model = image(body, k3=random(4, 4, 3, 3), k=random(*kernel, seed=1))
    assert fused(model, atol=1e-4, **SIZES)[0] == ({"Conv": 1} if fits else {"Conv": 2, "Add": 1})


def test_a_convolution_after_a_pointwise_one_is_merged_when_that_is_less_work() -> None:
    wide, narrow = random(8, 4, 1, 1), random(4, 8, 1, 1)
    model = image("t = Conv (x, v, b) y = Conv (t, w, c)", v=wide, w=narrow, b=random(8), c=random(4))
    assert fused(model, atol=1e-4, **SIZES)[0] == {"Conv": 1}
    model = image("t = Conv (x, v) y = Conv (t, w)", v=random(2, 4, 1, 1), w=random(4, 2, 1, 1))
    operators, _ = fused(model, **SIZES)
    assert operators == {"Conv": 1}  # 16 instead of 8 + 8
    model = image("t = Conv (x, v) y = Conv (t, w)", v=random(1, 4, 1, 1), w=random(4, 1, 1, 1))
    operators, reasons = fused(model, **SIZES)
    assert operators == {"Conv": 2} and "larger than both" in reasons


def test_a_bias_before_zero_padding_keeps_both_convolutions() -> None:
    body = f"t = Conv (x, v{{}}) y = Conv {SAME} (t, w)"
    weights = {"v": random(6, 4, 1, 1), "w": random(4, 6, 3, 3)}
    assert fused(image(body.format(""), **weights), atol=1e-4, **SIZES)[0] == {"Conv": 1}
    operators, reasons = fused(image(body.format(", b"), b=random(6), **weights), **SIZES)
    assert operators == {"Conv": 2} and "pads with zeros" in reasons


def test_depthwise_and_pointwise_stay_two() -> None:
    body = "t = Conv <group = 4, kernel_shape = [3, 3]> (x, v) y = Conv (t, w)"
    assert fused(image(body, v=random(4, 1, 3, 3), w=random(4, 4, 1, 1)), **SIZES)[0] == {"Conv": 2}


def test_two_gemms_are_one() -> None:
    model = model_from_text(
        "g (float[n,4] x) => (float[n,3] y) { t = Gemm <transB = 1> (x, v, b) y = Gemm (t, w, c) }",
        **{"v": random(6, 4), "w": random(6, 3), "b": random(6), "c": random(3)},
    )
    assert fused(model, n=2)[0] == {"Gemm": 1}


POOLS = {
    "average": ("AveragePool <kernel_shape = [3, 3]> (p)", "", True),
    "average with own padding": ("AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (p)", "", False),
    "maximum of anything": ("MaxPool <kernel_shape = [3, 3]> (p)", "", False),
    "maximum of positive": ("MaxPool <kernel_shape = [3, 3]> (p)", "r = Relu(x)", True),
    "maximum rounded up": ("MaxPool <kernel_shape = [3, 3], ceil_mode = 1> (p)", "r = Relu(x)", False),
    "windows of padding": ("MaxPool <kernel_shape = [1, 1]> (p)", "r = Relu(x)", False),
}


@pytest.mark.parametrize("case", POOLS)
def test_padding_goes_into_a_pooling_where_it_means_the_same(case: str) -> None:
    pool, before, goes = POOLS[case]
    body = f"{before} p = Pad({'r' if before else 'x'}, pads) y = {pool}"
    model = image(body, pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    assert ("Pad" not in fused(model, **SIZES)[0]) == goes


def test_a_residual_of_a_gate_is_added_where_the_gate_is_small() -> None:
    body = "p = GlobalAveragePool(x) g = Sigmoid(p) m = Mul(x, g) y = Add(m, x)"
    fixed = "(float[n,4,6,5] x) => (float[a,b,c,d] y)"
    model = fused(image(body, fixed), n=2)
    assert model[0] == {"GlobalAveragePool": 1, "Sigmoid": 1, "Add": 1, "Mul": 1}
    constant = image("m = Mul(x, g) y = Add(x, m)", fixed, g=random(4, 1, 1))
    assert fused(constant, n=2)[0] == {"Mul": 1}
    full = image("g = Sigmoid(x) m = Mul(x, g) y = Add(x, m)", fixed)
    result = check_pass(Simplify(), full, n=2).model
    assert op_types(result) == ["Sigmoid", "Mul", "Add"]


def simplified(body: str, io: str, n: int = 2, **weights: np.ndarray) -> list[str]:
    return op_types(check_pass(Simplify(), model_from_text(f"g {io} {{ {body} }}", **weights), n=n).model)


INTS = {name: np.array([int(name[1:])]) for name in ("i0", "i1", "i2", "i3", "i9")}


def cut(body: str, io: str) -> list[str]:
    return simplified(body, io, **{name: array for name, array in INTS.items() if name in body})


def test_slices_in_a_row_are_one() -> None:
    io = "(float[n,8,9] x) => (float[a,b,c] y)"
    assert cut("t = Slice(x, i1, i9, i1) y = Slice(t, i0, i3, i2)", io) == ["Slice"]  # two axes
    assert cut("t = Slice(x, i1, i9, i1) y = Slice(t, i2, i3, i1)", io) == ["Slice"]  # one axis, twice
    assert cut("t = Slice(x, i1, i9, i1, i2) y = Slice(t, i0, i2, i1)", io) == ["Slice", "Slice"]  # a step


def test_a_slice_that_is_squeezed_is_a_gather() -> None:
    io = "(float[n,8,9] x) => (float[a,b] y)"
    assert cut("t = Slice(x, i2, i3, i1) y = Squeeze(t, i1)", io) == ["Gather"]
    wide = cut("t = Slice(x, i1, i3, i1) s = Slice(x, i2, i3, i2) y = Squeeze(s, i2) u = Neg(t)", io)
    assert wide == ["Gather"]


def test_casts_in_a_row_lose_nothing() -> None:
    io = "(int32[n] x) => (float[a] y)"
    assert simplified("t = Cast <to = 7> (x) y = Cast <to = 1> (t)", io) == ["Cast"]
    assert simplified("t = Cast <to = 3> (x) y = Cast <to = 1> (t)", io) == ["Cast", "Cast"]  # int8 cuts


def test_an_expand_before_arithmetic_goes_when_the_other_operand_is_as_large() -> None:
    io = "(float[n,1,4] x, float[n,3,4] z) => (float[a,b,c] y)"
    body = "s = Shape(z) e = Expand(x, s) y = Add(e, {})"
    assert simplified(body.format("z"), io) == ["Add"]
    assert "Expand" in simplified(body.format("x"), io)


IF = """y = If (c) <then_branch = a () => (float[n] t) {{ u = Relu(x) t = Mul(u, w) }},
                    else_branch = b () => (float[n] e) {{ e = Neg(x) }}>"""


@pytest.mark.parametrize(("condition", "left"), [(True, ["Relu", "Mul"]), (False, ["Neg"])])
def test_a_branch_that_is_always_taken_replaces_its_if(condition: bool, left: list[str]) -> None:
    model = model_from_text(
        f"g (float[n] x) => (float[n] y) {{ {IF.format()} }}", c=np.array(condition), w=np.float32(2)
    )
    result = check_pass(Simplify(), model, n=3).model
    assert op_types(result) == left
    assert len(result.graph.initializers) == len(left) - 1, "a weight of the dropped branch is still there"


def test_an_if_over_an_input_stays() -> None:
    model = model_from_text(f"g (bool c, float[n] x) => (float[n] y) {{ {IF.format()} }}", w=np.float32(2))
    assert op_types(check_pass(Simplify(), model, n=3).model)[0] == "If"


def test_dimensions_keep_their_names_through_reshapes() -> None:
    body = """r = Reshape(x, rows) t = Reshape(r, back) s = Shape(x) e = Expand(t, s) y = Relu(e)"""
    io = "(float[n,2,3] x) => (float[a,b,c] y)"
    ops = simplified(body, io, rows=np.array([-1, 6]), back=np.array([-1, 2, 3]))
    assert ops == ["Relu"]
    ops = simplified(body, io, rows=np.array([-1, 3]), back=np.array([-1, 2, 3]))
    assert ops == ["Relu"]


PARTS = """m = MatMul(x, w) a = Add(m, b) r = Reshape(a, shape) t = Transpose <perm = [2, 0, 3, 1, 4]> (r)
    q = Gather(t, i0) k = Gather(t, i1) kt = Transpose <perm = [0, 1, 3, 2]> (k)"""


@pytest.mark.parametrize(
    ("rest", "left"),
    [
        ("s = Mul(q, f) y = MatMul(s, kt)", 0),
        ("p = MatMul(q, kt) y = Div(p, f)", 0),
        ("s = Mul(q, f) p = MatMul(s, kt) o = MatMul(q, kt) y = Add(p, o)", 1),  # the queries are read elsewhere too
        ("s = Mul(q, v) y = MatMul(s, kt)", 1),  # no number
    ],
)
def test_the_scale_of_one_part_of_a_projection_goes_into_its_columns(rest: str, left: int) -> None:
    weights = {"w": random(8, 24), "b": random(24), "shape": np.array([0, 0, 3, 2, 4]), "f": np.float32(0.5)}
    weights |= {"i0": np.array(0), "i1": np.array(1), "v": random(4)}
    weights = {name: array for name, array in weights.items() if f"{name})" in rest or name not in ("f", "v")}
    model = model_from_text(f"g (float[n,5,8] x) => (float[a,c,d,e] y) {{ {PARTS} {rest} }}", **weights)
    operators = fused(model, n=2, atol=1e-4)[0]
    assert operators["Mul"] + operators["Div"] == left
