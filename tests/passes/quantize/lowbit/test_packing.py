"""Packing: what comes out is what went in, in numpy and in a session."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.graph.edit import replace_output
from modelopt_cli.passes.quantize.lowbit.packing import NodeWriter, can_pack, pack, packed_bytes, unpack
from modelopt_cli.testing import model_from_text, run_model


def codes_of(bits: int, rows: int, length: int) -> np.ndarray:
    return np.random.default_rng(bits).integers(0, 2**bits, (rows, length)).astype(np.uint8)


@given(bits=st.integers(2, 8), rows=st.integers(1, 5), bytes_per_row=st.integers(1, 9))
def test_codes_survive_packing(bits: int, rows: int, bytes_per_row: int) -> None:
    codes = codes_of(bits, rows, bytes_per_row * 8)
    planes = pack(codes, bits)
    assert sum(plane.nbytes for plane in planes) == packed_bytes(codes.size, bits) == codes.size * bits // 8
    np.testing.assert_array_equal(unpack(planes, bits), codes)


@pytest.mark.parametrize(("length", "bits", "fits"), [(8, 3, True), (12, 3, False), (12, 4, True), (9, 4, False)])
def test_rows_must_fill_bytes(length: int, bits: int, fits: bool) -> None:
    assert can_pack(length, bits) == fits
    if not fits:
        with pytest.raises(ValueError, match="do not fill whole bytes"):
            pack(codes_of(bits, 2, length), bits)


@settings(deadline=None, max_examples=7)
@given(bits=st.integers(2, 8))
def test_a_session_unpacks_them(bits: int) -> None:
    codes = codes_of(bits, 3, 16)
    model = model_from_text("m (float[1] x) => (int32[3,16] y) { y = Cast <to=6> (x) }")
    cast = model.graph[0]
    writer = NodeWriter(model, cast, "w")
    planes = [writer.weight("codes", plane) for plane in pack(codes, bits)]
    replace_output(cast.outputs[0], writer.cast(writer.unpack(planes, bits), ir.DataType.INT32))
    model.graph.remove(cast, safe=True)
    found = run_model(model, {"x": np.zeros(1, np.float32)})["y"]
    np.testing.assert_array_equal(found, codes)
