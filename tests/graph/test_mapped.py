"""Weights of large models lie in a mapped file, and nobody who reads them sees a difference."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modelopt_cli.graph import mapped
from modelopt_cli.graph.io import load_model, model_bytes, parse_model
from modelopt_cli.graph.mapped import MappedTensor, map_weights, release_mapped
from modelopt_cli.testing import model_from_text

SIDE = 256  # 256 KB of float32
TEXT = f"""<ir_version: 10, opset_import: ["": 21]>
g (float[1,{SIDE}] x) => (float[1,{SIDE}] y) {{ h = MatMul(x, w) i = MatMul(h, v) j = Add(i, b) y = Mul(j, s) }}"""


@pytest.fixture(autouse=True)
def few_bytes_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "MAPPED_ABOVE_BYTES", 300_000)


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    square = rng.standard_normal((SIDE, SIDE)).astype(np.float32)
    return {"w": square, "v": square[::-1].copy(), "b": np.ones(SIDE, np.float32), "s": np.full((), 2, np.float32)}


def kinds(model: ir.Model) -> dict[str, bool]:
    return {name: isinstance(v.const_value, MappedTensor) for name, v in model.graph.initializers.items()}


def assert_whole(model: ir.Model) -> None:
    for name, array in arrays().items():
        tensor = model.graph.initializers[name].const_value
        assert tensor is not None and tensor.name == name
        assert np.array_equal(tensor.numpy(), array)


def test_large_tensors_are_mapped_and_small_ones_are_not() -> None:
    model = model_from_text(TEXT, **arrays())
    before = model_bytes(model)
    map_weights(model)
    assert kinds(model) == {"w": True, "v": True, "b": False, "s": False}
    assert_whole(model)
    release_mapped()
    assert_whole(model)
    assert model_bytes(model) == before


def test_a_small_model_stays_as_it_is() -> None:
    model = model_from_text(TEXT, **arrays())
    mapped.MAPPED_ABOVE_BYTES = 1 << 20
    map_weights(model)
    assert not any(kinds(model).values())


def test_a_tensor_that_two_values_share_is_written_once() -> None:
    model = model_from_text(TEXT, **arrays())
    model.graph.initializers["v"].const_value = model.graph.initializers["w"].const_value
    mapped.MAPPED_ABOVE_BYTES = 1000
    map_weights(model)
    first, second = (model.graph.initializers[name].const_value for name in ("w", "v"))
    assert first is second and isinstance(first, MappedTensor)


def test_weights_of_types_that_numpy_lacks_stay_in_memory() -> None:
    model = model_from_text(TEXT, **arrays())
    half = ir.Tensor(np.zeros((SIDE, SIDE), ir.DataType.BFLOAT16.numpy()), name="w")
    model.graph.initializers["w"].const_value = half
    mapped.MAPPED_ABOVE_BYTES = 1000
    map_weights(model)
    assert model.graph.initializers["w"].const_value is half
    assert kinds(model)["v"]


@pytest.mark.parametrize("piped", [False, True])
def test_a_large_model_is_read_into_a_mapped_file(piped: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    content = model_bytes(model_from_text(TEXT, **arrays()))
    path.write_bytes(content)
    source = parse_model(content) if piped else load_model(path)
    assert kinds(source.model) == {"w": True, "v": True, "b": False, "s": False}
    assert_whole(source.model)
    assert not source.uses_external_data
    assert model_bytes(source.model) == content


def test_a_tensor_of_too_few_bytes_does_not_get_those_of_the_next() -> None:
    proto = onnx.load_from_string(model_bytes(model_from_text(TEXT, **arrays())))
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]
    mapped.MAPPED_ABOVE_BYTES = 1000
    lean, mapping = mapped.take_weights(proto)
    assert mapping is not None
    assert [tensor.HasField("raw_data") for tensor in lean.graph.initializer] == [True, False, True, True]


def test_without_a_folder_for_it_weights_stay_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "net.onnx"
    path.write_bytes(model_bytes(model_from_text(TEXT, **arrays())))
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    model = load_model(path).model
    map_weights(model)
    assert not any(kinds(model).values())
    assert_whole(model)
