from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.quantize.embedding import quantize_embeddings
from modelopt_cli.testing import model_from_text, op_types, run_model

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((600, 32)).astype(np.float32)
TEXT = "g (int64[N, S] ids) => (float[N, S, 32] y) { y = Gather(t, ids) }"


@settings(max_examples=10, deadline=None)
@given(rows=st.integers(1, 3), length=st.integers(1, 9), seed=st.integers(0, 99))
def test_rows_are_within_half_a_step(rows: int, length: int, seed: int) -> None:
    model = model_from_text(TEXT, t=TABLE)
    result = model.clone()
    assert len(quantize_embeddings(result).changed) == 1
    ids = np.random.default_rng(seed).integers(-600, 600, (rows, length))
    before, after = run_model(model, {"ids": ids})["y"], run_model(result, {"ids": ids})["y"]
    step = np.abs(before).max(-1, keepdims=True) / 127
    assert (np.abs(after - before) <= step * 0.501).all()


def test_the_file_shrinks_to_a_quarter_and_is_valid() -> None:
    model = model_from_text(TEXT, t=TABLE)
    before = len(model_bytes(model))
    quantize_embeddings(model)
    onnx.checker.check_model(onnx.load_from_string(model_bytes(model)), full_check=True)
    assert op_types(model) == ["Gather", "Cast", "Gather", "Mul"]
    assert len(model_bytes(model)) < 0.32 * before


def test_two_lookups_share_one_table() -> None:
    text = "g (int64[N] a, int64[N] b) => (float[N, 32] y, float[N, 32] z) { y = Gather(t, a)\n z = Gather(t, b) }"
    model = model_from_text(text, t=TABLE)
    assert len(quantize_embeddings(model).changed) == 2
    assert sorted(v.dtype.name for v in model.graph.initializers.values() if v.dtype) == ["FLOAT", "INT8"]


def test_a_table_that_others_read_stays_float() -> None:
    text = """
    g (int64[N] a) => (float[N, 600] y) {
        e = Gather(t, a)
        s = Transpose(t)
        y = MatMul(e, s)
    }
    """
    model = model_from_text(text, t=TABLE)
    before = model_bytes(model)
    edits = quantize_embeddings(model)
    assert not edits.changed and "other operators" in edits.skipped[0].reason
    assert model_bytes(model) == before


def test_small_tables_other_axes_and_other_types_stay() -> None:
    for text, table in (
        (TEXT, TABLE[:64]),
        ("g (int64[N] ids) => (float[600, N] y) { y = Gather<axis=1>(t, ids) }", TABLE),
        (TEXT.replace("float[", "float16["), TABLE.astype(np.float16)),
    ):
        model = model_from_text(text, t=table)
        assert quantize_embeddings(model).changed == []
        assert ir.DataType.INT8 not in {v.dtype for v in model.graph.initializers.values()}
