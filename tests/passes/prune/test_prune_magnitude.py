"""Which weights are pruned, and which are left alone with a reason; the share itself is tested in test_magnitude."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from pydantic import ValidationError

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.base import PassResult
from modelopt_cli.passes.prune.prune_magnitude import PruneMagnitude
from modelopt_cli.testing import model_from_text, run_model, run_pass

RNG = np.random.default_rng(7)


def weights(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def zeros(model: ir.Model, name: str) -> int:
    return int((model.graph.initializers[name].const_value.numpy() == 0).sum())


def reasons(result: PassResult) -> dict[str, str]:
    return {skip.node: skip.reason for skip in result.skipped}


TWO_LAYERS = "m (float[N, 8] x) => (float[N, 4] y) { h = MatMul(x, first) r = Relu(h) y = Gemm(r, second, bias) }"


def two_layers() -> ir.Model:
    return model_from_text(TWO_LAYERS, first=weights(8, 10), second=weights(10, 4) * 100, bias=weights(4))


def test_each_layer_loses_its_share_and_biases_stay() -> None:
    result = run_pass(PruneMagnitude(sparsity=0.3), two_layers())
    assert (zeros(result.model, "first"), zeros(result.model, "second"), zeros(result.model, "bias")) == (24, 12, 0)
    assert result.changed == 2
    assert result.details == {"tensors": 2, "weights": 120, "zeros": 36, "sparsity": 0.3}


def test_globally_the_layer_of_small_weights_loses_all() -> None:
    result = run_pass(PruneMagnitude(sparsity=0.5, scope="global"), two_layers())
    assert zeros(result.model, "first") + zeros(result.model, "second") == 60
    assert zeros(result.model, "second") <= 2
    assert run_pass(PruneMagnitude(sparsity=0.5, scope="global"), result.model).changed == 0


def test_a_pruned_model_is_not_pruned_again() -> None:
    once = run_pass(PruneMagnitude(), two_layers()).model
    again = run_pass(PruneMagnitude(), once)
    assert again.changed == 0
    assert model_bytes(again.model) == model_bytes(once)


def test_the_source_keeps_its_weights() -> None:
    model = two_layers()
    before = model_bytes(model)
    run_pass(PruneMagnitude(), model)
    assert model_bytes(model) == before


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("m (float[1,4,8,8] x) => (float[1,6,6,6] y) { y = Conv(x, w, b) }", {"w": (6, 4, 3, 3), "b": (6,)}),
        ("m (float[1,4,8,8] x) => (float[1,6,10,10] y) { y = ConvTranspose(x, w, b) }", {"w": (4, 6, 3, 3), "b": (6,)}),
        ("m (float[2,8] x) => (float[2,4] y) { y = Gemm <transB=1>(x, w, b) }", {"w": (4, 8), "b": (4,)}),
        ("m (float[8,2] x) => (float[4,2] y) { y = MatMul(w, x) }", {"w": (4, 8)}),
        (
            "m (float[5,1,4] x) => (float[5,1,1,3] y) { y = LSTM <hidden_size=3>(x, w, r, b) }",
            {"w": (1, 12, 4), "r": (1, 12, 3), "b": (1, 24)},
        ),
        (
            "m (float[5,1,4] x) => (float[5,1,1,3] y) { y = GRU <hidden_size=3>(x, w, r, b) }",
            {"w": (1, 9, 4), "r": (1, 9, 3), "b": (1, 18)},
        ),
        (
            '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> m (float[1,4,8,8] x) => (float[1,6,6,6] y)'
            ' { y = com.microsoft.FusedConv <activation="Relu">(x, w, b) }',
            {"w": (6, 4, 3, 3), "b": (6,)},
        ),
    ],
    ids=["Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "FusedConv"],
)
def test_weights_of_every_kind_go_and_biases_stay(text: str, shapes: dict[str, tuple[int, ...]]) -> None:
    model = model_from_text(text, **{name: weights(*shape) for name, shape in shapes.items()})
    result = run_pass(PruneMagnitude(sparsity=0.5), model)
    found = {name: zeros(result.model, name) for name in shapes}
    assert found == {name: 0 if name == "b" else round(np.prod(shape) / 2) for name, shape in shapes.items()}
    feeds = {"x": weights(*(int(d) for d in model.graph.inputs[0].shape))}
    assert np.isfinite(run_model(result.model, feeds)["y"]).all()


def test_float16_stays_float16() -> None:
    model = model_from_text(
        "m (float16[1,8] x) => (float16[1,4] y) { y = MatMul(x, w) }", w=weights(8, 4, dtype=np.float16)
    )
    result = run_pass(PruneMagnitude(sparsity=0.25), model)
    assert zeros(result.model, "w") == 8
    assert result.model.graph.initializers["w"].dtype == ir.DataType.FLOAT16


def test_a_weight_of_two_nodes_is_pruned_once() -> None:
    text = "m (float[2,4] x) => (float[2,4] y) { h = MatMul(x, w) y = MatMul(h, w) }"
    result = run_pass(PruneMagnitude(), model_from_text(text, w=weights(4, 4)))
    assert (result.changed, zeros(result.model, "w")) == (1, 8)


def test_a_weight_read_in_a_subgraph_is_pruned() -> None:
    text = """m (bool c, float[1,4] x) => (float[1,N] y) {
        y = If (c) <then_branch = t () => (float[1,4] a) { a = MatMul(x, w) },
                    else_branch = e () => (float[1,1] b) <float[4,1] v = {1., 2., 3., 4.}>
                     { b = MatMul(x, v) }> }"""
    result = run_pass(PruneMagnitude(), model_from_text(text, w=weights(4, 4)))
    assert (result.changed, zeros(result.model, "w")) == (2, 8)


def test_a_weight_in_a_constant_node_is_pruned() -> None:
    text = (
        "m (float[1,2] x) => (float[1,2] y) { w = Constant <value = float[2,2] {1., 2., 3., 4.}>() y = MatMul(x, w) }"
    )
    model = model_from_text(text)
    result = run_pass(PruneMagnitude(), model)
    feeds = {"x": np.ones((1, 2), np.float32)}
    assert run_model(result.model, feeds)["y"].tolist() == [[3, 4]]
    assert run_model(model, feeds)["y"].tolist() == [[4, 6]]


@pytest.mark.parametrize(
    ("text", "initializers", "reason"),
    [
        (
            "m (int64[2] i, float[1,4] x) => (float[2,4] e, float[1,4] y) { e = Gather(w, i) y = MatMul(x, w) }",
            {"w": weights(4, 4)},
            "also read by Gather",
        ),
        (
            "m (float[1,4,8,8] x) => (float[1,6,6,6] y) { w = DequantizeLinear(q, s) y = Conv(x, w) }",
            {"q": np.ones((6, 4, 3, 3), np.int8), "s": np.array(0.1, np.float32)},
            "prune before quantizing",
        ),
        (
            "m (float[1,4,8,8] x, float[6,4,3,3] w) => (float[1,6,6,6] y) { y = Conv(x, w) }",
            {},
            "computed by the graph",
        ),
        ("m (float[1,4] x, float[4,4] w) => (float[1,4] y) { y = MatMul(x, w) }", {"w": weights(4, 4)}, "graph input"),
        ("m (int32[1,4] x) => (int32[1,4] y) { y = MatMul(x, w) }", {"w": np.ones((4, 4), np.int32)}, "not float"),
        ("m (float[1,4] x) => (float[1,4] y, float[4,4] w) { y = MatMul(x, w) }", {"w": weights(4, 4)}, "an output of"),
    ],
)
def test_what_is_left_alone_says_why(text: str, initializers: dict[str, np.ndarray], reason: str) -> None:
    model = model_from_text(text, **initializers)
    result = run_pass(PruneMagnitude(), model)
    assert result.changed == 0
    assert model_bytes(result.model) == model_bytes(model)
    assert [skip.reason for skip in result.skipped if reason in skip.reason], result.skipped


def test_a_product_of_activations_is_not_worth_a_word() -> None:
    model = model_from_text("m (float[4,4] x) => (float[4,4] y) { y = MatMul(x, x) }")
    result = run_pass(PruneMagnitude(), model)
    assert (result.changed, result.skipped) == (0, ())


def test_globs_choose_by_weight_name_or_node_name() -> None:
    model = two_layers()
    model.graph[0].name = "stem"
    assert run_pass(PruneMagnitude(include=("stem",)), model).changed == 1
    result = run_pass(PruneMagnitude(exclude=("sec*",)), model)
    assert (zeros(result.model, "first"), zeros(result.model, "second")) == (40, 0)
    assert reasons(result) == {"second": "in exclude"}


def test_a_glob_that_matches_nothing_names_what_is_near() -> None:
    with pytest.raises(UsageError, match=r"include: 'frist\*' matches no node and no weight \(near names: first"):
        run_pass(PruneMagnitude(include=("frist*",)), two_layers())
    with pytest.raises(UsageError, match="exclude: 'head'"):
        run_pass(PruneMagnitude(exclude=("head",)), two_layers())
    run_pass(PruneMagnitude(exclude=("bias",)), two_layers())  # nothing to exclude there, but the name exists


@pytest.mark.parametrize("sparsity", [0, 1, -0.5, 50, float("nan")])
def test_a_share_outside_of_0_and_1_is_refused(sparsity: float) -> None:
    with pytest.raises(ValidationError):
        PruneMagnitude(sparsity=sparsity)
