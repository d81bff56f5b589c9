from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modelopt_cli.errors import ModelError
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.graph.opset import raise_opset
from modelopt_cli.testing import assert_same_outputs, model_from_text, op_types, random_feeds

CASES = {
    "squeeze": (8, "float[1,n,1] x", "float[n] y", "y = Squeeze <axes = [0, 2]> (x)"),
    "unsqueeze": (11, "float[n] x", "float[1,n,1] y", "y = Unsqueeze <axes = [0, 2]> (x)"),
    "reduce-sum": (11, "float[2,n] x", "float[n] y", "y = ReduceSum <axes = [0], keepdims = 0> (x)"),
    "reduce-mean": (12, "float[2,n] x", "float[n] y", "y = ReduceMean <axes = [0], keepdims = 0> (x)"),
    "clip": (8, "float[2,n] x", "float[2,n] y", "y = Clip <min = -0.5, max = 0.25> (x)"),
    "clip-one-side": (8, "float[2,n] x", "float[2,n] y", "y = Clip <max = 0.25> (x)"),
    "pad": (9, "float[2,n] x", "float[a,b] y", "y = Pad <pads = [0, 1, 1, 0], value = 2.0> (x)"),
    "slice": (9, "float[4,n] x", "float[2,n] y", "y = Slice <starts = [1], ends = [3], axes = [0]> (x)"),
    "split": (11, "float[4,n] x", "float[1,n] y, float[3,n] z", "y, z = Split <split = [1, 3]> (x)"),
    "split-even": (11, "float[4,n] x", "float[2,n] y, float[2,n] z", "y, z = Split (x)"),
    "softmax-last": (11, "float[2,n] x", "float[2,n] y", "y = Softmax (x)"),
    "softmax-flattened": (11, "float[2,n,4] x", "float[2,n,4] y", "y = Softmax <axis = 1> (x)"),
    "log-softmax": (11, "float[2,n,4] x", "float[2,n,4] y", "y = LogSoftmax <axis = 0> (x)"),
    "top-k": (9, "float[2,5] x", "float[2,3] y, int64[2,3] i", "y, i = TopK <k = 3> (x)"),
    "unchanged": (8, "float[2,n] x", "float[2,n] y", "t = Relu(x) y = Add(t, x)"),
}


@pytest.mark.parametrize("to", [13, 18, 21])
@pytest.mark.parametrize("case", CASES)
def test_the_raised_model_computes_the_same(case: str, to: int) -> None:
    opset, inputs, outputs, body = CASES[case]
    model = model_from_text(f'<ir_version: 4, opset_import: ["" : {opset}]> g ({inputs}) => ({outputs}) {{ {body} }}')
    raised = model.clone()
    assert raise_opset(raised, to) == to
    onnx.checker.check_model(model_bytes(raised), full_check=True)
    assert [(v.name, v.shape) for v in raised.graph.outputs] == [(v.name, v.shape) for v in model.graph.outputs]
    feeds = random_feeds(model, np.random.default_rng(0), n=3)
    assert_same_outputs(model, raised, feeds, rtol=0, atol=1e-6)


def test_upsample_becomes_resize() -> None:
    model = model_from_text(
        '<ir_version: 4, opset_import: ["" : 9]> g (float[1,1,n,3] x) => (float[a,b,c,d] y)'
        " <float[4] scales> { y = Upsample <mode = 'nearest'> (x, scales) }".replace("'", '"'),
        scales=np.array([1, 1, 2, 2], np.float32),
    )
    raised = model.clone()
    raise_opset(raised, 13)
    assert op_types(raised) == ["Resize"]
    assert_same_outputs(model, raised, random_feeds(model, np.random.default_rng(0), n=3), rtol=0, atol=0)


def test_a_model_that_is_new_enough_is_left_alone() -> None:
    model = model_from_text("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    before = model_bytes(model)
    assert raise_opset(model, 13) == 17
    assert model_bytes(model) == before


def test_branches_are_raised_too() -> None:
    model = model_from_text(
        """<ir_version: 7, opset_import: ["" : 12]> g (bool c, float[1,2] x) => (float[2] y) {
            y = If (c) <then_branch = a () => (float[2] t) { t = Squeeze <axes = [0]> (x) },
                        else_branch = b () => (float[2] e) { z = Neg(x) e = Squeeze <axes = [0]> (z) }>
        }"""
    )
    raised = model.clone()
    raise_opset(raised, 13)
    for flag in (True, False):
        feeds = {"c": np.array(flag), "x": np.array([[1, 2]], np.float32)}
        assert_same_outputs(model, raised, feeds, rtol=0, atol=0)


def test_what_cannot_be_expressed_is_refused_with_the_operator() -> None:
    model = model_from_text(
        '<ir_version: 8, opset_import: ["" : 15]> g (float[1,1,4,4] x, float[1,4] r, int64[1] i) => (float[a,b,c,d] y)'
        " { y = RoiAlign(x, r, i) }"
    )
    before = model_bytes(model)
    try:
        raise_opset(model, 16)
    except ModelError as error:
        assert "RoiAlign" in str(error)
        assert model_bytes(model) == before
    else:  # a version of onnx that learnt to convert it
        assert model.graph.node(0).attributes.get_string("coordinate_transformation_mode") == "output_half_pixel"


def test_what_the_converter_makes_another_operator_of_is_refused() -> None:
    body = """body (float[2] sum, float[2] next) => (float[2] out, float[2] each) {
        out = Add (sum, next)  each = Relu (out) }"""
    text = f"""<ir_version: 3, opset_import: ["" : 8]>
        m (float[1,2] first, float[1,3,2] x) => (float[1,2] y, float[1,3,2] z) {{
        y, z = Scan <num_scan_inputs = 1, body = {body}> ("", first, x) }}"""
    with pytest.raises(ModelError, match="opset 9 changed operator 'Scan'"):
        raise_opset(model_from_text(text), 13)


def test_large_weights_are_kept_by_identity() -> None:
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    model = model_from_text(
        '<ir_version: 7, opset_import: ["" : 12]> g (float[n,64] x) => (float[n,64] y) { y = MatMul(x, w) }', w=weight
    )
    tensor = model.graph.initializers["w"].const_value
    raise_opset(model, 13)
    assert model.graph.initializers["w"].const_value is tensor


@pytest.mark.zoo
def test_ppocr_det(zoo: object) -> None:
    model = ir.load(f"{zoo}/ppocr_det/model.onnx")
    raised = model.clone()
    assert raise_opset(raised, 13) == 13
    onnx.checker.check_model(model_bytes(raised), full_check=True)
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 3, 32, 64)).astype(np.float32)}
    assert_same_outputs(model, raised, feeds, rtol=0, atol=1e-6)
