"""`modelopt profile`: absolutes of one model, a ratio of two; times are never asserted."""

from __future__ import annotations

from pathlib import Path

from modelopt_cli.cli.render_profile import speed_sentence


def test_one_model(cli, samples: Path) -> None:
    run = cli("profile", samples / "digits_resnet" / "model.onnx", "--seconds", "0.2", "--per-op")
    assert run.code == 0, run.err
    assert "latency, median" in run.out
    assert "Conv" in run.out
    assert all(len(line) <= 80 for line in run.out.splitlines())


def test_against_a_baseline_from_a_pipe(cli, samples: Path) -> None:
    path = samples / "digits_resnet" / "model.onnx"
    run = cli("profile", path, "--baseline", "-", "--seconds", "0.2", "--json", stdin=path.read_bytes())
    compared = run.json["providers"][0]["comparison"]
    assert run.json["baseline"] == "<stdin>"
    assert compared["ratio_low"] < compared["ratio"] < compared["ratio_high"]
    assert run.json["shapes"] == {"image": [1, 1, 28, 28]}


def test_batch_and_shape_are_fed(cli, samples: Path) -> None:
    path = samples / "digits_resnet" / "model.onnx"
    assert cli("profile", path, "--batch", "3", "--seconds", "0.1", "--json").json["shapes"] == {
        "image": [3, 1, 28, 28]
    }
    run = cli("profile", path, "--shape", "img=1x1x28x28")
    assert run.code == 2
    assert "no input 'img'" in run.err


def test_a_provider_that_is_not_installed(cli, samples: Path) -> None:
    run = cli("profile", samples / "digits_resnet" / "model.onnx", "--provider", "tensorrt")
    assert (run.code, run.out) == (5, "")
    assert "TensorrtExecutionProvider" in run.err


def test_the_verdict_says_no_more_than_the_interval() -> None:
    assert speed_sentence(0.5, 0.45, 0.55) == "2.0x faster"
    assert speed_sentence(1.25, 1.1, 1.4) == "1.2x SLOWER"
    assert speed_sentence(0.97, 0.93, 1.01) == "no significant difference in latency"
