"""Tests that need a wheel of onnxruntime other than the CPU's: `make test-providers` gives each its environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest

from modelopt_cli.graph.io import save_model
from modelopt_cli.testing import model_from_text

Run = Callable[..., subprocess.CompletedProcess[str]]
PRODUCTS = "g (float[4, 32] x) => (float[4, 8] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }"


def need(wheel: str) -> None:
    """Skip the module in an environment without the wheel."""
    try:
        version(wheel)
    except PackageNotFoundError:
        # One onnxruntime wheel overwrites another's files: each has an environment of its own, where these run.
        pytest.skip(f"{wheel} is not installed here: make test-providers", allow_module_level=True)


@pytest.fixture
def modelopt() -> Run:
    """``modelopt("profile", path)`` in a process of its own: providers are loaded once for each process."""

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "modelopt_cli", *map(str, args)]
        env = {**os.environ, "NO_COLOR": "1", "ORT_GGML_LOG": "off"}
        return subprocess.run(words, env=env, capture_output=True, text=True, timeout=300, check=False)

    return run


@pytest.fixture
def products(tmp_path: Path) -> Path:
    """Two products and a Relu: what every provider knows."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((32, 64), np.float32), "v": rng.standard_normal((64, 8), np.float32)}
    path = tmp_path / "products.onnx"
    save_model(model_from_text(PRODUCTS, **weights), path)
    return path


@pytest.fixture
def resnet(samples: Path) -> Path:
    return samples / "digits_resnet" / "model.onnx"
