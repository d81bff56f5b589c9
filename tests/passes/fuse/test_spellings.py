"""Operators that say the same as others, in the spellings of exporters, each beside what only looks like it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from fuse_checks import check_pass, fused, random

from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.testing import model_from_text, op_types

IMAGE = "(float[n,4,6,5] x) => (float[a,b,c,d] y)"
NUMBERS = {"one": 1.0, "two": 2.0, "zero": 0.0, "six": 6.0, "limit": 20.0, "low": 2.0, "minus": -1.0, "slope": 0.1}
INTEGERS = {"i0": 0, "i1": 1, "i2": 2, "i4": 4}


def model(body: str, io: str = IMAGE, opset: int = 18, **weights: np.ndarray) -> ir.Model:
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    numbers = {name: np.array(value, np.float32) for name, value in NUMBERS.items() if name in words}
    integers = {name: np.array([value]) for name, value in INTEGERS.items() if name in words}
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g {io} {{ {body} }}'
    return model_from_text(text, **numbers, **integers, **weights)


def left(body: str, io: str = IMAGE, **weights: np.ndarray) -> dict[str, int]:
    return dict(fused(model(body, io, **weights), n=2, atol=1e-4)[0])


SPELLINGS = {
    "m = Neg(x) e = Exp(m) a = Add(e, one) y = Div(one, a)": {"Sigmoid": 1},
    "m = Mul(x, minus) e = Exp(m) a = Add(one, e) y = Reciprocal(a)": {"Sigmoid": 1},
    "m = Neg(x) e = Exp(m) a = Add(e, one) y = Div(x, a)": {"Sigmoid": 1, "Mul": 1},
    "m = Neg(x) e = Exp(m) a = Add(e, two) y = Div(one, a)": None,
    "e = Exp(x) a = Add(e, one) y = Log(a)": {"Softplus": 1},
    "e = Exp(x) a = Add(e, two) y = Log(a)": None,
    "s = Softplus(x) c = Greater(x, limit) y = Where(c, x, s)": {"Softplus": 1},
    "s = Softplus(x) c = Greater(x, low) y = Where(c, x, s)": None,
    "b = Abs(x) a = Add(b, one) y = Div(x, a)": {"Softsign": 1},
    "b = Abs(x) a = Add(b, two) y = Div(x, a)": None,
    "y = Max(x, zero)": {"Relu": 1},
    "t = Min(x, six) y = Max(zero, t)": {"Clip": 1},
    "t = Neg(x) y = Max(x, t)": None,
    "c = Greater(x, zero) s = Mul(x, slope) y = Where(c, x, s)": {"LeakyRelu": 1},
    "c = LessOrEqual(x, zero) s = Mul(slope, x) y = Where(c, s, x)": {"LeakyRelu": 1},
    "c = Greater(x, one) s = Mul(x, slope) y = Where(c, x, s)": None,
    "c = Greater(x, zero) s = Mul(x, slope) y = Where(c, s, x)": None,
}


@pytest.mark.parametrize("body", SPELLINGS)
def test_an_activation_gets_its_name(body: str) -> None:
    expected = SPELLINGS[body]
    operators = left(body)
    if expected is None:
        assert sum(operators.values()) == body.count("=")
    else:
        assert operators == expected


def test_a_slope_for_each_channel_makes_a_prelu() -> None:
    body = "c = GreaterOrEqual(x, zero) s = Mul(x, k) y = Where(c, x, s)"
    assert left(body, k=random(4, 1, 1)) == {"PRelu": 1}


EINSUMS = {
    "nab,bc->nac": ((4, 3), {"MatMul": 1}),
    "nab,cb->nac": ((3, 4), {"MatMul": 1}),
    "bc,nab->nac": ((4, 3), {"MatMul": 1}),
    "nab,bc->nca": ((4, 3), {"MatMul": 1, "Transpose": 1}),
    "nab,ac->ncb": ((5, 3), {"MatMul": 1}),
    "nab,bcd->nacd": ((4, 3, 2), {"MatMul": 1, "Reshape": 1}),
    "nab,abc->nc": ((5, 4, 3), {"Reshape": 1, "MatMul": 1}),
    "nab,acb->nc": ((5, 3, 4), {"Reshape": 1, "MatMul": 1}),
    "nab,bac->nac": ((4, 5, 3), {"Transpose": 2, "MatMul": 1}),
    "nab,cd->nabc": ((3, 2), {"Einsum": 1}),
    "nab,bn->na": ((4, 2), {"Einsum": 1}),
    "nab,ab->na": ((5, 4), {"Einsum": 1}),
}


@pytest.mark.parametrize("equation", EINSUMS)
def test_an_einsum_that_is_a_matrix_product_is_a_matmul(equation: str) -> None:
    shape, expected = EINSUMS[equation]
    operands = "k, x" if equation.startswith("bc") else "x, k"
    io = f"(float[n,5,4] x) => (float[{'a,b,c,d'[: 2 * len(equation.split('>')[1]) - 1]}] y)"
    assert left(f'y = Einsum <equation = "{equation}"> ({operands})', io, k=random(*shape)) == expected


@pytest.mark.parametrize(("right", "ops"), [("nhdk", ["MatMul"]), ("nhkd", ["Transpose", "MatMul"])])
def test_an_einsum_of_two_computed_matrices(right: str, ops: list[str]) -> None:
    io = f"(float[n,2,5,4] x, float[n,2,{'4,3' if right == 'nhdk' else '3,4'}] z) => (float[a,b,c,d] y)"
    assert left(f'y = Einsum <equation = "nhqd,{right}->nhqk"> (x, z)', io) == dict.fromkeys(ops, 1)


def plumbing(body: str, io: str = IMAGE, **weights: np.ndarray) -> list[str]:
    return op_types(check_pass(Simplify(), model(body, io, **weights), n=2).model)


def test_parts_put_together_in_their_order_are_the_whole() -> None:
    halves = "a, b = Split <axis = 1, num_outputs = 2> (x) y0 = Concat <axis = 1> ({}) y = Relu(y0)"
    assert plumbing(halves.format("a, b")) == ["Relu"]
    assert plumbing(halves.format("b, a")) == ["Split", "Concat", "Relu"]
    assert plumbing(halves.format("a, b").replace("Concat <axis = 1>", "Concat <axis = 2>")) == [
        "Split",
        "Concat",
        "Relu",
    ]
    slices = "a = Slice(x, i0, i2, i1) b = Slice(x, {}, i4, i1) y0 = Concat <axis = 1> (a, b) y = Relu(y0)"
    assert plumbing(slices.format("i2")) == ["Relu"]
    assert plumbing(slices.format("i1")) == ["Slice", "Slice", "Concat", "Relu"]


def test_concats_in_a_row_are_one() -> None:
    body = "t = Concat <axis = 1> (x, x) u = Relu(x) y = Concat <axis = {}> (u, t)"
    assert plumbing(body.format(-3)) == ["Relu", "Concat"]
    io = "(float[n,4,6,5] x, float[n,8,6,5] z) => (float[a,b,c,d] y)"
    assert plumbing("t = Concat <axis = 1> (x, x) y = Concat <axis = 2> (z, t)", io) == ["Concat", "Concat"]


def test_slices_of_a_slice_that_nothing_else_reads_are_single() -> None:
    body = "s = Slice(x, i0, i4, i2, i2) a = Slice(s, i0, i4, i1) b = Slice(s, i1, i4, i1) p = Relu(a) q = Relu(b)"
    assert plumbing(f"{body} y = Concat <axis = 1> (p, q)").count("Slice") == 2
    assert plumbing(f"{body} r = Neg(s) y = Concat <axis = 1> (p, q, r)").count("Slice") == 3


def test_parts_of_a_sequence_are_those_of_a_split() -> None:
    body = (
        "s = SplitToSequence <axis = 1> (x, k) a = SequenceAt(s, p) b = SequenceAt(s, q) y = Concat <axis = 1> (b, a)"
    )
    indices = {"p": np.array(0), "q": np.array(-1)}
    for sizes in (np.array(2), np.array([1, 3])):
        assert plumbing(body, k=sizes, **indices) == ["Split", "Concat"]
    io = "(float[n,4,6,5] x, int64 q) => (float[a,b,c,d] y)"
    computed = model(body, io, k=np.array(2), p=np.array(0))
    assert op_types(Simplify().apply(computed, _context()).model)[0] == "SplitToSequence"


def test_a_cast_like_a_known_type_is_a_cast() -> None:
    body = "t = Conv(x, k) z = CastLike(three, t) y = Add(t, z)"
    assert plumbing(body, k=random(4, 4, 1, 1), three=np.array(3)) == ["Conv", "Add"]


TO_LAST, TO_FIRST = "Transpose <perm = [0, 2, 3, 1]>", "Transpose <perm = [0, 3, 1, 2]>"
LAYOUTS = {
    "arithmetic": ("r = Mul(t, k) s = Add(r, one) u = Sigmoid(s)", {"Mul": 1, "Add": 1, "Sigmoid": 1}),
    "two branches": ("r = Sigmoid(t) u = Mul(t, r)", {"Sigmoid": 1, "Mul": 1}),
    "a concat": ("r = Relu(t) u = Concat <axis = -1> (r, t)", {"Relu": 1, "Concat": 1}),
    "a mean": ("r = ReduceMean <keepdims = 1> (t, i1) u = Sub(t, r)", {"ReduceMean": 1, "Sub": 1}),
    "padding": ("u = Pad(t, pads)", {"Pad": 1}),
    "a product": ("p = MatMul(t, w) u = Add(p, k)", {"Conv": 1}),
    "a softmax": ("u = Softmax <axis = 3> (t)", {"Softmax": 1, "Transpose": 2}),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_transposes_around_what_does_not_care_cancel(case: str) -> None:
    between, expected = LAYOUTS[case]
    weights = {"k": random(4), "w": random(4, 4, seed=1), "pads": np.array([0, 1, 0, 0, 0, 0, 2, 0])}
    used = {name: array for name, array in weights.items() if f"{name})" in between}
    assert left(f"t = {TO_LAST} (x) {between} y = {TO_FIRST} (u)", **used) == expected


def test_a_residual_that_comes_in_the_other_order_joins_when_it_is_transposed_anyway() -> None:
    io = "(float[n,6,5,4] x) => (float[a,b,c,d] y)"
    body = f"t = {TO_FIRST} (x) c = Conv(t, k) u = {TO_LAST} (c) s = Add(u, x) r = Relu(s) v = {TO_FIRST} (r)"
    assert left(f"{body} y = Conv(v, k)", io, k=random(4, 4, 1, 1)) == {"Transpose": 1, "Conv": 2, "Add": 1, "Relu": 1}


def test_transposes_stay_where_as_many_would_be_needed() -> None:
    body = f"t = {TO_LAST} (x) r = Relu(t) s = Softmax <axis = 3> (r) u = {TO_FIRST} (r) v = Relu(u) y = Neg(v)"
    io = IMAGE.replace("y)", "y, float[a,c,d,b] s)")
    assert left(body, io)["Transpose"] == 1


def _context() -> object:
    from modelopt_cli.passes.base import PassContext
    from modelopt_cli.targets.target import Target

    return PassContext(Target())


SWAP = "Transpose <perm = [0, 1, 3, 2]>"  # which is its own inverse


@pytest.mark.parametrize(
    "body",
    [
        f"t = {SWAP} (x) c = Concat <axis = 1> (x, t) y = Relu(c)",
        f"t = {SWAP} (x) c = Concat <axis = 1> (x, t) d = {SWAP} (c) y = Relu(d)",
        f"r = Relu(x) t = {SWAP} (r) c = Concat <axis = 1> (t, r) s = Sigmoid(t) y = Concat <axis = 1> (c, s)",
    ],
)
def test_a_swap_of_axes_is_not_counted_as_the_way_there_and_back(body: str) -> None:
    swapped = left(body, "(float[n,4,6,6] x) => (float[a,b,c,d] y)")
    assert swapped["Transpose"] == 1
