"""`modelopt evaluate`: accuracy needs labels, agreement a baseline, and neither is called the other."""

from __future__ import annotations

from pathlib import Path


def test_a_metric_with_labels(cli, samples: Path) -> None:
    run = cli("evaluate", samples / "digits_resnet" / "model.onnx", "--eval", samples / "eval.npz", "--json")
    assert run.code == 0, run.err
    assert run.json["accuracy"]["metric"] == "top1"
    assert run.json["accuracy"]["value"] > 0.9
    assert run.json["samples"] == 2000
    assert run.json["agreement"] == []


def test_against_a_baseline(cli, samples: Path) -> None:
    models = [samples / name / "model.onnx" for name in ("digits_resnet", "digits_mobilenet")]
    run = cli("evaluate", models[0], "--eval", samples / "eval.npz", "--baseline", models[1])
    assert run.code == 0, run.err
    assert "95 % interval of the drop" in run.out
    assert f"agreement with {models[1]}\n" in run.out


def test_without_labels_it_is_agreement(cli, samples: Path) -> None:
    model = samples / "digits_resnet" / "model.onnx"
    run = cli("evaluate", model, "--eval", model.with_name("calib.npz"), "--baseline", model)
    assert run.code == 0, run.err
    assert "(not accuracy: no labels)" in run.out
    assert "100 %" in run.out


def test_nothing_to_say(cli, samples: Path) -> None:
    model = samples / "digits_resnet" / "model.onnx"
    run = cli("evaluate", model, "--eval", model.with_name("calib.npz"))
    assert (run.code, run.out) == (2, "")
    assert "holds no labels to score against" in run.err
    assert "--baseline" in run.err


def test_an_unknown_metric_is_refused_first(cli) -> None:
    run = cli("evaluate", "missing.onnx", "--eval", "missing.npz", "--metric", "top2")
    assert (run.code, run.out) == (2, "")
    assert "no metric is called 'top2'" in run.err
