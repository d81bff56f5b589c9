"""`--if-changed`: nothing is made when the output was made from the same content; anything else makes it anew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from modelopt_cli.graph.io import save_model
from modelopt_cli.testing import model_from_text

TEXT = "g (float[n, 8] x) => (float[n, 8] y) { a = Identity(x) y = MatMul(a, w) }"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELOPT_CACHE_DIR", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    save_model(model_from_text(TEXT, w=rng.standard_normal((8, 8), np.float32)), tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", x=rng.standard_normal((4, 8), np.float32))
    return tmp_path


@pytest.fixture
def fuse(cli, folder: Path) -> Callable[..., bool]:
    """Run it; whether something was made."""

    def run(*more: str, code: int = 0) -> bool:
        words = ("fuse", "m.onnx", "-o", "out.onnx", "--calib", "data.npz", "--if-changed")
        done = cli(*words, "--set", "profile.seconds=0.02", *more)
        assert done.code == code, done.err
        return "out.onnx is up to date" not in done.err

    return run


def test_the_second_time_nothing_is_made_and_all_is_told(fuse, cli, folder: Path) -> None:
    assert fuse()
    os.utime(folder / "out.onnx", (0, 0))
    content = (folder / "out.onnx").read_bytes()
    assert not fuse("--report", "r.json", "--depfile", "out.d")
    assert (folder / "out.onnx").read_bytes() == content
    assert (folder / "out.onnx").stat().st_mtime > 1e9  # make, which looks at times, is content as well
    assert (folder / "r.json").is_file()
    assert (folder / "out.d").read_text().startswith("out.onnx: m.onnx data.npz\n")


def test_times_and_names_do_not_matter(fuse, folder: Path) -> None:
    assert fuse()
    os.utime(folder / "m.onnx")
    assert not fuse()
    shutil.copy(folder / "data.npz", folder / "copy.npz")
    assert not fuse("--calib", "copy.npz")


@pytest.mark.parametrize("what", ["model", "data", "recipe", "flag", "output", "absent"])
def test_whatever_changes_makes_it_anew(what: str, fuse, folder: Path) -> None:
    assert fuse()
    more: tuple[str, ...] = ()
    if what == "model":
        save_model(model_from_text(TEXT, w=np.ones((8, 8), np.float32)), folder / "m.onnx")
    elif what == "data":
        np.savez(folder / "data.npz", x=np.ones((4, 8), np.float32))
    elif what == "recipe":
        more = ("--set", "target.max_opset=17")
    elif what == "flag":
        more = ("--threads", "2")
    elif what == "output":
        (folder / "out.onnx").write_bytes((folder / "out.onnx").read_bytes()[:-1])
    else:
        (folder / "out.onnx").unlink()
    assert fuse(*more)
    assert not fuse(*more)


def test_a_missed_requirement_is_missed_again(fuse) -> None:
    assert fuse("--set", "require.max_size_ratio=0.1", code=1)
    assert not fuse("--set", "require.max_size_ratio=0.1", code=1)


def test_a_pipe_is_always_made(cli, folder: Path) -> None:
    done = cli("fuse", "m.onnx", "-o", "-", "--if-changed")
    assert done.code == 2
    assert "--if-changed: what goes through a pipe is always made" in done.err
