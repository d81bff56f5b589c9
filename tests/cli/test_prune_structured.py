"""`modelopt prune --structured` and `modelopt inspect --prunable`."""

from __future__ import annotations

from pathlib import Path

import onnx


def test_channels_leave_and_the_report_says_which(cli, samples: Path, tmp_path: Path) -> None:
    source, out = samples / "digits_lstm", tmp_path / "small.onnx"
    run = cli(
        "prune", source / "model.onnx", "--structured", "--parameters", "0.7", "--calib", source / "calib.npz",
        "-o", out, "--json", "--set", "steps.prune-channels.samples=16", "--set", "profile.seconds=0.2",
    )  # fmt: skip
    assert run.code == 0, run.err
    details = run.json["steps"][-1]["details"]
    (sizes,) = details["groups"].values()
    assert sizes[1] < sizes[0] == 128
    node = next(node for node in onnx.load(out).graph.node if node.op_type == "LSTM")
    assert next(each.i for each in node.attribute if each.name == "hidden_size") == sizes[1]


def test_without_data_it_says_what_is_missing(cli, samples: Path, tmp_path: Path) -> None:
    run = cli("prune", samples / "digits_lstm" / "model.onnx", "--structured", "-o", tmp_path / "out.onnx")
    assert run.code == 2
    assert "prune-channels: needs calibration data" in run.err


def test_flags_of_two_ways_to_prune_do_not_mix(cli, samples: Path, tmp_path: Path) -> None:
    model, out = samples / "digits_lstm" / "model.onnx", tmp_path / "out.onnx"
    assert "--structured" in (run := cli("prune", model, "--macs", "0.5", "-o", out)).err
    assert run.code == 2
    run = cli("prune", model, "--structured", "--sparsity", "0.5", "-o", out)
    assert (run.code, "sets weights to zero" in run.err) == (2, True)


def test_inspect_shows_what_can_leave_and_why_not_the_rest(cli, samples: Path) -> None:
    run = cli("inspect", "--prunable", samples / "digits_vit" / "model.onnx", "--json")
    kinds = [(group["kind"], group["size"]) for group in run.json["groups"]]
    assert kinds == [("heads", 4), ("channels", 128)] * 4
    assert len(run.json["branches"]) == 8  # attention and feed-forward half of each of four layers
    assert {"name": "node_linear_16", "reason": "it is an output of the model"} in run.json["held"]
    assert "normalises its channels together" in " ".join(
        cli("inspect", "--prunable", samples / "digits_vit/model.onnx").out.split()
    )


def test_inspect_looks_at_what_pruning_gets(cli, samples: Path) -> None:
    """The exporter's initial states are computed; only simplified are they none, and its units free to leave."""
    run = cli("inspect", "--prunable", samples / "digits_lstm" / "model.onnx", "--json")
    assert [(group["name"], group["kind"], group["size"]) for group in run.json["groups"]] == [
        ("/lstm/LSTM", "units", 128)
    ]
