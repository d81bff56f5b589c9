"""A layer's matrix times its rows is what the runtime computes, for every kind of layer."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.passes.prune.linear import LinearLayer, LstmLayer, linear_layer
from modelopt_cli.passes.prune.weights import find_weights
from modelopt_cli.testing import model_from_text, run_model

RNG = np.random.default_rng(2)


def weights(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def only_layer(model: ir.Model) -> LinearLayer:
    found, _ = find_weights(model)
    layer = linear_layer(found[0].nodes[0], found)
    assert isinstance(layer, LinearLayer), layer
    return layer


CONV = "m (float[2,4,9,7] x) => (float[2,6,A,B] y) { y = Conv <%s> (x, w, b) }"


@pytest.mark.parametrize(
    "attributes",
    [
        "pads=[0,0,0,0]",
        "pads=[1,2,0,1]",
        "strides=[2,1], pads=[1,1,1,1]",
        "dilations=[2,1], pads=[2,0,2,0]",
        'auto_pad="SAME_UPPER", strides=[2,2]',
        'auto_pad="SAME_LOWER", strides=[2,2]',
        'auto_pad="VALID"',
        "group=2, pads=[1,1,1,1]",
    ],
)
def test_conv(attributes: str) -> None:
    groups = 2 if "group" in attributes else 1
    model = model_from_text(CONV % attributes, w=weights(6, 4 // groups, 3, 2), b=weights(6))
    layer, x = only_layer(model), weights(2, 4, 9, 7)
    y = run_model(model, {"x": x})["y"]
    got = np.einsum("gnk,grk->ngr", layer.rows({"x": x}, 10**6, 0), layer.matrix()).reshape(-1, 6)
    want = np.moveaxis(y, 1, -1).reshape(-1, 6) - model.graph.initializers["b"].const_value.numpy()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("m (float[3,5] x) => (float[3,4] y) { y = MatMul (x, w) }", (5, 4)),
        ("m (float[2,3,5] x) => (float[2,3,4] y) { y = MatMul (x, w) }", (5, 4)),
        ("m (float[3,5] x) => (float[3,4] y) { y = Gemm <transB=1> (x, w) }", (4, 5)),
        ("m (float[5,3] x) => (float[3,4] y) { y = Gemm <transA=1> (x, w) }", (5, 4)),
        ("m (float[5,3] x) => (float[4,3] y) { y = MatMul (w, x) }", (4, 5)),
        ("m (float[3,5] x) => (float[4,3] y) { y = Gemm <transB=1> (w, x) }", (4, 5)),
        ("m (float[5,3] x) => (float[4,3] y) { y = Gemm <transA=1> (w, x) }", (5, 4)),
    ],
)
def test_matmul_and_gemm(text: str, shape: tuple[int, ...]) -> None:
    model = model_from_text(text, w=weights(*shape))
    layer = only_layer(model)
    x = weights(*(int(d) for d in model.graph.inputs[0].shape))
    y = run_model(model, {"x": x})["y"]
    got = (layer.rows({"x": x}, 100, 0) @ layer.matrix().swapaxes(1, 2))[0]
    want = y.reshape(-1, 4) if y.shape[-1] == 4 else y.T
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_lstm_rows_give_the_gates_from_which_the_hidden_states_follow(direction: str) -> None:
    count = 2 if direction == "bidirectional" else 1
    text = f"""m (float[5,2,3] x) => (float[5,{count},2,4] y) {{
        y = LSTM <hidden_size=4, direction="{direction}"> (x, w, r, b) }}"""
    model = model_from_text(text, w=weights(count, 16, 3), r=weights(count, 16, 4), b=weights(count, 32))
    layer, x = only_layer(model), weights(5, 2, 3)
    assert isinstance(layer, LstmLayer)
    y = run_model(model, {"x": x})["y"]
    bias = model.graph.initializers["b"].const_value.numpy()
    gates = layer.rows({"x": x, "y": y}, 10**6, 0) @ layer.matrix().swapaxes(1, 2)
    gates = (gates + (bias[:, :16] + bias[:, 16:])[:, None]).reshape(count, 5, 2, 4, 4)
    for index in range(count):
        backward = direction == "reverse" or index == 1
        cell = np.zeros((2, 4))
        for step in reversed(range(5)) if backward else range(5):
            i, o, f, c = (gates[index, step, :, gate] for gate in range(4))
            cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(c)
            np.testing.assert_allclose(_sigmoid(o) * np.tanh(cell), y[step, index], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        (CONV % "group=2", {"w": (6, 2, 3, 2), "b": (6,)}),
        ("m (float[3,5] x) => (float[3,4] y) { y = Gemm <transB=1> (x, w, b) }", {"w": (4, 5), "b": (4,)}),
        (
            "m (float[5,2,3] x) => (float[5,1,2,4] y) { y = LSTM <hidden_size=4> (x, w, r, b) }",
            {"w": (1, 16, 3), "r": (1, 16, 4), "b": (1, 32)},
        ),
        (
            "m (float[2,3,5] x) => (float[2,3,4] y) { h = MatMul (x, w)  y = Add (b, h) }",
            {"w": (5, 4), "b": (4,)},
        ),
    ],
    ids=["Conv", "Gemm", "LSTM", "MatMul + Add"],
)
def test_what_is_written_back_is_what_was_read_and_a_draft_goes_without_trace(
    text: str, shapes: dict[str, tuple[int, ...]]
) -> None:
    arrays = {name: weights(*shape) for name, shape in shapes.items()}
    model = model_from_text(text, **arrays)
    layer = only_layer(model)
    assert layer.bias is not None
    matrix = layer.matrix()
    tensors = {name: model.graph.initializers[name].const_value for name in arrays}
    with layer.draft(matrix * 2, np.ones(matrix.shape[:2])):
        assert np.array_equal(layer.matrix(), matrix * 2)
        shifted = model.graph.initializers["b"].const_value.numpy() - arrays["b"]
        assert shifted.sum() == pytest.approx(matrix.shape[0] * matrix.shape[1], rel=1e-5)
    assert all(model.graph.initializers[name].const_value is tensor for name, tensor in tensors.items())
    layer.replace(matrix)
    for name, array in arrays.items():
        assert np.array_equal(model.graph.initializers[name].const_value.numpy(), array)


@pytest.mark.parametrize(
    ("text", "shapes", "reason"),
    [
        (
            "m (float[5,1,4] x) => (float[5,1,1,3] y) { y = GRU <hidden_size=3>(x, w, r) }",
            [(1, 9, 4), (1, 9, 3)],
            "GRU",
        ),
        ("m (float[1,4,8,8] x) => (float[1,6,10,10] y) { y = ConvTranspose(x, w) }", [(4, 6, 3, 3)], "ConvTranspose"),
        ("m (float[4,4] x) => (float[4,4] y) { h = MatMul(x, w) y = MatMul(h, w) }", [(4, 4)], "shared by several"),
        ("m (float[2,3,4] x) => (float[2,3,5] y) { y = MatMul(x, w) }", [(2, 4, 5)], "not a matrix"),
        ("m (float[2,4] x) => (float[2,5] y) { y = Gemm <alpha=2.0> (x, w) }", [(4, 5)], "alpha"),
    ],
)
def test_what_is_no_linear_layer_says_why(text: str, shapes: list[tuple[int, ...]], reason: str) -> None:
    model = model_from_text(text, **{name: weights(*shape) for name, shape in zip("wr", shapes, strict=False)})
    found, _ = find_weights(model)
    answer = linear_layer(found[0].nodes[0], found)
    assert isinstance(answer, str)
    assert reason in answer


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
