"""OpenVINO: a second provider that really runs, beside the CPU's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from modelopt_cli.graph.io import save_model
from modelopt_cli.profiling.session import open_session, run
from modelopt_cli.testing import model_from_text

from .conftest import Run, need

need("onnxruntime-openvino")
pytestmark = pytest.mark.providers
QUICK = ("--set", "profile.seconds=0.5")


def test_it_takes_the_nodes_and_computes_the_same(resnet: Path) -> None:
    feeds = {"image": np.random.default_rng(0).standard_normal((1, 1, 28, 28)).astype(np.float32)}
    ours, theirs = (run(open_session(resnet, provider=word), feeds)[0] for word in ("cpu", "openvino"))
    np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-3)


def test_profile_proves_the_placement(modelopt: Run, resnet: Path) -> None:
    done = modelopt("profile", resnet, "--provider", "openvino", "--duration", "0.5", "--json")
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads(done.stdout)["entries"]
    assert [share["provider"] for share in entry["placement"]["shares"]] == ["OpenVINOExecutionProvider"]
    assert entry["placement"]["fallbacks"] == []
    assert entry["latency"]["median_ms"] > 0


def test_int8_is_made_and_measured_for_it(modelopt: Run, resnet: Path, tmp_path: Path) -> None:
    out, calib = tmp_path / "out.onnx", resnet.with_name("calib.npz")
    done = modelopt("compress", resnet, "--provider", "openvino", "--calib", calib, "-o", out, "--json", *QUICK)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["recipe"]["target"]["provider"] == "openvino"
    assert [each["provider"] for each in report["latency"]] == ["openvino"]
    assert report["audit"] is None  # it compiles its part: which kernels are integer is not told
    domains = {node.domain for node in onnx.load(out).graph.node}
    assert domains <= {"", "ai.onnx"}  # an engine behind onnxruntime knows nothing of its own operators
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(out).graph.node)


def test_a_device_that_is_not_here_is_exit_5(modelopt: Run, resnet: Path) -> None:
    done = modelopt("profile", resnet, "--provider", "openvino:device=NPU", "--duration", "0.1")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith("modelopt: error: ")


def test_what_it_leaves_to_the_cpu_is_refused_and_named(modelopt: Run, tmp_path: Path) -> None:
    path = tmp_path / "part.onnx"
    text = "g (float[4, 4] x) => (float y) { a = Relu(x) d = Det(a) y = Abs(d) }"
    save_model(model_from_text(text), path)
    words = ("profile", path, "--provider", "openvino", "--duration", "0.1")
    done = modelopt(*words)
    assert done.returncode == 5
    assert "left 2 nodes to other providers (1 Det, 1 Abs)" in done.stderr
    assert "--allow-fallback" in done.stderr
    measured = modelopt(*words, "--allow-fallback")
    assert measured.returncode == 0, measured.stderr
    assert "CPUExecutionProvider" in measured.stdout


def test_compress_says_what_it_left_to_the_cpu(modelopt: Run, tmp_path: Path) -> None:
    save_model(
        model_from_text("g (float[4, 4] x) => (float y) { a = Relu(x) d = Det(a) y = Abs(d) }"), tmp_path / "m.onnx"
    )
    words = ("fuse", tmp_path / "m.onnx", "--provider", "openvino", "--set", "profile.seconds=0.1", "--json")
    done = modelopt(*words)
    assert done.returncode == 0, done.stderr
    (notice,) = [each for each in json.loads(done.stdout)["notices"] if each["code"] == "placement"]
    assert notice["message"].startswith("OpenVINOExecutionProvider runs 33 % of the result's nodes, and not ")
    assert "1 Det on CPUExecutionProvider" in notice["message"]
