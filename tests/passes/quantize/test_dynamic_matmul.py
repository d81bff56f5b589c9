from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.quantize.dynamic_matmul import DynamicOptions, quantize_matmuls_dynamic
from modelopt_cli.targets.schemes import scheme_for
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import THIS_MACHINE, model_from_text, op_types, run_model

RNG = np.random.default_rng(0)
MOST = 64 if scheme_for(THIS_MACHINE).reduce_range else 127  # of a weight
ROUNDED = 0.01 + 0.6 / MOST  # of a product's outputs, against the exact ones
LINEAR = """
g (float[N, S, 32] x) => (float[N, S, 24] y) {
    h = MatMul(x, w)
    y = Add(h, b)
}
"""


def weights(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [RNG.standard_normal(shape).astype(np.float32) for shape in shapes]


def quantize(model: ir.Model, dialect: str = "onnxruntime", isa: str = THIS_MACHINE.isa, **options: bool):
    nodes = [node for node in model.graph.all_nodes() if node.op_type in ("MatMul", "Gemm")]
    target = Target(dialect=dialect, isa=isa)
    chosen = DynamicOptions(reduce_range=scheme_for(target).reduce_range, **options) if options else None
    edits = quantize_matmuls_dynamic(model, nodes, target, options=chosen)
    onnx.checker.check_model(onnx.load_from_string(model_bytes(model)), full_check=True)
    return edits


def relative_error(model: ir.Model, result: ir.Model, feeds: dict[str, np.ndarray]) -> float:
    before, after = run_model(model, feeds), run_model(result, feeds)
    assert list(before) == list(after)
    noise = sum(float(((before[k] - after[k]) ** 2).sum()) for k in before)
    return (noise / sum(float((before[k] ** 2).sum()) for k in before)) ** 0.5


@pytest.mark.parametrize("dialect", ["onnx", "onnxruntime"])
def test_matmul_and_its_bias_become_integer(dialect: str) -> None:
    w, b = weights((32, 24), (24,))
    model = model_from_text(LINEAR, w=w, b=b)
    result = model.clone()
    edits = quantize(result, dialect)
    assert len(edits.changed) == 1 and not edits.skipped
    expected = {
        "onnx": ["DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul", "Add"],
        "onnxruntime": ["DynamicQuantizeLinear", "MatMulIntegerToFloat"],
    }
    assert op_types(result) == expected[dialect]
    assert all(
        v.dtype != ir.DataType.FLOAT or v.shape is None or len(v.shape) < 2 for v in result.graph.initializers.values()
    )
    feeds = {"x": RNG.standard_normal((2, 5, 32)).astype(np.float32)}
    assert relative_error(model, result, feeds) < ROUNDED


def test_dialects_compute_the_same() -> None:
    w, b = weights((32, 24), (24,))
    model = model_from_text(LINEAR, w=w, b=b)
    one, other = model.clone(), model.clone()
    quantize(one, "onnx")
    quantize(other, "onnxruntime")
    feeds = {"x": RNG.standard_normal((1, 7, 32)).astype(np.float32)}
    np.testing.assert_allclose(run_model(one, feeds)["y"], run_model(other, feeds)["y"], rtol=1e-5, atol=1e-5)


def test_standard_form_becomes_one_integer_kernel_in_the_runtime(tmp_path) -> None:
    from modelopt_cli.profiling.session import open_session

    w, b = weights((32, 24), (24,))
    model = model_from_text(LINEAR, w=w, b=b)
    quantize(model, "onnx")
    open_session(model, optimized_path=tmp_path / "o.onnx")
    assert [n.op_type for n in onnx.load(tmp_path / "o.onnx").graph.node] == ["DynamicQuantizeMatMul"]


def test_bias_that_is_not_a_vector_stays_an_add() -> None:
    w, b = weights((32, 24), (5, 24))
    model = model_from_text(LINEAR.replace("S", "5"), w=w, b=b)
    quantize(model)
    assert op_types(model) == ["DynamicQuantizeLinear", "MatMulIntegerToFloat", "Add"]


def test_bias_is_not_folded_when_the_product_is_read_twice() -> None:
    w, b = weights((32, 24), (24,))
    text = "g (float[N, 32] x) => (float[N, 24] y, float[N, 24] h) { h = MatMul(x, w)\n y = Add(b, h) }"
    model = model_from_text(text, w=w, b=b)
    result = model.clone()
    quantize(result)
    assert op_types(result)[-1] == "Add"
    assert relative_error(model, result, {"x": RNG.standard_normal((3, 32)).astype(np.float32)}) < ROUNDED


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_with_factors_and_transposed_weight(transposed: int) -> None:
    w, b = weights((24, 32) if transposed else (32, 24), (24,))
    text = f"g (float[N, 32] x) => (float[N, 24] y) {{ y = Gemm<alpha=0.5, beta=2.0, transB={transposed}>(x, w, b) }}"
    model = model_from_text(text, w=w, b=b)
    result = model.clone()
    quantize(result)
    assert op_types(result) == ["DynamicQuantizeLinear", "MatMulIntegerToFloat"]
    assert relative_error(model, result, {"x": RNG.standard_normal((3, 32)).astype(np.float32)}) < ROUNDED


QKV = """
g (float[N, 32] x) => (float[N, 32] q, float[N, 16] k, float[N, 24] v) {
    q = MatMul(x, wq)
    h = MatMul(x, wk)
    k = Add(h, bk)
    v = MatMul(x, wv)
}
"""


def test_products_of_one_input_merge_when_asked() -> None:
    wq, wk, wv, bk = weights((32, 32), (32, 16), (32, 24), (16,))
    model = model_from_text(QKV, wq=wq, wk=wk, wv=wv, bk=bk)
    result = model.clone()
    edits = quantize(result, merge=True)
    assert len(edits.changed) == 3
    assert op_types(result) == ["DynamicQuantizeLinear", "MatMulIntegerToFloat", "Split"]
    assert relative_error(model, result, {"x": RNG.standard_normal((3, 32)).astype(np.float32)}) < ROUNDED


def test_unmerged_products_read_one_quantized_input() -> None:
    wq, wk, wv, bk = weights((32, 32), (32, 16), (32, 24), (16,))
    model = model_from_text(QKV, wq=wq, wk=wk, wv=wv, bk=bk)
    quantize(model)
    assert op_types(model) == ["DynamicQuantizeLinear", *["MatMulIntegerToFloat"] * 3]


def test_a_tied_weight_is_quantized_once_and_its_products_are_not_merged() -> None:
    (w,) = weights((32, 32))
    text = (
        "g (float[N, 32] x) => (float[N, 32] y, float[N, 32] z) { y = MatMul(x, w)\n t = Relu(x)\n z = MatMul(t, w) }"
    )
    model = model_from_text(text, w=w)
    result = model.clone()
    quantize(result)
    assert [v.dtype for v in result.graph.initializers.values()].count(ir.DataType.INT8) == 1
    assert relative_error(model, result, {"x": RNG.standard_normal((3, 32)).astype(np.float32)}) < ROUNDED


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = MatMul(x, x2)", "both operands are computed"),
        ("y = MatMul(w, x)", "on the left"),
        ("y = MatMul(x, thin)", "below 16"),
        ("y = MatMul(x, stack)", "3 dimensions"),
        ("y = Gemm<transA=1>(x, w)", "transposed"),
        ("y = Gemm(x, w, x2)", "bias is computed"),
    ],
)
def test_refusals_say_why(body: str, reason: str) -> None:
    arrays = dict(zip(("w", "thin", "stack"), weights((32, 32), (32, 8), (2, 32, 32)), strict=True))
    used = {name: array for name, array in arrays.items() if name in body}
    kind = "float[2, 32, 32]" if "stack" in body else "float[32, M]"
    model = model_from_text(f"g (float[32, 32] x, float[32, 32] x2) => ({kind} y) {{ {body} }}", **used)
    before = model_bytes(model)
    edits = quantize_matmuls_dynamic(model, list(model.graph), Target(dialect="onnx"))
    assert not edits.changed and reason in edits.skipped[0].reason
    assert model_bytes(model) == before


