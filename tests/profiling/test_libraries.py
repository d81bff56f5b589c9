"""What is said of a provider whose library does not load."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from modelopt_cli.profiling.libraries import missing_library, preload, repair_hint


@pytest.fixture
def ort(tmp_path: Path) -> ModuleType:
    """A runtime whose CUDA provider is a damaged file."""
    module = ModuleType("onnxruntime")
    module.__file__ = str(tmp_path / "__init__.py")
    (tmp_path / "capi").mkdir()
    for name in ("shared", "cuda"):
        (tmp_path / "capi" / f"libonnxruntime_providers_{name}.so").write_text("text")
    return module


def test_the_loaders_words(ort: ModuleType) -> None:
    assert "file too short" in str(missing_library("CUDAExecutionProvider", ort))
    assert missing_library("OpenVINOExecutionProvider", ort) is None  # nothing of it is there


@pytest.mark.parametrize(
    ("provider", "missing", "hint"),
    [
        (
            "CUDAExecutionProvider",
            "libcublasLt.so.13: cannot open",
            'pip install "onnxruntime-gpu[cuda,cudnn]", or put',
        ),
        ("TensorrtExecutionProvider", "libcublas.so.13: cannot open", "and tensorrt, or put it on LD_LIBRARY_PATH"),
        ("TensorrtExecutionProvider", "libnvinfer.so.10: cannot open", "pip install tensorrt, of the CUDA version"),
        ("OpenVINOExecutionProvider", "libtbb.so.12: cannot open", "install it, or put it on LD_LIBRARY_PATH"),
    ],
)
def test_what_to_install(provider: str, missing: str, hint: str) -> None:
    assert hint in repair_hint(provider, missing)


def test_nvidias_wheels_are_looked_into_once_and_in_silence(ort: ModuleType, capsys: pytest.CaptureFixture) -> None:
    calls = []

    def preload_dlls() -> None:
        calls.append(sys.stdout.write("Failed to load libcudart.so.13"))

    ort.preload_dlls = preload_dlls
    for provider in ("CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"):
        preload(provider, ort)
    assert len(calls) == 1
    assert capsys.readouterr().out == ""
