"""Ctrl-C in each phase, a full disk, a reader that goes away: real processes, nothing half written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Sends a signal to itself when a function is called: the phase is exact, the way of the signal is the real one.
HARNESS = """
import os, sys
sent, phase, sys.argv[1:] = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
module, _, name = phase.rpartition(".")
def interrupted(*args, **options):
    os.kill(os.getpid(), sent)
    return original(*args, **options)
class Finder:
    # patches the module when it is first imported, so that nothing is loaded earlier than usual
    def find_spec(self, wanted, path=None, target=None):
        if wanted != module:
            return None
        sys.meta_path.remove(self)
        import importlib.util
        spec = importlib.util.find_spec(wanted)
        execute = spec.loader.exec_module
        def patched(loaded):
            global original
            if name == "__import__":
                os.kill(os.getpid(), sent)
            execute(loaded)
            if name != "__import__":
                original = getattr(loaded, name)
                setattr(loaded, name, interrupted)
        spec.loader.exec_module = patched
        return spec
if module in sys.modules:
    original = getattr(sys.modules[module], name)
    setattr(sys.modules[module], name, interrupted)
else:
    sys.meta_path.insert(0, Finder())
from modelopt_cli.cli.app import main
main()
"""
PHASES = [
    "modelopt_cli.cli.root.__import__",
    "onnx_ir.__import__",
    "onnxruntime.capi.onnxruntime_pybind11_state.__import__",
    "modelopt_cli.graph.io.load_model",
    "modelopt_cli.data.files.open_dataset",
    "modelopt_cli.pipeline.steps.run_steps",
    "modelopt_cli.profiling.timing.compare_latency",
    "modelopt_cli.graph.io.replacing",
    "os.fsync",
]


@pytest.fixture
def model(samples: Path, tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes((samples / "digits_resnet" / "model.onnx").read_bytes())
    return path


def arguments(model: Path, samples: Path) -> list[str]:
    calib = samples / "digits_resnet" / "calib.npz"
    quick = ["--set", "profile.seconds=0.1"]
    report = ["--report", str(model.with_name("r.md"))]
    return ["compress", str(model), "--recipe", "fuse", "--calib", str(calib), *report, *quick]


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c(phase: str, model: Path, samples: Path) -> None:
    interrupted(phase, signal.SIGINT, model, samples)


def test_a_scheduler_ends_it_like_ctrl_c(model: Path, samples: Path) -> None:
    interrupted("modelopt_cli.profiling.timing.compare_latency", signal.SIGTERM, model, samples)


def interrupted(phase: str, sent: signal.Signals, model: Path, samples: Path) -> None:
    before = model.read_bytes()
    command = [sys.executable, "-c", HARNESS, str(int(sent)), phase, *arguments(model, samples)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1] == "modelopt: interrupted"
    assert "Traceback" not in done.stderr
    assert [path.name for path in model.parent.iterdir()] == ["model.onnx"]
    assert model.read_bytes() == before


def test_the_harness_changes_nothing_else(model: Path, samples: Path) -> None:
    command = [sys.executable, "-c", HARNESS, "2", "modelopt_cli.cli.doctor.doctor", *arguments(model, samples)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in model.parent.iterdir()) == ["model.fuse.onnx", "model.onnx", "r.md"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_stdout_on_a_full_disk(model: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "modelopt_cli", "inspect", str(model)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (4, "modelopt: error: the disk is full")


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        # A full disk is only real on a disk; containers and CI runners without the right to mount have none to fill.
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


# Somebody else fills the disk after it was found to have room.
FILLS_UP = """
import sys
from pathlib import Path
import modelopt_cli.pipeline.steps as steps
original = steps.run_steps
def filled(*args, **options):
    try:
        Path(sys.argv[-1]).with_name("somebody.else").write_bytes(bytes(1 << 20))
    except OSError:
        pass
    return original(*args, **options)
steps.run_steps = filled
from modelopt_cli.cli.app import main
main()
"""


@pytest.mark.parametrize(
    ("small_disk", "start", "says"),
    [
        ("64k", ["-m", "modelopt_cli"], "the disk has 61.4 kB left, and a result as large as the source takes 322 kB"),
        ("512k", ["-c", FILLS_UP], "the disk is full; nothing was written"),
    ],
    indirect=["small_disk"],
    ids=["before the work", "during the work"],
)
def test_the_model_on_a_full_disk(model: Path, samples: Path, small_disk: Path, start: list[str], says: str) -> None:
    output = small_disk / "out.onnx"
    output.write_bytes(b"an older result")
    command = [sys.executable, *start, *arguments(model, samples), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 4, done.stderr
    assert f"modelopt: error: {output}: {says}" in done.stderr
    assert output.read_bytes() == b"an older result"
    assert {path.name for path in small_disk.iterdir()} <= {"out.onnx", "somebody.else"}
    assert not model.with_name("r.md").exists()


def test_a_reader_that_goes_away(model: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "modelopt_cli", "inspect", str(model)]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
