from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from modelopt_cli.graph.io import load_model, save_model
from modelopt_cli.testing import model_from_text

QUICK = ("--set", "profile.seconds=0.02", "--quiet")


def net(path: Path, scale: float = 2.0) -> Path:
    rng = np.random.default_rng(0)
    weights = {"k": rng.standard_normal((4, 4, 3, 3)).astype(np.float32), "s": np.float32([scale])}
    text = "g (float[n,4,h,w] x) => (float[n,4,h2,w2] y) { c = Conv(x, k) m = Mul(c, s) t = Tanh(m) y = Mul(s, t) }"
    save_model(model_from_text(text, **weights), path)
    return path


def test_explain_names_what_fused_and_what_did_not(cli: Callable[..., Any], tmp_path: Path) -> None:
    source = net(tmp_path / "m.onnx")
    done = cli("fuse", source, "-o", tmp_path / "o.onnx", "--explain", *QUICK)
    assert done.code == 0
    assert "fold-affine-after" in done.out and "1 applied" in done.out
    refusal = next(line for line in done.out.splitlines() if "not: what it computes is an output" in line)
    assert refusal.startswith("  1 not")
    assert cli("fuse", source, "-o", tmp_path / "o.onnx", "--explain", "--json", *QUICK).code == 2


def test_rules_are_chosen_by_name(cli: Callable[..., Any], tmp_path: Path) -> None:
    source, out = net(tmp_path / "m.onnx"), tmp_path / "o.onnx"
    assert cli("fuse", source, "-o", out, "--skip", "fold-affine-after", *QUICK).code == 0
    assert len(load_model(out).model.graph) == 4
    assert cli("fuse", source, "-o", out, "--only", "fold-affine-after", *QUICK).code == 0
    assert len(load_model(out).model.graph) == 3
    refused = cli("fuse", source, "-o", out, "--only", "fold-afine-after")
    assert refused.code == 2 and "did you mean 'fold-affine-after'" in refused.err
    assert cli("fuse", source, "-o", out, "--only", "fold-pad", "--recipe", "fuse").code == 2


def test_inputs_are_pinned(cli: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "o.onnx"
    assert cli("fuse", net(tmp_path / "m.onnx"), "-o", out, "--pin", "x=1x4x8x8", *QUICK).code == 0
    assert str(load_model(out).model.graph.inputs[0].shape) == "[1,4,8,8]"
    refused = cli("fuse", net(tmp_path / "m.onnx"), "-o", out, "--pin", "x=1x4xHx8")
    assert refused.code == 2 and "--pin" in refused.err


def test_dimensions_of_inputs_are_named(cli: Callable[..., Any], tmp_path: Path) -> None:
    source, out = tmp_path / "m.onnx", tmp_path / "o.onnx"
    save_model(
        model_from_text("g (float[a,b] x, float[c,d,4] z) => (float[a,b] y, float[c,d,4] v) { y = Abs(x) v = Abs(z) }"),
        source,
    )
    assert cli("fuse", source, "-o", out, "--name-dims", "x=n,seq", "--name-dims", "z=n,seq,4", *QUICK).code == 0
    assert [str(value.shape) for value in load_model(out).model.graph.inputs] == ["[n,seq]", "[n,seq,4]"]
    for wrong in ("x=1x4", "x", "=n", "x=n,,m", "x=n,2a"):
        refused = cli("fuse", source, "-o", out, "--name-dims", wrong)
        assert refused.code == 2 and "--name-dims" in refused.err
    assert cli("fuse", source, "-o", out, "--name-dims", "x=n,m", "--name-dims", "x=n,m").code == 2
    assert cli("fuse", source, "-o", out, "--name-dims", "x=n,m", "--recipe", "fuse").code == 2


def test_diff_says_what_differs_and_whether_outputs_do(cli: Callable[..., Any], tmp_path: Path) -> None:
    a, fused, other = net(tmp_path / "a.onnx"), tmp_path / "f.onnx", net(tmp_path / "b.onnx", scale=3)
    assert cli("fuse", a, "-o", fused, *QUICK).code == 0
    same = cli("diff", a, fused)
    assert same.code == 0 and "same" in same.out and "Mul" in same.out
    differs = cli("diff", a, other)
    assert differs.code == 1 and "DIFFERS" in differs.out and "outputs differ: 'y'" in differs.err
    assert cli("diff", a, other, "--rtol", "10").code == 0
    facts = cli("diff", a, fused, "--json").json
    assert facts["nodes"] == [4, 3] and facts["ops"] == {"Mul": [2, 1]} and facts["same_outputs"] is True
    assert facts["outputs"][0]["relative"] < 1e-5
    assert cli("diff", a, tmp_path / "none.onnx").code == 3


def test_several_reports_of_one_run(cli: Callable[..., Any], tmp_path: Path) -> None:
    output, reports = tmp_path / "o.onnx", [tmp_path / "r.json", tmp_path / "r.md"]
    words = [word for path in reports for word in ("--report", path)]
    assert cli("fuse", net(tmp_path / "a.onnx"), "-o", output, "-q", *words).code == 0
    assert json.loads(reports[0].read_text())["output"] == str(output)
    assert "o.onnx" in reports[1].read_text()


def test_two_reports_in_one_file_are_refused(cli: Callable[..., Any], tmp_path: Path) -> None:
    output, report = tmp_path / "o.onnx", tmp_path / "r.md"
    done = cli("fuse", net(tmp_path / "a.onnx"), "-o", output, "--report", report, "--report", report)
    assert (done.code, output.exists()) == (2, False)
    assert "is named twice" in done.err
