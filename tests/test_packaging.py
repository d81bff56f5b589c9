"""The wheel alone, in a clean environment: what a user installs is all that it needs."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest


def run(*command: object, cwd: Path) -> str:
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    words = [str(each) for each in command]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=540)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, root, cwd=folder)
    (built,) = folder.glob("modelopt_cli-*.whl")
    return built


def test_what_the_wheel_holds(wheel: Path, root: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    recipes = {f"modelopt_cli/recipe/builtin/{path.name}" for path in (root / "recipes").glob("*.yaml")}
    assert recipes and recipes <= names
    assert "modelopt_cli/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("sample_models", "tests", "benchmarks"))]


@pytest.mark.slow
def test_the_wheel_compresses_a_model_in_a_clean_environment(wheel: Path, samples: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    binaries = tmp_path / "env" / "bin"
    run(binaries / "python", "-m", "pip", "install", "--quiet", f"{wheel}[cpu]", cwd=tmp_path)
    modelopt, folder = binaries / "modelopt", samples / "digits_resnet"
    assert "compress" in run(modelopt, "--help", cwd=tmp_path)
    assert "int8" in run(modelopt, "recipes", "list", cwd=tmp_path)
    output = tmp_path / "small.onnx"
    report = run(
        modelopt, "compress", folder / "model.onnx", "--recipe", "int8", "--calib", folder / "calib.npz", "-o", output,
        cwd=tmp_path,
    )  # fmt: skip
    assert "smaller" in report
    assert 0 < output.stat().st_size < (folder / "model.onnx").stat().st_size / 2
