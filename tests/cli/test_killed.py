"""kill -9 at any moment, and two processes on one output: a reader finds the old file or the new one, whole."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from modelopt_cli.graph import io
from modelopt_cli.graph.io import load_model, model_bytes, save_model
from modelopt_cli.testing import model_from_text

# Writes two contents in turn, as the program writes its result, until it is killed.
WRITER = """
import sys, pathlib
from modelopt_cli.graph.io import load_model, save_model, write_atomically
models = [load_model(pathlib.Path(name)).model for name in sys.argv[2:]]
print("ready", flush=True)
while True:
    for model in models:
        save_model(model, pathlib.Path(sys.argv[1]))
"""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two models of different sizes, as `save_model` writes them."""
    paths = (tmp_path / "a.onnx", tmp_path / "b.onnx")
    for path, width in zip(paths, (300, 500), strict=True):
        text = f"g (float[n, {width}] x) => (float[n, 10] y) {{ y = MatMul(x, w) }}"
        weight = np.random.default_rng(width).standard_normal((width, 10), np.float32)
        save_model(model_from_text(text, w=weight), path)
    return paths


def start(out: Path, *models: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WRITER, str(out), *map(str, models)]
    writer = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    return writer


@pytest.mark.slow
@pytest.mark.parametrize("external", [False, True], ids=["one file", "weights beside it"])
def test_killed_a_hundred_times_the_file_is_whole(
    external: bool, two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    out, rng = folder / "m.onnx", random.Random(0)
    whole = {model_bytes(load_model(path).model) for path in two}
    if external:
        monkeypatch.setattr(io, "EXTERNAL_DATA_ABOVE_BYTES", 1000)
    for _ in range(100):
        pid = os.fork()
        if pid == 0:  # a fork of this process has everything imported: a hundred starts would take minutes
            models = [load_model(path).model for path in two]
            while True:
                for model in models:
                    save_model(model, out)
        time.sleep(rng.uniform(0.0, 0.05))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if out.exists():
            assert model_bytes(load_model(out).model) in whole
    assert out.exists(), "no write ever finished"
    onnx.checker.check_model(str(out), full_check=True)


def test_two_processes_on_one_output_leave_a_whole_file(two: tuple[Path, Path], tmp_path: Path) -> None:
    out, whole = tmp_path / "m.onnx", {digest(path) for path in two}
    writers = [start(out, *order) for order in (two, two[::-1])]
    try:
        seen = set()
        end = time.monotonic() + 1.0
        while time.monotonic() < end or len(seen) < 2:
            if out.exists():
                seen.add(digest(out))
            assert seen <= whole
            assert time.monotonic() < end + 30, "one of the writers never got to write"
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
