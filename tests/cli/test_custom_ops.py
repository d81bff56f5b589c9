"""Models with operators of somebody's own: with the library that defines them, and what is said without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modelopt_cli.graph.io import save_model
from modelopt_cli.profiling.custom_ops import VARIABLE
from modelopt_cli.profiling.session import open_session, run
from modelopt_cli.testing import model_from_text

QUICK = ("--set", "profile.seconds=0.02")
TEXT = """<ir_version: 8, opset_import: ["": 17, "com.nobody": 1]>
g (float[n, 64] x) => (float[n, 64] y) { a = Identity(x) b = MatMul(a, w) s = com.nobody.Secret(b) y = MatMul(s, v) }"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of ``custom_op.c``, compiled here."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        # The library is of C against onnxruntime's C API, as users write them: nothing else stands for it.
        pytest.skip("a library of custom operators is compiled here, with a C compiler on Linux")
    path = tmp_path_factory.mktemp("library") / "libsecret.so"
    source = Path(__file__).with_name("custom_op.c")
    subprocess.run([compiler, "-std=c11", "-shared", "-fPIC", "-O1", "-w", "-o", path, source], check=True)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((64, 64), np.float32) for name in "wv"}
    save_model(model_from_text(TEXT, **weights), tmp_path / "m.onnx")
    np.savez(tmp_path / "calib.npz", x=rng.standard_normal((20, 64), np.float32))
    return tmp_path / "m.onnx"


@pytest.mark.parametrize("command", [["fuse"], ["prune"], ["quantize"], ["quantize", "--method", "dynamic"]])
def test_what_makes_models_works_with_the_library(command: list[str], cli, model: Path, library: Path) -> None:
    out, calib = model.with_name("out.onnx"), model.with_name("calib.npz")
    words = [command[0], model, *command[1:], "--custom-ops", library, "--calib", calib, "-o", out, "--json", *QUICK]
    done = cli(*words, *(["--set", "steps.quantize.budget=0"] if command == ["quantize"] else []))
    assert done.code == 0, done.err
    assert done.json["result"]["ops"]["Secret"] == 1
    assert done.json["fidelity"]["agreement"][0]["sqnr_db"] > (
        100 if command == ["fuse"] else 20 if command[0] == "quantize" else 0
    )
    assert done.json["usage"]["custom_ops"] == ["libsecret.so"]
    assert VARIABLE not in os.environ  # it was for this command


def test_the_operator_computes(model: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(library))
    text = TEXT.replace(
        "a = Identity(x) b = MatMul(a, w) s = com.nobody.Secret(b) y = MatMul(s, v)", "y = com.nobody.Secret(x)"
    )
    x = np.arange(64, dtype=np.float32)[None]
    np.testing.assert_array_equal(run(open_session(model_from_text(text)), {"x": x})[0], 2 * x + 1)


def test_what_measures_works_in_processes_of_its_own(cli, model: Path, library: Path) -> None:
    done = cli("profile", model, "--custom-ops", library, "--duration", "0.05", "--json")
    assert done.code == 0, done.err
    assert done.json["entries"][0]["footprint"]["load_ms"] > 0
    done = cli("compare", model, model, "--custom-ops", library, "--eval", model.with_name("calib.npz"), "--json")
    assert done.code == 0, done.err


def test_diff_runs_both(cli, model: Path, library: Path) -> None:
    done = cli("diff", model, model, "--custom-ops", library, "--eval", model.with_name("calib.npz"))
    assert done.code == 0, done.err


def test_without_the_library_its_flag_is_named(cli, model: Path) -> None:
    done = cli("fuse", model, *QUICK)
    assert done.code == 3
    assert "operator 'Secret' of domain 'com.nobody' is not known" in done.err
    assert "--custom-ops LIBRARY.so" in done.err


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), (b"text", "cannot be loaded as a library of custom operators")]
)
def test_what_is_no_library(content: bytes | None, message: str, cli, model: Path) -> None:
    path = model.with_name("libno.so")
    if content is not None:
        path.write_bytes(content)
    done = cli("fuse", model, "--custom-ops", path, *QUICK)
    assert (done.code, done.out) == (2, "")
    assert f"{path}: {message}" in done.err


def test_a_library_without_operators(cli, model: Path) -> None:
    import onnxruntime

    (other,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime_providers_shared.so")
    done = cli("fuse", model, "--custom-ops", other, *QUICK)
    assert done.code == 2
    assert "RegisterCustomOps" in done.err
