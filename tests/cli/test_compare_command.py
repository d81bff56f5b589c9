"""`modelopt compare` and `modelopt report`: two models, two reports, many machines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from modelopt_cli.graph.edit import replace_weight
from modelopt_cli.graph.io import load_model, model_bytes

SHORT = ("--duration", "0.1")


@pytest.fixture(scope="module")
def pair(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and a copy whose last layer is damaged."""
    original = samples / "digits_resnet" / "model.onnx"
    model = load_model(original).model.clone()
    weight = model.graph.initializers["classifier.weight"]
    assert weight.const_value is not None
    replace_weight(weight, weight.const_value.numpy() * np.float32(-1))
    damaged = tmp_path_factory.mktemp("pair") / "damaged.onnx"
    damaged.write_bytes(model_bytes(model))
    return original, damaged


@pytest.fixture(scope="module")
def few(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 40 labelled samples."""
    path = tmp_path_factory.mktemp("few") / "eval.npz"
    with np.load(samples / "eval.npz") as archive:
        np.savez(path, **{name: archive[name][:40] for name in archive.files})
    return path


def test_everything_about_a_pair(cli, pair: tuple[Path, Path], few: Path, tmp_path: Path) -> None:
    report = tmp_path / "compare.json"
    run = cli("compare", *pair, "--eval", few, *SHORT, "--report", report)
    assert run.code == 0, run.err
    assert "first layer below 20.0 dB: Gemm '/classifier/Gemm'" in run.out
    assert "95 % interval of the drop" in run.out
    content = json.loads(report.read_text())
    assert content["fidelity"]["accuracy"]["original"] > 0.9 > 0.2 > content["fidelity"]["accuracy"]["result"]
    assert content["divergence"]["first"]["tensor"] == "logits"
    assert content["latency"][0]["ratio_low"] < content["latency"][0]["ratio_high"]


def test_without_data_it_says_what_was_not_compared(cli, pair: tuple[Path, Path]) -> None:
    run = cli("compare", *pair, *SHORT)
    assert run.code == 0
    assert "the outputs were not compared; --eval FILE compares them" in run.out


def test_a_metric_of_the_user_needs_the_flag(
    cli, pair: tuple[Path, Path], few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users_metric.py").write_text("def first(outputs, labels):\n    return float(len(outputs))\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    asked = ("compare", *pair, "--eval", few, "--metric", "users_metric:first", *SHORT)
    refused = cli(*asked)
    assert (refused.code, refused.out) == (2, "")
    assert "--allow-code" in refused.err
    assert cli(*asked, "--allow-code", "--json").json["fidelity"]["accuracy"]["original"] == 40.0
    scored = cli("evaluate", pair[0], "--eval", few, "--metric", "users_metric:first", "--allow-code", "--json")
    assert scored.json["accuracy"]["value"] == 40.0


@pytest.fixture
def reports(cli, pair: tuple[Path, Path], few: Path, tmp_path: Path) -> tuple[Path, Path]:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    cli("compare", pair[0], pair[0], "--eval", few, *SHORT, "--report", old)
    cli("compare", *pair, "--eval", few, *SHORT, "--report", new)
    return old, new


def test_the_gate_of_a_ci(cli, reports: tuple[Path, Path]) -> None:
    old, new = reports
    run = cli("report", "diff", old, new, "--fail-above", "5%")
    assert run.code == 1
    assert "top1 is" in run.err
    assert "more than 5%" in run.err
    assert "% worse" in run.out
    assert cli("report", "diff", old, new).code == 0
    assert cli("report", "diff", old, old, "--fail-above", "0.01").code == 0


def test_reports_that_cannot_be_held_together(cli, reports: tuple[Path, Path], pair, tmp_path: Path) -> None:
    profiled = tmp_path / "profile.json"
    assert cli("profile", pair[0], *SHORT, "--report", profiled).code == 0
    run = cli("report", "diff", reports[0], profiled)
    assert run.code == 3
    assert "a report of 'compare' cannot be held against one of 'profile'" in run.err
    (tmp_path / "broken.json").write_text("{}")
    assert cli("report", "diff", reports[0], tmp_path / "broken.json").code == 3
    assert cli("report", "diff", reports[0], tmp_path / "missing.json").code == 3


def test_machines_in_one_table(cli, reports: tuple[Path, Path], pair, tmp_path: Path) -> None:
    profiled = tmp_path / "profile.json"
    cli("profile", pair[0], *SHORT, "--report", profiled)
    content = json.loads(profiled.read_text())
    content["environment"]["processor"] = "Another"
    profiled.write_text(json.dumps(content))
    run = cli("report", "merge", reports[0], profiled, "--json")
    assert len(run.json) == 3
    assert [row["machine"].startswith("Another") for row in run.json] == [False, False, True]
    table = cli("report", "merge", reports[0], profiled)
    assert "Another" in table.out
    assert all(len(line) <= 80 for line in table.out.splitlines())
