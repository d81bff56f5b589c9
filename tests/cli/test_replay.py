"""`--plan`, `--plan-out` and `--locked`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

QUICK = ("steps.quantize.budget=0", "steps.quantize.samples=8")


def test_from_the_command_line(cli, samples: Path, tmp_path: Path) -> None:
    model, first, second = samples / "digits_resnet" / "model.onnx", tmp_path / "a.onnx", tmp_path / "b.onnx"
    plan, calib = tmp_path / "plan.json", model.with_name("calib.npz")
    quick = [word for text in (*QUICK, "profile.seconds=0.2") for word in ("--set", text)]
    common = ("compress", model, "--recipe", "int8", "--calib", calib, *quick)
    run = cli(*common, "-o", first, "--plan-out", plan)
    assert run.code == 0, run.err
    assert cli(*common, "-o", second, "--plan", plan, "--locked").code == 0
    assert first.read_bytes() == second.read_bytes()
    np.savez(tmp_path / "other.npz", image=np.zeros((4, 1, 28, 28), np.float32))
    refused = cli(*common[:5], tmp_path / "other.npz", *quick, "-o", tmp_path / "c.onnx", "--plan", plan, "--locked")
    assert refused.code == 1
    assert "the calibration data is another" in refused.err
    assert not (tmp_path / "c.onnx").exists()
    assert cli(*common, "-o", second, "--locked").code == 2
