"""`modelopt profile`: absolutes of one model, a ratio of two, one table of many; times are never asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelopt_cli.cli.render_profile import _short, speed_sentence
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.report.profile import Ratio
from modelopt_cli.testing import model_from_text

SHORT = ("--duration", "0.1")


@pytest.fixture(scope="module")
def resnet(samples: Path) -> Path:
    return samples / "digits_resnet" / "model.onnx"


def test_one_model(cli, resnet: Path) -> None:
    run = cli("profile", resnet, *SHORT, "--per-op", "--streams", "1/2")
    assert run.code == 0, run.err
    for part in ("latency, median", "p90 / p95 / p99", "memory, steady", "2 streams", "Conv", "of peak", "GFLOP/s"):
        assert part in run.out
    assert all(len(line) <= 80 for line in run.out.splitlines())


def test_against_a_baseline_from_a_pipe(cli, resnet: Path) -> None:
    run = cli("profile", resnet, "--baseline", "-", *SHORT, "--json", stdin=resnet.read_bytes())
    before, after = run.json["entries"]
    assert (run.json["baseline"], before["model"], before["ratio"]) == ("<stdin>", "<stdin>", None)
    assert after["ratio"]["low"] < after["ratio"]["value"] < after["ratio"]["high"]
    assert after["shapes"] == {"image": [1, 1, 28, 28]}
    assert after["footprint"]["steady_bytes"] > 0


def test_operators_beside_the_baseline_under_the_names_of_the_file(cli, resnet: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    run = cli("profile", resnet, "--baseline", resnet, *SHORT, "--per-op", "--trace", trace)
    assert run.code == 0, run.err
    assert "beside the baseline" in run.out
    assert "/stages/stages.0/conv1/Conv +2" in run.out
    names = {event["name"] for event in json.loads(trace.read_text())["traceEvents"]}
    assert "/classifier/Gemm" in names


def test_a_sweep_of_many_models_is_one_table(cli, resnet: Path, samples: Path, tmp_path: Path) -> None:
    report = tmp_path / "profile.json"
    other = samples / "digits_mobilenet" / "model.onnx"
    run = cli("profile", resnet, other, "--batch", "1/3", *SHORT, "--report", report)
    assert run.code == 0, run.err
    assert run.out.count("3x1x28x28") == 2
    content = json.loads(report.read_text())
    assert [(entry["batch"], entry["model"]) for entry in content["entries"]] == [
        (1, str(resnet)), (1, str(other)), (3, str(resnet)), (3, str(other)),
    ]  # fmt: skip
    assert content["schema"] == "modelopt.profile/1"
    assert content["environment"]["isa"]


def test_at_least_so_many_runs_and_no_longer(cli, resnet: Path) -> None:
    run = cli("profile", resnet, "--runs", "40", "--threads", "2", "--json")  # one thread counts undisturbed runs only
    assert 40 <= run.json["entries"][0]["latency"]["runs"] < 3000


def test_a_session_setting_reaches_the_runtime_and_a_misspelt_one_is_told(cli, resnet: Path) -> None:
    run = cli("profile", resnet, *SHORT, "--session-config", "session.disable_prepackin=1", "--json")
    assert run.json["config"] == {"session.disable_prepackin": "1"}
    assert "warning: 'session.disable_prepackin' is no session setting" in run.err
    assert "warning" not in cli("profile", resnet, *SHORT, "--session-config", "session.disable_prepacking=1").err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--shape", "img=1x1x28x28"), "no input 'img'"),
        (("--shape", "image=1/2x1x28/29/30x28"), "different numbers of sizes"),
        (("--shape", "image"), "'image' is not a shape"),
        (("--batch", "0/1"), "'0/1' is no number above 0"),
        (("--streams", "a"), "'a' is no number above 0"),
        (("--until-ci", "wide"), "'wide' is no share above 0"),
        (("--session-config", "key"), "'key' is not KEY=VALUE"),
        (("--cpus", "one"), "'one' is no list of processors"),
        (("--provider", "gpu"), "no provider is called 'gpu'"),
        (("--provider", "cpu:arena=1"), "the CPU provider has no options"),
        (("--trace", "trace.json"), "operators are not measured"),
        (("--report", "report.html"), "figures are not written as '.html'"),
    ],
)
def test_what_cannot_be_measured_is_refused(flags: tuple[str, str], message: str, cli, resnet: Path) -> None:
    run = cli("profile", resnet, *flags)
    assert (run.code, run.out) == (2, "")
    assert message in run.err


def test_a_batch_that_the_model_fixes(cli, tmp_path: Path) -> None:
    model = tmp_path / "fixed.onnx"
    model.write_bytes(model_bytes(model_from_text("g (float[2,8] x) => (float[2,8] y) { y = Relu(x) }")))
    assert cli("profile", model, *SHORT).code == 0
    run = cli("profile", model, "--batch", "3")
    assert (run.code, run.out) == (2, "")
    assert "batch 3 is not for this model: 2 is fixed" in run.err


def test_a_provider_that_is_not_installed(cli, resnet: Path) -> None:
    run = cli("profile", resnet, "--provider", "tensorrt:fp16=1")
    assert (run.code, run.out) == (5, "")
    assert "TensorrtExecutionProvider" in run.err


def test_a_plug_in_that_is_none(cli, resnet: Path, tmp_path: Path) -> None:
    library = tmp_path / "libnothing.so"
    library.write_bytes(b"no library")
    run = cli("profile", resnet, "--provider", str(library))
    assert (run.code, run.out) == (5, "")
    assert "cannot be loaded" in run.err


def test_the_verdict_says_no_more_than_the_interval() -> None:
    assert speed_sentence(Ratio(0.5, 0.45, 0.55)) == "2.0x faster"
    assert speed_sentence(Ratio(1.25, 1.1, 1.4)) == "1.2x SLOWER"
    assert speed_sentence(Ratio(0.97, 0.93, 1.01)) == "no significant difference in latency"


def test_long_names_keep_both_ends() -> None:
    assert _short(("/a/Conv",)) == "/a/Conv"
    assert _short(("/stages/stages.0/conv1/Conv", "b", "c"), 20) == "/stag..conv1/Conv +2"
