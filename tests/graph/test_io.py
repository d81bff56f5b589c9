from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modelopt_cli.errors import ExitCode, ModelError, OutputError, UsageError
from modelopt_cli.graph import io
from modelopt_cli.testing import model_from_text

TEXT = "m (float[N, 64] x) => (float[N, 64] y) { y = MatMul (x, w) }"


def model() -> ir.Model:
    return model_from_text(TEXT, w=np.arange(64 * 64, dtype=np.float32).reshape(64, 64))


def with_external_data(folder: Path, location: str = "weights.bin") -> Path:
    """The model with its weight in a file beside it, under a name of the caller's."""
    path = folder / "model.onnx"
    proto = ir.to_proto(model())
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    if location != "weights.bin":
        found = onnx.load(path, load_external_data=False)
        (entry,) = [e for e in found.graph.initializer[0].external_data if e.key == "location"]
        entry.value = location
        path.write_bytes(found.SerializeToString())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as refused:
        io.load_model(path)
    assert refused.value.exit_code == ExitCode.INPUT
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(str(path))
    return str(refused.value)


def test_reads_what_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    written = io.save_model(model(), path)
    found = io.load_model(path)
    assert written == found.file_bytes == path.stat().st_size
    assert io.model_bytes(found.model) == path.read_bytes()
    assert not found.uses_external_data


def test_a_pipe_and_a_file_are_the_same_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    io.save_model(model(), path)
    piped = io.parse_model(path.read_bytes())
    assert piped.sha256 == io.load_model(path).sha256
    assert (piped.path, piped.label) == (None, "<stdin>")


def test_external_data_counts_and_stays_on_disk(tmp_path: Path) -> None:
    path = with_external_data(tmp_path)
    found = io.load_model(path)
    assert found.uses_external_data
    assert found.file_bytes == path.stat().st_size + 64 * 64 * 4
    assert isinstance(found.model.graph.initializers["w"].const_value, ir.ExternalTensor)
    inlined = onnx.load_from_string(io.model_bytes(found.model))
    assert not inlined.graph.initializer[0].external_data
    assert isinstance(found.model.graph.initializers["w"].const_value, ir.ExternalTensor)  # ours is as it was


def test_the_digest_covers_the_external_data(tmp_path: Path) -> None:
    path = with_external_data(tmp_path)
    before = io.load_model(path).sha256
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[0] ^= 1
    (tmp_path / "weights.bin").write_bytes(weights)
    assert io.load_model(path).sha256 != before


def test_large_weights_go_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io, "EXTERNAL_DATA_ABOVE_BYTES", 1000)
    path = tmp_path / "m.onnx"
    written = io.save_model(model(), path)
    first, data = sorted(file.name for file in tmp_path.iterdir())
    assert first == "m.onnx" and re.fullmatch(r"m\.onnx\.[0-9a-f]{12}\.data", data)
    assert written == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert io.model_bytes(io.load_model(path).model) == io.model_bytes(model())


def test_the_weights_of_the_old_result_leave_with_it_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io, "EXTERNAL_DATA_ABOVE_BYTES", 1000)
    path, other = tmp_path / "m.onnx", model()
    io.save_model(other, path)
    (old,) = tmp_path.glob("m.onnx.*.data")
    (tmp_path / "m.onnx.0123456789ab.data").write_text("somebody else's")
    weight = other.graph.initializers["w"]
    assert weight.const_value is not None
    weight.const_value = ir.Tensor(weight.const_value.numpy() + 1, name="w")
    io.save_model(other, path)
    (new,) = set(tmp_path.glob("m.onnx.*.data")) - {tmp_path / "m.onnx.0123456789ab.data"}
    assert new != old and not old.exists()
    assert (tmp_path / "m.onnx.0123456789ab.data").exists()
    assert io.model_bytes(io.load_model(path).model) == io.model_bytes(other)
    io.save_model(other, path)  # the same once more: its own weights stay
    assert new.exists()


def test_refuses_what_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert "no such file" in refusal(path)
    path.write_bytes(b"")
    assert "is empty" in refusal(path)
    path.write_bytes(b"\xff\xfe not a protobuf")
    assert "not an ONNX model" in refusal(path)
    path.write_bytes(io.model_bytes(model())[:-1000])
    assert "truncated" in refusal(path)
    assert "is a directory" in refusal(tmp_path)


def test_refuses_a_model_without_a_graph(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx.ModelProto(ir_version=8, producer_name="nobody").SerializeToString())
    assert "no graph or declares no opset" in refusal(path)


def test_refuses_an_unknown_opset_and_an_undeclared_domain(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    newer = ir.to_proto(model())
    newer.opset_import[0].version = 999
    path.write_bytes(newer.SerializeToString())
    assert "opset 999 is newer" in refusal(path)
    foreign = ir.to_proto(model())
    foreign.graph.node[0].domain = "acme"
    path.write_bytes(foreign.SerializeToString())
    assert "'acme', which the model does not declare" in refusal(path)


def test_refuses_what_fails_the_checker(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    broken = ir.to_proto(model())
    broken.graph.node[0].input[1] = "nowhere"
    path.write_bytes(broken.SerializeToString())
    assert "nowhere" in refusal(path)


@pytest.mark.parametrize("kind", ["input", "output"])
def test_names_what_declares_no_shape(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.onnx"
    ranked = ir.to_proto(model())
    value = getattr(ranked.graph, kind)[0]
    value.type.tensor_type.ClearField("shape")
    path.write_bytes(ranked.SerializeToString())
    assert f"{kind} '{value.name}' declares no shape" in refusal(path)


def test_refuses_missing_external_data(tmp_path: Path) -> None:
    path = with_external_data(tmp_path)
    (tmp_path / "weights.bin").unlink()
    assert "'weights.bin' of weight 'w' is missing" in refusal(path)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "a/../../weights.bin"])
def test_refuses_external_data_outside_of_the_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    path = with_external_data(folder, location)
    (tmp_path / "weights.bin").write_bytes(b"\0" * 64 * 64 * 4)
    assert "outside of the model's folder: refused" in refusal(path)


def test_refuses_a_link_that_leaves_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    path = with_external_data(folder)
    (folder / "weights.bin").rename(tmp_path / "elsewhere.bin")
    (folder / "weights.bin").symlink_to(tmp_path / "elsewhere.bin")
    assert "outside of the model's folder: refused" in refusal(path)


def test_refuses_external_data_through_a_pipe(tmp_path: Path) -> None:
    path = with_external_data(tmp_path)
    with pytest.raises(ModelError, match="cannot come through a pipe"):
        io.parse_model(path.read_bytes())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="disk is full") as failed:
        io.write_atomically(path, b"new")
    assert failed.value.exit_code == ExitCode.FAILED
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def test_a_written_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.write_bytes(b"")
    io.write_atomically(ours, b"")
    assert ours.stat().st_mode == plain.stat().st_mode


def test_refuses_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        io.check_writable(tmp_path / "none" / "m.onnx")
    with pytest.raises(UsageError, match="is a directory"):
        io.check_writable(tmp_path)
    io.check_writable(tmp_path / "m.onnx")
