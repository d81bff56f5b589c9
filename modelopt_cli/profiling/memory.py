"""What one model costs a process: peak memory, time to load, time of the first run. Measured in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelopt_cli.errors import ModelError
from modelopt_cli.profiling.nvml import device_bytes, runs_on_nvidia
from modelopt_cli.profiling.session import Model, loadable, open_session, run, runtime

TIMED_RUNS = 3


@dataclass(frozen=True)
class Footprint:
    """What one model costs a process.

    Attributes:
        load_ms: To create the session.
        first_run_ms: Of the first run, which allocates.
        peak_bytes: Most resident memory of the process that loaded the model and ran it.
        session_bytes: That less what the process had before the session: the model's own share.
        steady_bytes: Resident memory after the runs, less what the process had before the session; None where the
            system does not tell.
        device_bytes: What the memory in use on NVIDIA devices grew by, the driver's context included; the runtime's
            arena keeps what it had at its peak. None on other providers and without the extra ``gpu``.
    """

    load_ms: float
    first_run_ms: float
    peak_bytes: int
    session_bytes: int
    steady_bytes: int | None = None
    device_bytes: int | None = None


def measure_footprint(
    model: Model,
    feeds: Mapping[str, np.ndarray],
    *,
    provider: str = "cpu",
    threads: int = 1,
    config: Mapping[str, str] | None = None,
) -> Footprint:
    """Load and run a model in a process of its own; arguments as of `open_session`.

    Raises:
        ModelError: It cannot be loaded or run, or the process was killed (out of memory).
    """
    with tempfile.TemporaryDirectory(prefix="modelopt-") as name, loadable(model) as source:
        folder = Path(name)
        path = source if isinstance(source, Path) else folder / "model.onnx"
        if isinstance(source, bytes):
            path.write_bytes(source)
        inputs = folder / "feeds.npz"
        arrays: dict[str, Any] = {f"i{n}": _storable(array) for n, array in enumerate(feeds.values())}
        np.savez(inputs, **arrays)
        job = json.dumps([str(path), str(inputs), list(feeds), provider, threads, dict(config or {})])
        done = subprocess.run(
            [sys.executable, "-m", __name__, job], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["killed, most likely for want of memory"])[-1]
        raise ModelError(f"cannot be measured in a process of its own: {last}")
    return Footprint(**json.loads(done.stdout))


def peak_resident_bytes() -> int:
    """Most resident memory that this process has had so far.

    Linux tells it for this program alone (VmHWM); elsewhere ``ru_maxrss`` has to do, which a child inherits.
    """
    peak = _status("VmHWM")
    if peak is not None:
        return peak
    import resource  # not on Windows, where nothing in the standard library tells it

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def resident_bytes() -> int:
    """Resident memory of this process now; its peak where the system tells no more."""
    now = _status("VmRSS")
    return peak_resident_bytes() if now is None else now


def available_bytes(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Memory that this process may still have: of the machine with its swap, and of the container; None if untold."""
    found = []
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        kilobytes = (int(lines[key].split()[0]) for key in ("MemAvailable", "SwapFree") if key in lines)
        found.append(sum(kilobytes) * 1024)
    limit, used = cgroup / "memory.max", cgroup / "memory.current"
    if limit.is_file() and used.is_file() and (text := limit.read_text().strip()) != "max":
        found.append(max(int(text) - int(used.read_text()), 0))
    return min(found) if found else None


def _status(field: str) -> int | None:
    """A field of Linux's description of this process, in bytes."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def _storable(array: np.ndarray) -> np.ndarray:
    """Texts as an archive holds them without pickling."""
    return array.astype(str) if array.dtype == object else array


def _fed(array: np.ndarray) -> np.ndarray:
    return array.astype(object) if array.dtype.kind == "U" else array


def _measure_here(
    path: str, inputs: str, names: list[str], provider: str, threads: int, config: dict[str, str]
) -> Footprint:
    runtime()  # its libraries are not the model's
    with np.load(inputs) as arrays:
        feeds = {name: _fed(arrays[f"i{n}"]) for n, name in enumerate(names)}
    on_device = device_bytes() if runs_on_nvidia(provider) else None
    before, start = peak_resident_bytes(), time.perf_counter()
    session = open_session(Path(path), provider=provider, threads=threads, config=config)
    loaded = time.perf_counter()
    run(session, feeds)
    first = time.perf_counter()
    for _ in range(TIMED_RUNS):
        run(session, feeds)
    peak, steady = peak_resident_bytes(), _status("VmRSS")
    own = None if steady is None else max(steady - before, 0)
    grown = None if on_device is None else max((device_bytes() or 0) - on_device, 0)
    return Footprint((loaded - start) * 1e3, (first - loaded) * 1e3, peak, peak - before, own, grown)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(vars(_measure_here(*json.loads(sys.argv[1])))))
