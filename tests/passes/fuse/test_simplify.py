from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from fuse_checks import check_pass, random

from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.fuse.folding import MAX_GROWTH_BYTES
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.testing import model_from_text, op_types


def simplified(
    body: str, io: str = "(float[n,3,4] x) => (float[a,b,c] y)", n: int = 2, **weights: np.ndarray
) -> list[str]:
    return op_types(check_pass(Simplify(), model_from_text(f"g {io} {{ {body} }}", **weights), n=n).model)


@pytest.mark.parametrize(
    "body",
    [
        "i = Identity(x) y = Relu(i)",
        "d = Dropout(x) y = Relu(d)",
        "d = Cast <to = 1> (x) y = Relu(d)",
        "d = Transpose <perm = [0, 1, 2]> (x) y = Relu(d)",
        "t = Transpose <perm = [1, 2, 0]> (x) d = Transpose <perm = [2, 0, 1]> (t) y = Relu(d)",
        "z = Constant <value = float {0.0}> () d = Add(z, x) y = Relu(d)",
        "o = Constant <value = float[1] {1.0}> () d = Mul(x, o) y = Relu(d)",
        "o = Constant <value = float {1.0}> () d = Div(x, o) y = Relu(d)",
        "p = Constant <value = int64[6] {0, 0, 0, 0, 0, 0}> () d = Pad(x, p) y = Relu(d)",
        "s = Constant <value = int64[3] {0, 3, 4}> () d = Reshape(x, s) y = Relu(d)",
        "s = Shape(x) d = Reshape(x, s) y = Relu(d)",
        "s = Shape(x) d = Expand(x, s) y = Relu(d)",
        "d = Concat <axis = 1> (x) y = Relu(d)",
        "u = Constant <value = int64[1] {0}> () v = Constant <value = int64[1] {9223372036854775807}> ()"
        " d = Slice(x, u, v, u) y = Relu(d)",
    ],
)
def test_what_gives_back_its_input_goes(body: str) -> None:
    assert simplified(body) == ["Relu"]


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("y = Identity(x)", ["Identity"]),  # a graph output cannot be a graph input
        ("o = Constant <value = int64[1] {0}> () y = Slice(x, o, o, o)", ["Slice"]),
        ("o = Constant <value = float[1,1,1,1] {1.0}> () d = Mul(x, o) y = Relu(d)", ["Mul", "Relu"]),  # adds a rank
        ("d = Cast <to = 10> (x) e = Cast <to = 1> (d) y = Relu(e)", ["Cast", "Cast", "Relu"]),
        ("d = Transpose <perm = [0, 2, 1]> (x) y = Relu(d)", ["Transpose", "Relu"]),
    ],
)
def test_what_changes_something_stays(body: str, left: list[str]) -> None:
    io = "(float[n,3,4] x) => (y)" if "1,1,1,1" in body else "(float[n,3,4] x) => (float[a,b,c] y)"
    io = io.replace("(y)", "(float[a,b,c,d] y)")
    model = model_from_text(f"g {io} {{ {body} }}")
    atol = 1e-2 if "to = 10" in body else 0
    assert op_types(check_pass(Simplify(), model, n=2, atol=atol).model) == left


def test_an_add_that_broadcasts_its_input_to_more_is_no_no_op() -> None:
    body = "z = Constant <value = float[1,2] {0.0, 0.0}> () d = Add(x, z) y = Relu(d)"
    assert simplified(body, "(float[n,1] x) => (float[a,b] y)") == ["Add", "Relu"]


def test_constants_are_folded_and_random_nodes_are_not() -> None:
    body = """c = Constant <value = float[2] {1.0, 2.0}> () s = Exp(c) t = Neg(s)
              r = RandomNormalLike <seed = 1.0> (c) z = Mul(r, t) q = ReduceSum(z) w = Sub(q, q) y = Add(x, w)"""
    ops = simplified(body, "(float[n] x) => (float[n] y)")
    assert "Exp" not in ops and "Neg" not in ops and "RandomNormalLike" in ops


def test_folding_does_not_blow_up_the_file() -> None:
    body = "s = Constant <value = int64[2] {1, 100000}> () w = Expand(c, s) y = Add(x, w)"
    text = f"g (float[n,1] x) => (float[a,b] y) {{ {body} }}"
    model = model_from_text(text, c=np.ones((1, 1), np.float32))
    result = check_pass(Simplify(), model, n=2)
    assert op_types(result.model) == ["Expand", "Add"]
    assert len(model_bytes(result.model)) < len(model_bytes(model)) + MAX_GROWTH_BYTES


@pytest.mark.parametrize(("readers", "left"), [(1, ["MatMul"]), (2, ["Transpose", "MatMul", "MatMul"])])
def test_a_large_weight_is_folded_when_the_source_of_it_goes(readers: int, left: list[str]) -> None:
    second = "z = MatMul(x, w)" if readers == 2 else ""
    io = "(float[n,64] x) => (float[n,64] y" + (", float[n,64] z)" if readers == 2 else ")")
    model = model_from_text(
        f"g {io} {{ t = Transpose <perm = [1, 0]> (w) y = MatMul(x, t) {second} }}", w=random(64, 64)
    )
    assert op_types(check_pass(Simplify(), model, n=2).model) == left


