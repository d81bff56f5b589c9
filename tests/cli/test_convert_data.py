from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from modelopt_cli.graph.io import save_model
from modelopt_cli.testing import model_from_text

VECTOR = model_from_text("g (float[n, 3] x) => (float[n, 3] y) { a = Identity(x)  y = Relu(a) }")


def test_a_table_becomes_an_archive_under_the_models_name(cli, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,c,label\n1,2,3,0\n4,5,6,1\n")
    save_model(VECTOR, tmp_path / "m.onnx")
    run = cli("convert-data", tmp_path / "t.csv", "--model", tmp_path / "m.onnx", "-o", tmp_path / "t.npz")
    assert (run.code, run.out) == (0, f"written: {tmp_path / 't.npz'}, 2 samples of x, label\n")
    with np.load(tmp_path / "t.npz") as found:
        assert found["x"].tolist() == [[1, 2, 3], [4, 5, 6]] and found["label"].tolist() == [0, 1]


def test_an_archive_goes_through_a_pipe_into_compress(process, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"x": [n, 1, 2]}) + "\n" for n in range(4)))
    save_model(VECTOR, tmp_path / "m.onnx")
    first = process(
        "convert-data", tmp_path / "t.jsonl", "-o", "-", "--samples", "2", "--model", tmp_path / "m.onnx", "-q"
    )
    with np.load(io.BytesIO(first.out_bytes)) as found:
        assert found["x"].shape == (2, 3)
    flags = ("-o", tmp_path / "o.onnx", "--set", "profile.seconds=0.1", "--json")
    second = process("fuse", tmp_path / "m.onnx", "--calib", "-", *flags, stdin=first.out_bytes)
    assert second.code == 0, second.err
    assert second.json["fidelity"]["samples"] == 2


def test_stdin_holds_one_thing(cli) -> None:
    run = cli("fuse", "-", "--calib", "-", "-o", "x.onnx")
    assert run.code == 2 and "stdin can be read once only" in run.err


def test_code_needs_its_flag(cli, tmp_path: Path) -> None:
    run = cli("convert-data", "some_module:samples", "-o", tmp_path / "t.npz")
    assert run.code == 2 and "is code" in run.err and "--allow-code" in run.err
    assert not list(tmp_path.iterdir())


def test_the_data_is_not_overwritten(cli, tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=np.zeros((1, 3)))
    run = cli("convert-data", tmp_path / "t.npz", "-o", tmp_path / "t.npz")
    assert run.code == 2 and "never overwritten" in run.err
