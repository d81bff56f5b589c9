"""`modelopt cache`: where it is, what is in it, and gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelopt_cli.cache import open_cache


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MODELOPT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_quantizing_left_is_shown_and_removed(cli, samples: Path, folder: Path, tmp_path: Path) -> None:
    model, calib = samples / "digits_mobilenet" / "model.onnx", samples / "digits_mobilenet" / "calib.npz"
    flags = ["--calib", calib, "--set", "steps.quantize.budget=0", "--set", "profile.seconds=0.05"]
    first = cli("quantize", model, *flags, "-o", tmp_path / "a.onnx")
    assert first.code == 0, first.err
    facts = cli("cache", "info", "--json").json
    assert facts["folder"] == str(folder)
    assert [kind["kind"] for kind in facts["kinds"]] == ["statistics"]
    assert cli("quantize", model, *flags, "-o", tmp_path / "b.onnx").code == 0
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert cli("cache", "clear").out == f"{folder}: {facts['bytes'] / 1000:.2f} kB freed\n"
    assert open_cache().usage() == []
    assert "0 B of 1.00 GB" in cli("cache", "info").out


def test_a_cap_that_is_no_size(cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELOPT_CACHE_SIZE", "lots")
    run = cli("cache", "info")
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith("modelopt: error: MODELOPT_CACHE_SIZE: 'lots' is no size\n")