def test_dequantized_weights_stay_small() -> None:
    text = """g (float[n,4] x) => (float[n,4] y) { w = DequantizeLinear(q, s) y = MatMul(x, w) }"""
    model = model_from_text(text, q=np.ones((4, 4), np.int8), s=np.array(0.5, np.float32))
    assert op_types(check_pass(Simplify(), model, n=2).model) == ["DequantizeLinear", "MatMul"]


def test_duplicates_are_computed_once() -> None:
    ops = simplified("a = Exp(x) b = Exp(x) y = Add(a, b)")
    assert ops == ["Exp", "Add"]


def test_equal_weights_are_stored_once() -> None:
    model = model_from_text(
        "g (float[n,4] x) => (float[n,4] y) { a = Add(x, u) b = Relu(a) y = Add(b, v) }", u=random(4), v=random(4)
    )
    assert len(check_pass(Simplify(), model, n=2).model.graph.initializers) == 1


def test_functions_are_inlined() -> None:
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        g (float[n] x) => (float[n] y) { y = own.twice(x) }
        <domain: "own", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }"""
    )
    assert op_types(check_pass(Simplify(), model, n=3).model) == ["Add"]


PLUMBING = """s = Shape(x) i = Constant <value = int64 {0}> () j = Constant <value = int64 {1}> ()
    b = Gather(s, i) t = Gather(s, j) a = Constant <value = int64[1] {0}> ()
    b1 = Unsqueeze(b, a) t1 = Unsqueeze(t, a)
    h = Constant <value = int64[1] {2}> () w = Constant <value = int64[1] {3}> ()
    shape = Concat <axis = 0> (b1, t1, h, w) y = Reshape(x, shape)"""


def test_shape_arithmetic_over_symbols_becomes_a_constant() -> None:
    model = model_from_text(f"g (float[n,m,6] x) => (float[a,b,c,d] y) {{ {PLUMBING} }}")
    result = check_pass(Simplify(), model, n=2, m=5)
    assert op_types(result.model) == ["Reshape"]
    (shape,) = result.model.graph.initializers.values()
    assert shape.const_value is not None and shape.const_value.numpy().tolist() == [0, 0, 2, 3]


def test_two_unrelated_computed_dimensions_stay_computed() -> None:
    text = "g (float[n,6] x, float[p,q] z) => (float[a,b] y) { s = Shape(z) r = Shape(z) y = Reshape(x, s) }"
    model = model_from_text(text)
    result = check_pass(Simplify(), model, n=2, p=3, q=4)
    assert op_types(result.model) == ["Shape", "Reshape"]
    assert any("only one can be -1" in skip.reason for skip in result.skipped)


def test_a_zero_state_is_left_out() -> None:
    text = """g (float[3,n,2] x) => (float[3,1,n,4] y) {
        s = Shape(x) i = Constant <value = int64[1] {1}> () b = Gather(s, i)
        f = Constant <value = int64[1] {1}> () l = Constant <value = int64[1] {4}> ()
        t = Concat <axis = 0> (f, b, l) z = ConstantOfShape(t)
        y = LSTM <hidden_size = 4> (x, w, r, , , z, z) }"""
    model = model_from_text(text, w=random(1, 16, 2), r=random(1, 16, 4))
    assert op_types(check_pass(Simplify(), model, n=2).model) == ["LSTM"]
    other = model_from_text(
        text.replace("ConstantOfShape(t)", "ConstantOfShape <value = float[1] {0.5}> (t)"),
        w=random(1, 16, 2),
        r=random(1, 16, 4),
    )
    assert "ConstantOfShape" in op_types(check_pass(Simplify(), other, n=2).model)


def test_branches_are_simplified_too() -> None:
    model = model_from_text(
        """g (bool c, float[n] x) => (float[n] y) {
            y = If (c) <then_branch = a () => (float[n] t) { i = Identity(x) t = Relu(i) },
                        else_branch = b () => (float[n] e) { d = Dropout(x) e = Neg(d) }> }"""
    )
    assert sorted(op_types(check_pass(Simplify(), model, n=3).model)) == ["If", "Neg", "Relu"]


def test_a_model_that_cannot_be_inferred_is_still_simplified() -> None:
    model = model_from_text(
        """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (float[n] x) => (float[n] y) { i = Identity(x) t = com.microsoft.QuickGelu(i) y = Relu(t) }"""
    )
    assert op_types(check_pass(Simplify(), model, n=3).model) == ["QuickGelu", "Relu"]


@pytest.mark.zoo
@pytest.mark.parametrize(
    ("name", "most"),
    [("ppocr_det", 330), pytest.param("minilm_sentiment", 229, marks=pytest.mark.slow), ("efficientnet_lite0", 111)],
)
def test_real_models(zoo: Path, name: str, most: int) -> None:
    model = ir.load(zoo / name / "model.onnx")
    dims = {"batch": 2, "seq": 7, "p2o.DynamicDimension.1": 32, "p2o.DynamicDimension.2": 64}
    result = check_pass(Simplify(), model, atol=1e-5, **dims)
    assert len(result.model.graph) <= most
    assert not {"Constant", "Identity", "ConstantOfShape"} & set(op_types(result.model))
