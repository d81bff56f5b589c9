"""`modelopt doctor`: what it finds here, and the exact repair of what may be wrong elsewhere."""

from __future__ import annotations

import pytest

from modelopt_cli.cli import doctor


def test_this_machine_is_well(cli) -> None:
    run = cli("doctor", "--json")
    assert run.code == 0, run.err
    states = {each["name"]: each["state"] for each in run.json}
    assert states["CPUExecutionProvider"] == "ok"
    assert states["telemetry"] == states["cache"] == states["memory"] == "ok"
    assert "broken" not in states.values()


def test_clashing_wheels_are_repaired_by_one_command(monkeypatch: pytest.MonkeyPatch, cli) -> None:
    installed = {"onnxruntime": "1.22.0", "onnxruntime-gpu": "1.20.0"}
    known = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: installed.get(name) or known(name))
    run = cli("doctor")
    assert run.code == 2
    command = "pip uninstall -y onnxruntime-gpu onnxruntime && pip install onnxruntime-gpu==1.20.0"
    assert f"hint: {command}" in run.err


def test_no_runtime_at_all(monkeypatch: pytest.MonkeyPatch, cli) -> None:
    known = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name.startswith("onnxruntime") else known(name))
    run = cli("doctor")
    assert run.code == 2
    assert 'pip install "modelopt-cli[cpu]"' in run.err


@pytest.mark.parametrize(
    ("variable", "value", "state", "detail"),
    [
        ("MODELOPT_CACHE_SIZE", "0", "ok", "switched off"),
        ("MODELOPT_CACHE_SIZE", "much", "broken", "'much' is no size"),
        ("MODELOPT_CACHE_DIR", "/dev/null/cache", "missing", "cannot be written"),
    ],
)
def test_the_cache(variable: str, value: str, state: str, detail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    found = doctor._cache()
    assert found.state == state
    assert detail in found.detail


def test_telemetry_that_is_on_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    assert doctor._telemetry().state == "broken"
