from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from modelopt_cli.graph.io import save_model
from modelopt_cli.report.usage import Usage, python_snippet
from modelopt_cli.testing import model_from_text


def test_the_snippet_runs_as_it_stands(tmp_path: Path) -> None:
    model = model_from_text("g (float[n, 3] x, int64[n] i, bool[1] b) => (float[n, 3] y) { y = Relu(x) }")
    save_model(model, tmp_path / "it's.onnx")
    usage = Usage({"x": ("float32", (2, 3)), "i": ("int64", (2,)), "b": ("bool", (1,))}, "cpu", "1.12")
    code = python_snippet(usage, str(tmp_path / "it's.onnx"))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "[(2, 3)]\n"), done.stderr


def test_the_provider_comes_first() -> None:
    code = python_snippet(Usage({}, "openvino", "1.18"), None)
    assert "providers=['OpenVINOExecutionProvider', 'CPUExecutionProvider']" in code
    assert "'model.onnx'" in code and "onnxruntime>=1.18" in code


def test_libraries_of_custom_operators_are_registered() -> None:
    code = python_snippet(Usage({}, "cpu", "1.18", ("libmine.so",)), None)
    assert "options.register_custom_ops_library('libmine.so')" in code
    assert "ort.InferenceSession('model.onnx', options, providers=['CPUExecutionProvider'])" in code