def test_float16_is_refused() -> None:
    text = "g (float16[N, 32] x) => (float16[N, 32] y) { y = MatMul(x, w) }"
    model = model_from_text(text, w=weights((32, 32))[0].astype(np.float16))
    assert "float16" in quantize(model).skipped[0].reason


def test_products_inside_of_if_branches() -> None:
    text = """
    g (bool c, float[N, 32] x) => (float[N, 32] y) {
        y = If(c) <
            then_branch = t () => (float[N, 32] a) { a = MatMul(x, w) },
            else_branch = e () => (float[N, 32] b) { b = MatMul(x, v) }
        >
    }
    """
    w, v = weights((32, 32), (32, 32))
    model = model_from_text(text, w=w, v=v)
    result = model.clone()
    assert len(quantize(result).changed) == 2
    for flag in (True, False):
        feeds = {"c": np.array(flag), "x": RNG.standard_normal((3, 32)).astype(np.float32)}
        assert relative_error(model, result, feeds) < ROUNDED


def test_cpus_without_vnni_get_seven_bit_weights() -> None:
    w, b = weights((32, 24), (24,))
    model = model_from_text(LINEAR, w=w, b=b)
    quantize(model, isa="avx2")
    packed = next(v for v in model.graph.initializers.values() if v.dtype == ir.DataType.INT8)
    assert packed.const_value is not None and np.abs(packed.const_value.numpy().astype(int)).max() == 64


@settings(max_examples=15, deadline=None)
@given(
    k=st.integers(16, 70),
    n=st.integers(16, 70),
    rows=st.integers(1, 9),
    spread=st.floats(1e-3, 1e3),
    seed=st.integers(0, 99),
)
def test_error_is_bounded_by_the_grids(k: int, n: int, rows: int, spread: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((k, n)).astype(np.float32)
    x = (spread * rng.standard_normal((rows, k))).astype(np.float32)
    model = model_from_text(f"g (float[N, {k}] x) => (float[N, {n}] y) {{ y = MatMul(x, w) }}", w=w)
    result = model.clone()
    quantize(result)
    step_x = (max(x.max(), 0) - min(x.min(), 0)) / 255
    step_w = np.abs(w).max(axis=0) / MOST
    # Half a step on each side (one on the input: its zero point is rounded too), against the other's magnitude.
    bound = step_x * np.abs(w).sum(axis=0) + (np.abs(x).sum(axis=1, keepdims=True) + k * step_x) * step_w / 2
    difference = np.abs(run_model(model, {"x": x})["y"] - run_model(result, {"x": x})["y"])
    assert (difference <= bound * 1.01 + 1e-6).all()


@pytest.mark.parametrize("merge", [True, False])
def test_no_float_weight_is_left_behind(merge: bool) -> None:
    wq, wk, wv, bk = weights((32, 32), (32, 16), (32, 24), (16,))
    model = model_from_text(QKV, wq=wq, wk=wk, wv=wv, bk=bk)
    quantize(model, merge=merge)
    assert {"wq", "wk", "wv", "bk"}.isdisjoint(model.graph.initializers)
