"""Several models in one call: where each result goes, and that one bad model does not stop the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelopt_cli.graph.io import save_model
from modelopt_cli.testing import model_from_text

QUICK = ("--set", "profile.seconds=0.02")
TEXT = "g (float[n, 8] x) => (float[n, 8] y) { a = Identity(x) y = MatMul(a, w) }"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models, and the folder as working directory, as a shell's ``*.onnx`` sees it."""
    for seed, name in enumerate(("a", "b")):
        weight = np.random.default_rng(seed).standard_normal((8, 8), np.float32)
        save_model(model_from_text(TEXT, w=weight), tmp_path / f"{name}.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_goes_into_the_folder_with_a_report_of_its_own(cli, folder: Path) -> None:
    run = cli("fuse", "a.onnx", "b.onnx", "-o", "out/", "--report", "out/{stem}.json", *QUICK)
    assert run.code == 0, run.err
    names = sorted(path.name for path in (folder / "out").iterdir())
    assert names == ["a.fuse.onnx", "a.json", "b.fuse.onnx", "b.json"]
    assert [line.split()[0] for line in run.out.splitlines() if ".onnx" in line] == ["a.onnx", "b.onnx"]
    assert "1 of 2: a.onnx" in run.err


def test_the_same_bytes_as_alone(cli, folder: Path) -> None:
    assert cli("fuse", "a.onnx", "b.onnx", "-o", "out/", "-q", *QUICK).code == 0
    assert cli("fuse", "b.onnx", "-o", "alone.onnx", "-q", *QUICK).code == 0
    assert (folder / "out" / "b.fuse.onnx").read_bytes() == (folder / "alone.onnx").read_bytes()


def test_without_a_folder_beside_each(cli, folder: Path) -> None:
    run = cli("fuse", "a.onnx", "b.onnx", "--json", *QUICK)
    assert [each["output"] for each in run.json] == ["a.fuse.onnx", "b.fuse.onnx"]


def test_one_bad_model_is_named_and_the_others_are_made(cli, folder: Path) -> None:
    (folder / "bad.onnx").write_text("text")
    run = cli("fuse", "a.onnx", "bad.onnx", "b.onnx", "-o", "out/", "--json", "-q", *QUICK)
    assert run.code == 3
    assert run.err == "modelopt: error: bad.onnx: is not an ONNX model, or is truncated\n"
    assert [each.get("exit_code") for each in run.json] == [None, 3, None]
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["a.fuse.onnx", "b.fuse.onnx"]


def test_missed_requirements_are_said_for_each(cli, folder: Path) -> None:
    run = cli("fuse", "a.onnx", "b.onnx", "-q", "--set", "require.max_size_ratio=0.1", "--strict-output", *QUICK)
    assert run.code == 1
    assert [line.split(":")[2].strip() for line in run.err.splitlines() if "error" in line] == ["a.onnx", "b.onnx"]
    assert not list(folder.glob("*.fuse.onnx"))


def test_a_folder_holds_for_one_model_too(cli, folder: Path) -> None:
    (folder / "out").mkdir()
    assert cli("fuse", "a.onnx", "-o", "out", "-q", *QUICK).code == 0
    assert (folder / "out" / "a.fuse.onnx").is_file()


def test_a_dry_run_makes_no_folder(cli, folder: Path) -> None:
    run = cli("fuse", "a.onnx", "b.onnx", "-o", "out/", "--report", "out/{stem}.md", "--dry-run")
    assert run.code == 0, run.err
    assert "out/b.fuse.onnx" in run.out
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.onnx", "b.onnx", "-o", "one.onnx"], "one.onnx: is one file for several models"),
        (["a.onnx", "b.onnx", "--report", "r.md"], "put {stem} into the name: {stem}.r.md"),
        (["a.onnx", "./a.onnx", "-o", "out/"], "would hold the results of both"),
        (["a.onnx", "-"], "a pipe carries one model"),
        (["a.onnx", "b.onnx", "-o", "-"], "a pipe carries one model"),
        (["a.onnx", "b.onnx", "-o", "no/such/"], "the folder no does not exist"),
        (["a.onnx", "absent.onnx"], "absent.onnx: no such file"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_made(words: list[str], message: str, cli, folder: Path) -> None:
    run = cli("fuse", *words)
    assert run.code in (2, 3)
    assert message in run.err
    assert not list(folder.glob("*.fuse.onnx"))
