"""The low-bit passes on small models: what each way of storing weights costs in bytes and error, and every refusal."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from lowbit_models import two_products

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.base import Pass, PassResult
from modelopt_cli.passes.quantize.lowbit.codebook import Codebook
from modelopt_cli.passes.quantize.lowbit.quantize_weights import QuantizeWeights
from modelopt_cli.passes.quantize.lowbit.slots import find_slots
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import ArrayDataset, model_from_text, op_types, run_model, run_pass

RNG = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


W64, W96, TABLE, FILTERS = normal(64, 96), normal(96, 64), normal(200, 64), normal(32, 8, 3, 3)
OUTER = normal(4, 3, 64)


def product() -> ir.Model:
    return model_from_text("m (float[N,S,64] x) => (float[N,S,96] y) { y = MatMul (x, w) }", w=W64)


def classifier() -> ir.Model:
    text = "m (float[N,64] x) => (float[N,96] y) { y = Gemm <transB=1> (x, w, b) }"
    return model_from_text(text, w=W96, b=normal(96))


def filters() -> ir.Model:
    text = "m (float[N,16,8,8] x) => (float[N,32,6,6] y) { y = Conv <group=2> (x, w) }"
    return model_from_text(text, w=FILTERS)


def lookup() -> ir.Model:
    return model_from_text("m (int64[N,S] i) => (float[N,S,64] y) { y = Gather (t, i) }", t=TABLE)


def tied() -> ir.Model:
    text = """m (int64[N,S] i) => (float[N,S,200] y) {
        e = Gather (t, i)
        tt = Transpose <perm=[1,0]> (t)
        y = MatMul (e, tt) }"""
    return model_from_text(text, t=TABLE)


def recurrent() -> ir.Model:
    text = (
        'm (float[T,N,32] x) => (float[T,2,N,16] y) { y = LSTM <hidden_size=16, direction="bidirectional"> (x, w, r) }'
    )
    return model_from_text(text, w=normal(2, 64, 32) / 4, r=normal(2, 64, 16) / 4)


def feeds(model: ir.Model) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(9)
    value = model.graph.inputs[0]
    shape = [dim if isinstance(dim, int) else 3 for dim in value.shape or ()]
    is_index = value.dtype == ir.DataType.INT64
    array = rng.integers(0, 200, shape) if is_index else rng.standard_normal(shape).astype(np.float32)
    return {value.name or "": array}


def error(before: ir.Model, after: ir.Model) -> float:
    """Noise over signal, as powers, with the optimizer on: codes must survive constant folding."""
    exact, found = (run_model(model, feeds(before), optimize=True)["y"] for model in (before, after))
    return float(np.square(exact - found).sum() / np.square(exact).sum())


def share(before: ir.Model, after: ir.Model) -> float:
    return len(model_bytes(after)) / len(model_bytes(before))


MODELS = {f.__name__: f for f in (product, classifier, filters, lookup, tied, recurrent)}


@pytest.mark.parametrize("bits", [8, 6, 4, 3, 2])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", [QuantizeWeights, Codebook])
def test_every_weight_keeps_its_meaning(kind: type[Pass], name: str, bits: int) -> None:
    model = MODELS[name]()
    result = run_pass(kind(bits=bits), model)
    assert result.changed >= 1
    onnx.checker.check_model(model_bytes(result.model), full_check=True)
    assert share(model, result.model) < 1
    # Rounding to the nearest of 2 ** bits levels, twice in the deepest model; int8 inputs add some 1e-4.
    assert error(model, result.model) < 6 * 4.0**-bits + 5e-4


@pytest.mark.parametrize(("bits", "most"), [(8, 0.28), (4, 0.18), (2, 0.13)])
def test_a_table_takes_its_bits(bits: int, most: float) -> None:
    model = model_from_text(
        "m (int64[N] i) => (float[N,64] y) { y = Gather (t, i) }",
        t=np.random.default_rng(0).random((4000, 64), np.float32),
    )
    assert share(model, run_pass(QuantizeWeights(bits=bits), model).model) < most


def test_decoding_leaves_no_operator_that_runs() -> None:
    """After constant folding one MatMul is left, and in int8 the two operators of the dynamic kernel."""
    for compute, left in (("float", ["MatMul"]), ("int8", ["DynamicQuantizeMatMul"])):
        model = run_pass(QuantizeWeights(bits=4, compute=compute), product()).model
        assert folded_ops(model) == left


def folded_ops(model: ir.Model) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(model_bytes(model), options, providers=["CPUExecutionProvider"])
        return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]


def test_tied_embeddings_stay_one_tensor() -> None:
    model = tied()
    result = run_pass(QuantizeWeights(bits=4), model)
    names = [name for name in result.model.graph.initializers if name.startswith("t_codes")]
    assert names == ["t_codes"]
    assert share(model, result.model) < 0.3


def test_calibration_data_brings_the_output_closer() -> None:
    mix = np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32) / 8
    rows = (np.random.default_rng(2).standard_normal((64, 8, 64)) @ mix).astype(np.float32)
    data = ArrayDataset({"x": rows})
    model = product()
    held = (np.random.default_rng(5).standard_normal((4, 8, 64)) @ mix).astype(np.float32)

    def noise(result: PassResult) -> float:
        exact, found = (run_model(each, {"x": held})["y"] for each in (model, result.model))
        return float(np.square(exact - found).sum())

    for pass_ in (QuantizeWeights(bits=3), QuantizeWeights(bits=3, compute="float"), Codebook(bits=3)):
        assert noise(run_pass(pass_, model, calibration=data)) < 0.7 * noise(run_pass(pass_, model))


def biased() -> ir.Model:
    text = "m (float[N,16,8,64] x) => (float[N,16,8,96] y) { p = MatMul (x, w)  y = Add (p, b) }"
    return model_from_text(text, w=W64, b=normal(96))


def computed_bias() -> ir.Model:
    text = "m (float[N,16,8,64] x) => (float[N,16,8,96] y) { p = MatMul (x, w)  s = Sigmoid (p)  y = Add (p, s) }"
    return model_from_text(text, w=W64)


@pytest.mark.parametrize(("build", "given_back"), [(filters, True), (biased, True), (computed_bias, False)])
def test_biases_give_back_what_rounding_takes_from_the_mean(build: Callable[[], ir.Model], given_back: bool) -> None:
    model = build()
    shape = tuple(dim for dim in (model.graph.inputs[0].shape or ())[1:] if isinstance(dim, int))
    data = ArrayDataset({"x": np.random.default_rng(0).random((32, *shape), np.float32) + 1})
    options = {"bits": 3, "block": 0, "compute": "float"}
    result = run_pass(QuantizeWeights(**options), model, calibration=data)
    biases = [name for name in result.model.graph.initializers if name.endswith("_bias")]
    assert bool(biases) == given_back
    if given_back:
        sample = {"x": np.random.default_rng(1).random((4, *shape), np.float32) + 1}
        plain = run_pass(QuantizeWeights(**options), model)
        axes = (0, 2, 3) if build is filters else (0, 1, 2)
        exact, found, rounded = (run_model(each, sample)["y"] for each in (model, result.model, plain.model))
        lost = np.abs((found - exact).mean(axis=axes)).mean()
        assert lost < 0.15 * np.abs((rounded - exact).mean(axis=axes)).mean()


def test_a_table_of_16_levels_has_4_bits() -> None:
    for options in ({"bits": 3}, {"mixed": True}):
        with pytest.raises(UsageError, match="has 16 levels"):
            run_pass(Codebook(table="nf4", **options), product())


def test_nf4_and_fp4_are_4_bit_tables() -> None:
    model = product()
    for table in ("nf4", "fp4"):
        assert error(model, run_pass(Codebook(table=table), model).model) < 0.02


def test_include_exclude_and_embeddings_choose_weights() -> None:
    model, _ = two_products()
    result = run_pass(QuantizeWeights(bits=4, exclude=("qu*",)), model)
    assert result.changed == 1
    assert "quiet" in result.model.graph.initializers
    assert run_pass(QuantizeWeights(bits=4, include=("none",)), model).changed == 0
    assert run_pass(QuantizeWeights(embeddings=False), lookup()).changed == 0


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("m (float[N,8] x) => (float[N,8] y) { y = MatMul (x, w) }", {"w": normal(8, 8)}),  # small
        ("m (float[N,64] x) => (float[N,96] y) { y = MatMul (x, w) }", {"w": np.full((64, 96), np.inf, np.float32)}),
        ("m (float[N,64] x) => (float[N,96] y, float[64,96] w) { y = MatMul (x, w) }", {"w": W64}),  # an output
        ("m (int64[N] i) => (float[96,N] y) { y = Gather <axis=1> (w, i) }", {"w": W96}),  # columns, not rows
        ("m (float[64,96] x) => (float[64,96] y) { y = Add (x, w) }", {"w": W64}),  # no weight of a product
    ],
)
def test_what_is_left_alone(text: str, weights: dict[str, np.ndarray]) -> None:
    model = model_from_text(text, **weights)
    assert list(find_slots(model)) == []
    assert run_pass(QuantizeWeights(bits=4), model).changed == 0


def test_few_inputs_keep_8_bits() -> None:
    text = "m (float[N,512,8,8] x) => (float[N,512,6,6] y) { y = Conv <group=512> (x, w) }"
    result = run_pass(QuantizeWeights(bits=4), model_from_text(text, w=normal(512, 1, 3, 3)))
    assert result.details["weights_by_bits"] == {"8": 1}


def test_a_weight_in_a_constant_node_and_a_reader_in_a_branch() -> None:
    text = """m (float[N,64] x) => (float[N,96] y) {
        top = ReduceMax <keepdims=0> (x)
        one = Constant <value = float {1.0}> ()
        c = Greater (top, one)
        y = If (c) <then_branch = t () => (float[N,96] a) { a = MatMul (x, w) },
                    else_branch = e () => (float[N,96] b) { u = MatMul (x, w)  b = Neg (u) }> }"""
    model = model_from_text(text, w=W64)
    result = run_pass(QuantizeWeights(bits=4), model)
    assert result.changed == 1
    assert share(model, result.model) < 0.4
    assert error(model, result.model) < 0.03
    constant = model_from_text("m (float[N,64] x) => (float[N,96] y) { y = MatMul (x, w) }", w=W64)
    node = ir.node("Constant", [], {"value": constant.graph.initializers["w"].const_value})
    node.outputs[0].name, node.outputs[0].shape = "held", ir.Shape(W64.shape)
    constant.graph.insert_before(constant.graph[0], node)
    constant.graph.initializers["w"].replace_all_uses_with(node.outputs[0])
    del constant.graph.initializers["w"]
    stored = run_pass(QuantizeWeights(bits=4, compute="float"), constant)
    assert op_types(stored.model).count("Constant") == 0
    assert error(rows_only(), stored.model) < 0.03


def rows_only() -> ir.Model:
    return model_from_text("m (float[N,64] x) => (float[N,96] y) { y = MatMul (x, w) }", w=W64)


def test_engines_other_than_the_cpu_get_float_products() -> None:
    result = run_pass(QuantizeWeights(), product(), target=Target("openvino", dialect="onnx"))
    assert result.details["int8"] == 0
    assert result.changed == 1


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("name", MODELS)
def test_zeros_of_blocks_survive_storing(name: str, bits: int) -> None:
    model = MODELS[name]()
    result = run_pass(QuantizeWeights(bits=bits, symmetric=False, compute="float"), model)
    onnx.checker.check_model(model_bytes(result.model), full_check=True)
    assert error(model, result.model) < 6 * 4.0**-bits + 5e-4


def test_scaled_rows_survive_storing() -> None:
    model, rows = product(), normal(16, 8, 64) * np.linspace(0.1, 9, 64, dtype=np.float32)
    options = {"bits": 4, "compute": "float", "rounding": "nearest"}
    results = [
        run_pass(QuantizeWeights(**options, scaling=scaling), model, calibration=ArrayDataset({"x": rows}))
        for scaling in (False, True)
    ]
    noises = [
        np.square(run_model(each.model, {"x": rows})["y"] - run_model(model, {"x": rows})["y"]).sum()
        for each in results
    ]
    assert noises[1] < noises[0]
    assert "w_rows" in results[1].model.graph.initializers
    assert folded_ops(results[1].model) == ["MatMul"]


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_inside_branches_are_stored_too(bits: int) -> None:
    text = """m (float[N,64] x, bool c) => (float[N,96] y) {
        y = If (c) <then_branch = t () => (float[N,96] p) { p = MatMul (x, one) },
                    else_branch = e () => (float[N,96] q) { q = MatMul (x, two) }> }"""
    model = model_from_text(text, one=W64, two=-W64)
    for attribute, name in (("then_branch", "one"), ("else_branch", "two")):
        branch = model.graph[0].attributes[attribute].as_graph()
        inner = ir.Value(name=name, const_value=ir.Tensor(W64 if name == "one" else -W64, name=name))
        branch.register_initializer(inner)
        branch[0].replace_input_with(1, inner)
        del model.graph.initializers[name]
    result = run_pass(QuantizeWeights(bits=bits), model)
    assert result.changed == 2
    assert share(model, result.model) < 0.5
    for choice in (True, False):
        sample = {"x": normal(5, 64), "c": np.array(choice)}
        exact, found = (run_model(each, sample, optimize=True)["y"] for each in (model, result.model))
        assert np.square(exact - found).sum() / np.square(exact).sum() < 6 * 4.0**-bits + 5e-4


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("sides", [(16, 16), (32, 32), (31, 37), (1025, 1), (5, 260), (64, 17)])
def test_no_result_is_larger(sides: tuple[int, int], bits: int) -> None:
    model = model_from_text(
        f"m (float[N,{sides[0]}] x) => (float[N,{sides[1]}] y) {{ y = MatMul (x, w) }}", w=normal(*sides)
    )
    ways = [
        Codebook(bits=bits),
        *(QuantizeWeights(bits=bits, symmetric=s, compute=c) for s in (True, False) for c in ("int8", "float")),
    ]
    for way in (
        *ways,
        QuantizeWeights(bits=bits, form="dequantize-linear"),
        QuantizeWeights(bits=bits, form="matmul-nbits"),
    ):
        result = run_pass(way, model)
        assert len(model_bytes(result.model)) <= len(model_bytes(model)), way


@pytest.mark.parametrize("bits", [8, 5, 4, 3, 2])
@pytest.mark.parametrize("width", [37, 41, 100])
@pytest.mark.parametrize("kind", [QuantizeWeights, Codebook])
def test_rows_that_do_not_fill_bytes(kind: type[Pass], width: int, bits: int) -> None:
    text = f"m (int64[N,S] i) => (float[N,S,{width}] y) {{ y = Gather (t, i) }}"
    model = model_from_text(text, t=normal(201, width))
    result = run_pass(kind(bits=bits), model)
    assert result.changed == 1
    assert error(model, result.model) < 6 * 4.0**-bits + 5e-4


def test_tables_alone_and_not_those_that_a_product_reads_too() -> None:
    both = """m (int64[N,S] i) => (float[N,S,96] y) {
        e = Gather (t, i)
        y = MatMul (e, w) }"""
    model = model_from_text(both, t=TABLE, w=W64)
    result = run_pass(QuantizeWeights(bits=6, embeddings="only"), model)
    assert result.details["weights_by_bits"] == {"6": 1}
    assert "w" in result.model.graph.initializers
    assert "t" not in result.model.graph.initializers
    assert run_pass(QuantizeWeights(bits=6, embeddings="only"), tied()).changed == 0
