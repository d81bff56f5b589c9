"""Whatever comes in: a line that says what and how to fix it, the right exit code, and nothing changed on the disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

GOOD = """<ir_version: 8, opset_import: ["": 17]>
good (float[N, 4] x) => (float[N, 4] y) <float[4] w = {0.5, 1.0, 2.0, 3.0}> { h = Mul(x, w)  y = Relu(h) }"""


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def refused(cli, tmp_path: Path) -> Callable[..., str]:
    """Run, and hold the command to the contract of a refusal; returns stderr."""

    def check(*args: object, code: int, stdin: bytes | None = None) -> str:
        before = snapshot(tmp_path)
        run = cli(*args, stdin=stdin)
        lines = run.err.splitlines()
        assert (run.code, run.out) == (code, ""), run.err
        assert lines and all(line.startswith(("modelopt: error: ", "  hint: ")) for line in lines), run.err
        assert sum(line.startswith("modelopt: error: ") for line in lines) == 1, run.err
        assert snapshot(tmp_path) == before, "something was written"
        return str(run.err)

    return check


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx.parser.parse_model(GOOD).SerializeToString())
    return path


def edited(folder: Path, edit: Callable[[onnx.ModelProto], object]) -> Path:
    model = onnx.parser.parse_model(GOOD)
    edit(model)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def external(location: str) -> Callable[[onnx.ModelProto], object]:
    def edit(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
        onnx.external_data_helper.set_external_data(tensor, location)
        tensor.ClearField("raw_data")

    return edit


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"just a text\n", "is not an ONNX model"),
        (b"PK\x03\x04 an archive", "is not an ONNX model"),
        (onnx.parser.parse_model(GOOD).SerializeToString()[:-20], "is truncated"),
    ],
    ids=["empty", "text", "archive", "truncated"],
)
@pytest.mark.parametrize("piped", [False, True], ids=["file", "pipe"])
def test_not_a_model(content: bytes, words: str, piped: bool, refused, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    source = "-" if piped else path
    err = refused("compress", source, "-o", tmp_path / "out.onnx", code=3, stdin=content if piped else None)
    assert words in err
    assert ("<stdin>" if piped else str(path)) in err


def test_no_such_model(refused, tmp_path: Path) -> None:
    assert "no such file" in refused("compress", tmp_path / "missing.onnx", code=3)


def test_a_directory(refused, tmp_path: Path) -> None:
    (tmp_path / "saved_model").mkdir()
    assert "is a directory" in refused("compress", tmp_path / "saved_model", "-o", tmp_path / "o.onnx", code=3)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (external("weights.bin"), "'weights.bin' of weight 'w' is missing"),
        (external("../secret.bin"), "outside of the model's folder"),
        (external("/etc/hostname"), "outside of the model's folder"),
        (lambda m: m.graph.node[1].ClearField("input"), "checker"),
        (lambda m: setattr(m.graph.node[1], "op_type", "NoSuchOperator"), "NoSuchOperator"),
        (lambda m: setattr(m.opset_import[0], "version", 99), "opset 99 is newer"),
        (lambda m: setattr(m.graph.node[0], "domain", "com.nobody"), "com.nobody"),
        (
            lambda m: (
                setattr(m.graph.node[0], "domain", "com.nobody"),
                m.opset_import.append(onnx.helper.make_opsetid("com.nobody", 1)),
            ),
            "com.nobody",
        ),
    ],
    ids=["no-data", "parent", "absolute", "checker", "operator", "opset", "undeclared-domain", "unknown-domain"],
)
def test_not_a_model_that_can_be_used(
    edit: Callable[[onnx.ModelProto], object], words: str, refused, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 16)
    path = edited(tmp_path / "models", edit)
    assert words in refused("compress", path, "--recipe", "fuse", code=3)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.array([[1, 2, np.nan, 4]], np.float32)}, "NaN"),
        ({"x": np.array([[1, 2, 3, 4], [1, np.inf, 3, 4]], np.float32)}, "Inf"),
        ({"input": np.ones((2, 4), np.float32), "other": np.ones((2, 4), np.float32)}, "'x'"),
        ({"x": np.ones((2, 4), np.int64)}, "int64"),
        ({"x": np.ones((2, 5), np.float32)}, "5"),
        ({"x": np.ones((0, 4), np.float32)}, "no samples"),
        ({"x": np.array([{"a": 1}], dtype=object)}, "object"),
    ],
    ids=["nan", "inf", "names", "dtype", "shape", "empty", "pickle"],
)
def test_calibration_data_that_does_not_fit(
    arrays: dict[str, np.ndarray], words: str, refused, good: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "calib.npz", **arrays)
    err = refused("compress", good, "--recipe", "fuse", "--calib", tmp_path / "calib.npz", code=3)
    assert words.lower() in err.lower()


@pytest.mark.parametrize("name", ["missing.npz", "text.npz", "cut.npz"])
def test_calibration_data_that_cannot_be_read(name: str, refused, good: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "whole.npz", x=np.ones((2, 4), np.float32))
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-30])
    assert name in refused("compress", good, "--recipe", "fuse", "--calib", tmp_path / name, code=3)


def test_an_explicit_static_step_without_data(refused, good: Path) -> None:
    err = refused("quantize", good, "--method", "static", code=2)
    assert "quantize-static: needs calibration data" in err
    assert "--calib" in err
    assert "--allow-random-calibration" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-o", "MISSING/out.onnx"], "does not exist"),
        (["--depfile", "FOLDER"], "is a directory"),
        (["-o", "SOURCE"], "never overwritten"),
        (["--depfile", "SOURCE"], "never overwritten"),
        (["--report", "FOLDER/report.pdf"], "suffix '.pdf'"),
        (["--depfile", "MISSING/d"], "does not exist"),
        (["-o", "-", "--json"], "stdout cannot hold both"),
        (["-o", "-", "--depfile", "FOLDER/d"], "names of two files"),
        (["--recipe", "int9"], "there is no recipe 'int9'"),
        (["--set", "seed=-1"], "seed"),
        (["--shape", "x"], "is not a shape"),
        (["--provider", "gpu"], "no provider is called 'gpu'"),
        (["--metric", "top2", "--recipe", "fuse"], "no metric is called 'top2'"),
    ],
)
def test_flags_that_cannot_work(args: list[str], words: str, refused, good: Path, tmp_path: Path) -> None:
    places = {"MISSING": str(tmp_path / "missing"), "FOLDER": str(tmp_path), "SOURCE": str(good)}
    for name, place in places.items():
        args = [arg.replace(name, place) for arg in args]
    assert words in refused("compress", good, *args, code=2)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(refused, good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert "permission denied" in refused("compress", good, "-o", folder / "o.onnx", code=2)


def test_a_provider_that_is_not_installed(refused, good: Path) -> None:
    assert "TensorrtExecutionProvider" in refused("compress", good, "--provider", "tensorrt", code=5)


def test_both_models_from_one_pipe(refused, good: Path) -> None:
    assert "read once only" in refused("profile", "-", "--baseline", "-", code=2, stdin=good.read_bytes())
