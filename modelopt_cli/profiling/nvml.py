"""What NVIDIA's management library tells of the devices, memory in use and energy; nothing where it is missing."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from modelopt_cli.profiling.providers import parse_provider

_ON_IT = frozenset({"CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"})


def runs_on_nvidia(provider: str) -> bool:
    """Whether a provider, as the user names it, computes on these devices."""
    return any(name in _ON_IT for name in parse_provider(provider).names)


def device_bytes() -> int | None:
    """Memory in use on all devices, by everybody: a container does not see which processes of the host are its own."""
    found = _devices()
    return sum(int(nvml.nvmlDeviceGetMemoryInfo(device).used) for nvml, device in found) if found else None


def device_joules() -> float | None:
    """Energy that all devices took since the driver was loaded; None where one does not count it (before Volta)."""
    found = _devices()
    if not found:
        return None
    try:
        return sum(float(nvml.nvmlDeviceGetTotalEnergyConsumption(device)) for nvml, device in found) / 1e3
    except found[0][0].NVMLError:
        return None


@functools.cache
def _devices() -> tuple[tuple[Any, Any], ...]:
    """The library with each device; the package is ``nvidia-ml-py``, which the extra ``gpu`` installs."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return ()
    try:
        nvml.nvmlInit()
        return tuple((nvml, nvml.nvmlDeviceGetHandleByIndex(index)) for index in range(nvml.nvmlDeviceGetCount()))
    except nvml.NVMLError:
        return ()  # no driver
