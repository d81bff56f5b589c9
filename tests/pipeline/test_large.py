"""What is done to a large model without its weights in memory gives the bytes that a small one's way gives."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.data.files import open_dataset
from modelopt_cli.errors import PassError
from modelopt_cli.graph import external, mapped
from modelopt_cli.graph.io import load_model, save_model, weight_bytes
from modelopt_cli.graph.mapped import MappedTensor
from modelopt_cli.graph.serialize import serialize
from modelopt_cli.pipeline import result_file
from modelopt_cli.pipeline.check import check_structure
from modelopt_cli.pipeline.options import CompressOptions
from modelopt_cli.pipeline.result_file import ResultFile
from modelopt_cli.pipeline.runner import CompressResult, compress
from modelopt_cli.pipeline.write import write_result
from modelopt_cli.profiling.session import loadable, open_session, run
from modelopt_cli.recipe.load import load_recipe
from modelopt_cli.testing import model_from_text

NET = """<ir_version: 10, opset_import: ["": 21]>
g (float[N,160] x) => (float[N,8] y) {
  h = MatMul(x, w) i = Add(h, b) j = Relu(i) k = MatMul(j, v) l = Relu(k) y = MatMul(l, u)
}"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    weights = {"w": (160, 160), "b": (160,), "v": (160, 160), "u": (160, 8)}
    model = model_from_text(NET, **{k: rng.standard_normal(s).astype(np.float32) / 10 for k, s in weights.items()})
    save_model(model, tmp_path / "net.onnx")
    np.savez(tmp_path / "calib.npz", x=rng.standard_normal((32, 160)).astype(np.float32))
    return tmp_path / "net.onnx"


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "MAPPED_ABOVE_BYTES", 0)


def made(net: Path, recipe: str) -> CompressResult:
    unmeasured = ["steps.quantize.budget=0"] if recipe.endswith("int8") else []
    options = CompressOptions(calibration=open_dataset(net.with_name("calib.npz")), profile=False)
    return compress(load_model(net), load_recipe(recipe, overrides=unmeasured), options)


@pytest.mark.parametrize("recipe", ["fuse", "prune-50", "int8", "int8-dynamic", "prune-int8"])
def test_the_result_is_the_same_to_the_byte(recipe: str, net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = made(net, recipe)
    monkeypatch.setattr(mapped, "MAPPED_ABOVE_BYTES", 0)
    other = made(net, recipe)
    assert isinstance(load_model(net).model.graph.initializers["w"].const_value, MappedTensor)
    assert other.content == usual.content
    assert other.report.hashes == usual.report.hashes
    out = net.with_name("out.onnx")
    write_result(other, out)
    assert out.read_bytes() == usual.content


@pytest.mark.usefixtures("large")
def test_the_result_waits_in_a_file_that_goes_with_it(net: Path) -> None:
    content = serialize(load_model(net).model)
    file = ResultFile.of(content)
    assert isinstance(file.source, Path)
    assert file.source.stat().st_size == file.size == len(file.read())
    stream = io.BytesIO()
    file.copy_to(stream)
    assert stream.getvalue() == file.read() == content.join()
    path = file.source
    del file
    assert not path.exists()


@pytest.mark.usefixtures("large")
def test_sessions_open_a_file_that_is_gone_afterwards(net: Path) -> None:
    model = load_model(net).model
    feeds = {"x": np.ones((2, 160), np.float32)}
    expected = run(open_session(net), feeds)
    with loadable(model) as source:
        assert isinstance(source, Path) and source.exists()
        assert source.stat().st_size < weight_bytes(model)
    assert not source.exists()
    assert np.array_equal(run(open_session(model), feeds)[0], expected[0])


def test_without_room_for_files_everything_stays_in_memory(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = made(net, "fuse")
    monkeypatch.setattr(mapped, "MAPPED_ABOVE_BYTES", 0)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    broken = SimpleNamespace(TemporaryFile=full, TemporaryDirectory=full)
    for module in (mapped, external, result_file):
        monkeypatch.setattr(module, "tempfile", broken)
    other = made(net, "fuse")
    assert other.content == usual.content
    assert other.file is not None and isinstance(other.file.source, bytes)


@pytest.mark.usefixtures("large")
def test_the_structure_is_checked_without_the_weights(net: Path) -> None:
    model = load_model(net).model
    check_structure(model, "any")
    node = next(iter(model.graph))
    node.attributes["nonsense"] = ir.AttrInt64("nonsense", 1)
    with pytest.raises(PassError, match=r"any: wrote an invalid graph.*nonsense"):
        check_structure(model, "any")
