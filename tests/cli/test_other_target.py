"""Models for a provider that this machine has not: made by its rules, measured elsewhere, and said so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

HERE = ("--set", "profile.providers=[cpu]", "--set", "profile.seconds=0.05")


@pytest.fixture
def made(cli, samples: Path, tmp_path: Path):
    """``made("tensorrt")`` -> (report, model)."""

    def make(provider: str) -> tuple[dict, onnx.ModelProto]:
        folder, out = samples / "digits_resnet", tmp_path / "out.onnx"
        words = ("quantize", folder / "model.onnx", "--calib", folder / "calib.npz", "-o", out, "--json")
        run = cli(*words, "--set", f"target.provider={provider}", *HERE)
        assert run.code == 0, run.err
        return run.json, onnx.load(out)

    return make


def test_tensorrt_finds_nothing_to_refuse(made) -> None:
    report, model = made("tensorrt")
    codes = {notice["code"] for notice in report["notices"]}
    assert "measured-elsewhere" in codes
    assert "tensorrt-rules" not in codes
    assert report["audit"] is None  # read off the target's own kernels, or not at all
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) > 10
    for node in pairs:
        zero = weights.get(node.input[2]) if len(node.input) > 2 else None
        assert zero is None or (zero.dtype == np.int8 and not zero.any())
    assert not any(array.dtype == np.int32 for array in weights.values())  # biases are float
    assert report["fidelity"]["agreement"][0]["sqnr_db"] > 20


def test_cuda_gets_no_static_int8(made) -> None:
    report, model = made("cuda")
    assert "measured-elsewhere" in {notice["code"] for notice in report["notices"]}
    assert not any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    reasons = [skip["reason"] for step in report["steps"] for skip in step["skipped"]]
    assert any("CUDA provider has no integer kernels" in reason for reason in reasons), reasons


@pytest.mark.parametrize(
    ("here", "words"), [("avx2", "nor is the fidelity"), ("arm64", "the latency is not the target's")]
)
def test_another_processor_is_said(cli, samples: Path, tmp_path: Path, monkeypatch, here: str, words: str) -> None:
    monkeypatch.setattr("modelopt_cli.pipeline.runner.detect_isa", lambda: here)
    model, said = samples / "digits_lstm" / "model.onnx", {}
    for isa in ("avx512_vnni", here):
        flags = ("-o", tmp_path / f"{isa}.onnx", "--set", f"target.isa={isa}", *HERE, "--json")
        run = cli("compress", model, "--recipe", "int8-dynamic", *flags)
        assert run.code == 0, run.err
        said[isa] = [note["message"] for note in run.json["notices"] if note["code"] == "measured-elsewhere"]
    assert words in said["avx512_vnni"][0]
    assert not said[here]
