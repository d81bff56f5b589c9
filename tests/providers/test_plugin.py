"""Providers that are plug-ins: by the path of a library, and by the package of a wheel."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from .conftest import Run, need

need("onnxruntime-ggml")  # it runs on any CPU
pytestmark = pytest.mark.providers


@pytest.fixture
def library() -> Path:
    spec = importlib.util.find_spec("onnxruntime_ggml")
    assert spec is not None and spec.origin is not None
    (found,) = Path(spec.origin).parent.glob("lib/*.so")
    return found


def test_a_library_by_its_path_takes_the_nodes(modelopt: Run, products: Path, library: Path) -> None:
    done = modelopt("profile", products, "--provider", library, "--duration", "0.2", "--json")
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads(done.stdout)["entries"]
    (share,) = entry["placement"]["shares"]
    assert "ggml" in share["provider"]
    assert share["node_share"] == 1.0


def test_compress_measures_on_it(modelopt: Run, products: Path, library: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    flags = ("--recipe", "fuse", "-o", out, "--set", "profile.seconds=0.2", "--json")
    done = modelopt("compress", products, "--provider", library, *flags)
    assert done.returncode == 0, done.stderr
    assert [each["provider"] for each in json.loads(done.stdout)["latency"]] == [str(library)]


def test_a_model_that_it_does_not_take_is_exit_5(modelopt: Run, resnet: Path, library: Path) -> None:
    done = modelopt("profile", resnet, "--provider", library, "--duration", "0.1")
    assert (done.returncode, done.stdout) == (5, "")
    assert "took none of the nodes (CPUExecutionProvider 100%)" in done.stderr


def test_a_package_runs_or_says_that_it_offers_no_device(modelopt: Run, products: Path) -> None:
    done = modelopt("profile", products, "--provider", "onnxruntime_ep_openvino", "--duration", "0.2")
    if done.returncode:  # on a processor that is not Intel's
        assert done.returncode == 5
        assert "was loaded, but offers no device on this machine" in done.stderr
    else:
        assert "OpenVINOExecutionProvider" in done.stdout
