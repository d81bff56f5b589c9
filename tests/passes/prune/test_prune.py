"""The pass: shares, budgets, globs, patterns, refusals; and that the fit is worth its while."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from pydantic import ValidationError

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.edit import replace_weight
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.base import PassContext
from modelopt_cli.passes.prune.pack_sparse import PackSparse
from modelopt_cli.passes.prune.prune import Prune
from modelopt_cli.passes.prune.sparse_kernels import quantized_in_vain
from modelopt_cli.passes.quantize.quantize_static import QuantizeStatic
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import ArrayDataset, model_from_text, run_model, run_pass

RNG = np.random.default_rng(9)
NET = """m (float[N,16] x) => (float[N,4] y) {
    h = Gemm (x, first, b)
    r = Relu (h)
    k = MatMul (r, second)
    s = Relu (k)
    y = MatMul (s, third) }"""


def net() -> ir.Model:
    shapes = {"first": (16, 32), "b": (32,), "second": (32, 24), "third": (24, 4)}
    return model_from_text(NET, **{n: RNG.standard_normal(s).astype(np.float32) for n, s in shapes.items()})


def data(count: int = 200) -> ArrayDataset:
    mixed = RNG.standard_normal((count, 6)) @ RNG.standard_normal((6, 16)) + 0.1 * RNG.standard_normal((count, 16))
    return ArrayDataset({"x": mixed.astype(np.float32)})


MODEL, DATA = net(), data()


def weight(model: ir.Model, name: str) -> np.ndarray:
    return model.graph.initializers[name].const_value.numpy()


def loss(model: ir.Model, original: ir.Model = MODEL, feeds: np.ndarray | None = None) -> float:
    """Squared error at the output, as a share of its variance."""
    x = {"x": next(iter(DATA))["x"] if feeds is None else feeds}
    wanted, got = run_model(original, x)["y"], run_model(model, x)["y"]
    return float(np.mean((got - wanted) ** 2) / wanted.var())


HELD_OUT = np.concatenate([sample["x"] for sample in DATA.take(50)])


@pytest.mark.parametrize("distribution", ["sensitivity", "uniform", "global", "erk", "lamp"])
@pytest.mark.parametrize("sparsity", [0.3, 0.75])
def test_the_share_is_met(distribution: str, sparsity: float) -> None:
    result = run_pass(Prune(sparsity=sparsity, distribution=distribution), MODEL, calibration=DATA)
    zeros = sum(int((weight(result.model, name) == 0).sum()) for name in ("first", "second", "third"))
    assert zeros == pytest.approx(sparsity * 1376, abs=1)
    assert result.details["zeros"] == zeros
    assert result.changed == sum(
        not np.array_equal(weight(result.model, name), weight(MODEL, name)) for name in ("first", "second", "third")
    )


@pytest.mark.filterwarnings("error")
def test_one_sample_is_fitted_to_with_caution() -> None:
    """It has no variance and no second half; a warning of numpy would tell of divisions by no rows."""
    result = run_pass(Prune(sparsity=0.5), MODEL, calibration=data(1)).model
    pruned = [weight(result, name) for name in ("first", "second", "third")]
    assert all(np.isfinite(array).all() for array in pruned)
    assert sum(int((array == 0).sum()) for array in pruned) == 688


def test_each_step_of_the_method_helps() -> None:
    methods = {
        "random": Prune(criterion="random", refit=False, distribution="uniform"),
        "magnitude": Prune(criterion="magnitude", refit=False, distribution="uniform"),
        "refit": Prune(criterion="magnitude", distribution="uniform"),
        "second order": Prune(criterion="second-order", distribution="uniform"),
    }
    losses = {n: loss(run_pass(p, MODEL, calibration=DATA).model, feeds=HELD_OUT) for n, p in methods.items()}
    assert losses["second order"] < losses["refit"] < losses["magnitude"] < losses["random"]
    assert losses["second order"] < losses["magnitude"] / 3


def test_activation_aware_spares_weights_of_loud_inputs() -> None:
    model = model_from_text(
        "m (float[N,2] x) => (float[N,1] y) { y = MatMul (x, w) }", w=np.array([[1.0], [2.0]], np.float32)
    )
    loud = ArrayDataset({"x": (RNG.standard_normal((64, 2)) * [10, 1]).astype(np.float32)})
    by_input = run_pass(Prune(criterion="activation", refit=False), model, calibration=loud).model
    by_weight = run_pass(Prune(criterion="magnitude", refit=False), model, calibration=loud).model
    assert weight(by_input, "w").ravel().tolist() == [1, 0]
    assert weight(by_weight, "w").ravel().tolist() == [0, 2]


def test_without_data_the_smallest_go_and_nothing_is_fitted() -> None:
    result = run_pass(Prune(sparsity=0.5), MODEL)
    kept = weight(result.model, "second") != 0
    assert np.array_equal(weight(result.model, "second")[kept], weight(MODEL, "second")[kept])
    assert np.abs(weight(MODEL, "second")[~kept]).max() <= np.abs(weight(MODEL, "second")[kept]).min()
    assert kept.mean() == 0.5


@pytest.mark.parametrize("option", [{"criterion": "second-order"}, {"criterion": "activation"}])
def test_without_data_what_needs_data_refuses(option: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="needs calibration data"):
        run_pass(Prune(**option), MODEL)
    with pytest.raises(UsageError, match="needs calibration data"):
        run_pass(Prune(distribution="sensitivity"), MODEL)


@pytest.mark.parametrize("with_data", [True, False])
def test_two_of_four_run_along_the_inputs(with_data: bool) -> None:
    result = run_pass(Prune(granularity="2:4"), MODEL, calibration=DATA if with_data else None)
    for name in ("first", "second", "third"):
        assert ((weight(result.model, name).T.reshape(-1, 4) != 0).sum(axis=1) == 2).all()


def test_a_width_that_does_not_divide_the_inputs_is_refused_by_layer() -> None:
    result = run_pass(Prune(granularity="block:16"), MODEL, calibration=DATA)
    assert [skip.reason for skip in result.skipped] == ["24 inputs are no multiple of 16"]
    assert (weight(result.model, "third") != 0).all()


@pytest.mark.parametrize("with_data", [True, False])
def test_a_layer_may_have_a_share_of_its_own(with_data: bool) -> None:
    applied = Prune(layers={"third": 0.25, "first": 0.0})
    model = run_pass(applied, MODEL, calibration=DATA if with_data else None).model
    shares = [float((weight(model, name) == 0).mean()) for name in ("first", "second", "third")]
    assert shares == [0.0, 0.5, 0.25]
    with pytest.raises(UsageError, match="layers: 'fourth' matches no"):
        run_pass(Prune(layers={"fourth": 0.1}), MODEL)


def test_a_number_of_parameters_instead_of_a_share() -> None:
    model = run_pass(Prune(parameters=300), MODEL, calibration=DATA).model
    assert sum(int(np.count_nonzero(weight(model, name))) for name in ("first", "second", "third")) == 300
    with pytest.raises(UsageError, match="parameters: 1376 is not below"):
        run_pass(Prune(parameters=1376), MODEL)


def test_excluded_layers_stay_as_they_are() -> None:
    model = run_pass(Prune(exclude=("second",)), MODEL, calibration=DATA).model
    assert np.array_equal(weight(model, "second"), weight(MODEL, "second"))
    with pytest.raises(UsageError, match="exclude: 'head' matches no"):
        run_pass(Prune(exclude=("head",)), MODEL)


def test_an_unknown_pattern_is_refused() -> None:
    with pytest.raises(ValidationError, match="is not element, block:SIZE or N:M"):
        Prune(granularity="3x3")


def test_zeros_stay_exactly_zero_when_the_model_is_quantized_afterwards() -> None:
    text = """m (float[N,3,8,8] x) => (float[N,16,8,8] y) {
        a = Conv <pads=[1,1,1,1]> (x, w1, b1)
        b = Relu (a)
        c = Conv <pads=[1,1,1,1], group=16> (b, w2, b2)
        d = Relu (c)
        y = Conv (d, w3, b3) }"""
    shapes = {"w1": (16, 3, 3, 3), "w2": (16, 1, 3, 3), "w3": (16, 16, 1, 1), "b1": (16,), "b2": (16,), "b3": (16,)}
    model = model_from_text(text, **{n: RNG.standard_normal(s).astype(np.float32) / 4 for n, s in shapes.items()})
    images = ArrayDataset({"x": RNG.standard_normal((16, 3, 8, 8)).astype(np.float32)})
    pruned = run_pass(Prune(sparsity=0.6, distribution="uniform"), model, calibration=images).model
    plan = {"ops": ["Conv"], "min_macs": 0, "float_nodes": [], "only_nodes": [], "fed_by_integers": False}
    quantized = run_pass(QuantizeStatic(plan=plan), pruned, calibration=images).model
    floats = _weights(pruned)
    integers = {n.rpartition(".")[0]: array for n, array in _weights(quantized).items() if array.dtype == np.int8}
    assert set(integers) == {"w1", "w2", "w3"}
    for name, array in integers.items():
        assert (floats[name] == 0).mean() == pytest.approx(0.6, abs=0.01)
        assert (array[floats[name] == 0] == 0).all()


def _weights(model: ir.Model) -> dict[str, np.ndarray]:
    return {n: v.const_value.numpy() for n, v in model.graph.initializers.items() if len(v.const_value.shape) > 1}


def total_zeros(model: ir.Model) -> int:
    return sum(int((weight(model, name) == 0).sum()) for name in ("first", "second", "third"))


def test_a_file_size_instead_of_a_share() -> None:
    shapes = {"w": (256, 512), "v": (512, 64)}
    text = "m (float[N,256] x) => (float[N,64] y) { h = MatMul (x, w)  y = MatMul (h, v) }"
    model = model_from_text(text, **{n: RNG.standard_normal(s).astype(np.float32) for n, s in shapes.items()})
    for packed in ("keep", "int8"):
        wanted = {"keep": 300_000, "int8": 100_000}[packed]
        pruned = run_pass(Prune(bytes=wanted, packed=packed), model).model
        size = len(model_bytes(run_pass(PackSparse(values=packed), pruned).model))
        assert 0.95 * wanted < size <= wanted
    with pytest.raises(UsageError, match=r"bytes: 10.0 kB is less than zeros can save"):
        run_pass(Prune(bytes=10_000), model)
    with pytest.raises(UsageError, match="needs no zeros"):
        run_pass(Prune(bytes=10_000_000), model)
    with pytest.raises(ValidationError, match="two budgets"):
        Prune(bytes=10_000, parameters=100)


def test_as_many_zeros_as_agreement_allows() -> None:
    loose = run_pass(Prune(min_sqnr=10.0), MODEL, calibration=DATA)
    tight = run_pass(Prune(min_sqnr=25.0), MODEL, calibration=DATA)
    assert 0 < total_zeros(tight.model) < total_zeros(loose.model)
    assert loss(tight.model) < 10**-2 < loss(loose.model)
    assert tight.details["share_that_holds"] < 0.95 == tight.details["share_tried"]
    capped = run_pass(Prune(min_sqnr=10.0, sparsity=0.2), MODEL, calibration=DATA)
    assert total_zeros(capped.model) == pytest.approx(0.2 * 1376, abs=1)


def test_as_many_zeros_as_accuracy_allows() -> None:
    seen: list[float] = []

    def drop(candidate: ir.Model) -> float:
        seen.append(total_zeros(candidate) / 1376)
        return 0.0 if seen[-1] <= 0.4 else 0.5

    ctx = PassContext(Target(), calibration=DATA, accuracy_drop=drop)
    found = Prune(max_accuracy_drop=0.01).apply(MODEL.clone(), ctx)
    assert 0.37 < total_zeros(found.model) / 1376 <= 0.4
    assert len(seen) == 7
    with pytest.raises(UsageError, match="needs labelled evaluation data"):
        run_pass(Prune(max_accuracy_drop=0.01), MODEL, calibration=DATA)


def test_where_no_share_holds_nothing_is_touched() -> None:
    ctx = PassContext(Target(), calibration=DATA, accuracy_drop=lambda _: 1.0)
    found = Prune(max_accuracy_drop=0.01).apply(MODEL.clone(), ctx)
    assert found.changed == 0
    assert [skip.reason for skip in found.skipped] == ["no share of zeros keeps the limits"]
    assert np.array_equal(weight(found.model, "first"), weight(MODEL, "first"))


def test_one_threshold_for_all_layers() -> None:
    loud = MODEL.clone()
    replace_weight(loud.graph.initializers["second"], weight(MODEL, "second") * 100)
    pruned = run_pass(Prune(distribution="global", sparsity=0.3), loud).model
    assert (weight(pruned, "second") == 0).mean() < 0.02
    assert total_zeros(pruned) == pytest.approx(0.3 * 1376, abs=1)


def test_blocks_are_compared_by_either_norm() -> None:
    spread, peaked = [3.0, 3.0], [5.0, 0.1]  # the first has the larger sum, the second the larger square
    matrix = np.array([spread + peaked], np.float32).T
    model = model_from_text("m (float[N,4] x) => (float[N,1] y) { y = MatMul (x, w) }", w=matrix)
    by_sum = weight(run_pass(Prune(granularity="block:2", criterion="l1"), model).model, "w").ravel()
    by_square = weight(run_pass(Prune(granularity="block:2", criterion="magnitude"), model).model, "w").ravel()
    assert by_sum.tolist() == [3.0, 3.0, 0.0, 0.0]
    assert by_square.tolist() == pytest.approx([0.0, 0.0, 5.0, 0.1])


def test_sparse_kernels_are_foretold() -> None:
    result = run_pass(Prune(granularity="2:4"), MODEL)
    (notice, _) = result.details["notices"]
    assert "TensorRT may run 3 of 3 layers with sparse kernels, 0 of them are large enough" in notice["message"]
    assert len(run_pass(Prune(), MODEL).details["notices"]) == 1


def test_sparse_weights_between_qdq_are_found_to_be_in_vain() -> None:
    text = """m (float[N,8] x) => (float[N,8] y) {
        a = DequantizeLinear (w, s, z)  h = MatMul (x, a)  b = DequantizeLinear (v, s, z)  y = MatMul (h, b) }"""
    dense = np.arange(1, 65, dtype=np.int8).reshape(8, 8)
    sparse = dense * np.tile([[1], [0], [0], [1]], (2, 8)).astype(np.int8)
    scale = {"s": np.float32(0.1), "z": np.int8(0)}
    model = model_from_text(text, w=dense, v=sparse, **scale)
    assert [node.op_type for node in model.graph] == ["DequantizeLinear", "MatMul"] * 2
    model.graph.node(3).name = "second_product"
    assert quantized_in_vain(model) == ["second_product"]
