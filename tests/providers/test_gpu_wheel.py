"""onnxruntime-gpu where the libraries of CUDA are missing: a provider that is there and does not load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Run, need

need("onnxruntime-gpu")
pytestmark = pytest.mark.providers


@pytest.fixture(autouse=True)
def without_libraries() -> None:
    from modelopt_cli.profiling.libraries import missing_library
    from modelopt_cli.profiling.session import runtime

    if missing_library("CUDAExecutionProvider", runtime()) is None:
        # Tested is what is said without them; with them, `make gpu` runs the providers themselves.
        pytest.skip("the libraries of CUDA are here: make gpu")


@pytest.mark.parametrize("word", ["cuda", "tensorrt", "tensorrt:fp16=1"])
@pytest.mark.parametrize("command", [["profile"], ["compress", "--recipe", "fuse", "-o", "{out}"]], ids=lambda c: c[0])
def test_a_missing_library_is_exit_5_and_named(
    command: list[str], word: str, modelopt: Run, products: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.onnx"
    words = [each.format(out=out) for each in command]
    done = modelopt(words[0], products, *words[1:], "--provider", word)
    assert done.returncode == 5
    assert done.stdout == ""
    first, hint = done.stderr.splitlines()  # and nothing of the runtime's own log
    assert first.startswith("modelopt: error: ")
    assert "could not be loaded: lib" in first
    assert ".so" in first
    assert "onnxruntime-gpu[cuda,cudnn]" in hint
    assert not out.exists()


def test_the_cpu_of_this_wheel_works(modelopt: Run, products: Path) -> None:
    assert modelopt("profile", products, "--duration", "0.1").returncode == 0


def test_doctor_says_what_is_missing(modelopt: Run) -> None:
    done = modelopt("doctor", "--json")
    assert done.returncode == 0, done.stderr
    found = {each["name"]: each for each in json.loads(done.stdout)}
    assert found["CPUExecutionProvider"]["state"] == "ok"
    for name in ("CUDAExecutionProvider", "TensorrtExecutionProvider"):
        assert found[name]["state"] == "missing"
        assert "lib" in found[name]["detail"]
        assert "pip install" in found[name]["fix"]
