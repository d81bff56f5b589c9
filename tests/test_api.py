from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import modelopt_cli

HEAVY = ("onnx", "onnx_ir", "onnxruntime", "numpy", "pydantic", "typer", "rich")


@pytest.mark.parametrize("name", modelopt_cli.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(modelopt_cli, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'optimise'"):
        _ = modelopt_cli.optimise


def test_the_import_alone_loads_nothing_heavy() -> None:
    script = f"import sys, modelopt_cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_example_of_the_docstring_runs(tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = samples / "digits_lstm"
    for name in ("model.onnx", "calib.npz"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    lines = [line[4:] for line in (modelopt_cli.__doc__ or "").splitlines() if line.startswith("    ")]
    exec("from pathlib import Path\n" + "\n".join(lines), {})
    assert (tmp_path / "model.int8.onnx").stat().st_size < (model / "model.onnx").stat().st_size
