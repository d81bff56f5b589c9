"""Device memory and energy, with a stand-in for NVIDIA's library: a machine without a device cannot have another."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from modelopt_cli.graph.io import save_model
from modelopt_cli.profiling import memory, nvml, throughput
from modelopt_cli.profiling.nvml import device_bytes, device_joules, runs_on_nvidia
from modelopt_cli.testing import model_from_text

X = {"x": np.ones(1, np.float32)}


class Refused(Exception):
    """As the library's own."""


class Library(SimpleNamespace):
    """Two devices that hold 1 MB and 2 MB more, and draw 5 J more, each time that somebody asks."""

    NVMLError = Refused

    def __init__(self, *, count: int = 2, driver: bool = True, counts_energy: bool = True) -> None:
        super().__init__(count=count, driver=driver, counts_energy=counts_energy, asked=0)

    def nvmlInit(self) -> None:
        if not self.driver:
            raise Refused

    def nvmlDeviceGetCount(self) -> int:
        return int(self.count)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetMemoryInfo(self, device: int) -> SimpleNamespace:
        self.asked += device == 0
        return SimpleNamespace(used=self.asked * (device + 1) * 1_000_000)

    def nvmlDeviceGetTotalEnergyConsumption(self, device: int) -> int:
        if not self.counts_energy:
            raise Refused
        self.asked += 1
        return int(self.asked) * 5000


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    nvml._devices.cache_clear()
    yield
    nvml._devices.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch, library: Library | None) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library)  # None: not installed


def test_all_devices_count(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Library())
    assert device_bytes() == 3_000_000
    assert device_joules() == pytest.approx(10 + 15)


@pytest.mark.parametrize("library", [None, Library(driver=False), Library(count=0)])
def test_no_library_no_driver_and_no_device_tell_nothing(
    library: Library | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, library)
    assert device_bytes() is None
    assert device_joules() is None


def test_an_old_device_counts_no_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Library(counts_energy=False))
    assert device_joules() is None
    assert device_bytes() == 3_000_000


@pytest.mark.parametrize(
    ("provider", "on_nvidia"), [("cpu", False), ("cuda", True), ("tensorrt:fp16=1", True), ("openvino", False)]
)
def test_who_computes_there(provider: str, on_nvidia: bool) -> None:
    assert runs_on_nvidia(provider) is on_nvidia


@pytest.mark.parametrize("on_nvidia", [True, False])
def test_growth_while_a_model_runs(on_nvidia: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, Library())
    model = model_from_text("g (float[1] x) => (float[1] y) { y = Neg(x) }")
    for module in (memory, throughput):
        monkeypatch.setattr(module, "runs_on_nvidia", lambda _: on_nvidia)
    found = throughput.measure_throughput(model, X, seconds=0.01)
    assert (found.device_joules_per_run is not None) is on_nvidia
    path, feeds = f"{tmp_path}/m.onnx", f"{tmp_path}/f.npz"
    save_model(model, Path(path))
    np.savez(feeds, i0=X["x"])
    footprint = memory._measure_here(path, feeds, ["x"], "cpu", 1, {})
    assert footprint.device_bytes == (3_000_000 if on_nvidia else None)
