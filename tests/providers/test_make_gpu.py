"""`make gpu`: the script of it, run on the CPU; without a GPU it refuses in one line and writes nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks import gpu


def test_without_a_gpu_it_refuses_and_writes_nothing(root: Path) -> None:
    if not gpu.refusal():
        # Tested is the refusal, which such a machine does not make.
        pytest.skip("there is a GPU here")
    before = gpu.RESULTS.exists()
    done = subprocess.run(["make", "gpu"], cwd=root, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2  # make's own, whatever a rule ends with
    assert "make gpu: no" in done.stderr
    assert gpu.RESULTS.exists() == before


def test_a_row_holds_what_was_measured_and_a_refusal_its_reason(samples: Path) -> None:
    model = samples / "digits_resnet" / "model.onnx"
    name, provider, recipe, ratio, size, agreement, _, code = gpu.measure(model, gpu.Way("cpu", "fuse"), seconds=0.2)
    assert (name, provider, recipe, code) == ("digits_resnet", "cpu", "fuse", "0")
    assert 0.1 < float(ratio.split()[0]) < 10
    assert 0.5 < float(size) <= 1
    assert agreement.startswith("100.0%, ")
    refused = gpu.measure(model, gpu.Way("QNNExecutionProvider", "fuse"))
    assert "has no QNNExecutionProvider" in refused[3]
    assert refused[-1] == "5"


def test_the_page_says_where_it_comes_from(tmp_path: Path) -> None:
    row = ("m", "cpu", "fuse", "0.50 [0.4, 0.6]", "0.30", "100.0%", "", "0")
    gpu.write([row], tmp_path / "r.md")
    page = (tmp_path / "r.md").read_text()
    assert "Written by `make gpu`" in page
    assert "| m | cpu | fuse | 0.50 [0.4, 0.6] |" in page
    assert "CPUExecutionProvider" in page


def test_every_model_with_data_is_measured(samples: Path) -> None:
    assert {path.parent.name for path in gpu.models([samples])} >= {"digits_resnet", "digits_vit", "digits_mobilenet"}
