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
    """

    load_ms: float
    first_run_ms: float
    peak_bytes: int
    session_bytes: int


def measure_footprint(
    model: Model, feeds: Mapping[str, np.ndarray], *, provider: str = "cpu", threads: int = 1
) -> Footprint:
    """Load and run a model in a process of its own.

    Raises:
        ModelError: It cannot be loaded or run, or the process was killed (out of memory).
    """
    with tempfile.TemporaryDirectory(prefix="modelopt-") as name, loadable(model) as source:
        folder = Path(name)
        path = source if isinstance(source, Path) else folder / "model.onnx"
        if isinstance(source, bytes):
            path.write_bytes(source)
        inputs = folder / "feeds.npz"
        arrays: dict[str, Any] = {f"i{n}": array for n, array in enumerate(feeds.values())}
        np.savez(inputs, **arrays)
        job = json.dumps([str(path), str(inputs), list(feeds), provider, threads])
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
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource  # not on Windows, where nothing in the standard library tells it

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _measure_here(path: str, inputs: str, names: list[str], provider: str, threads: int) -> Footprint:
    runtime()  # its libraries are not the model's
    with np.load(inputs) as arrays:
        feeds = {name: arrays[f"i{n}"] for n, name in enumerate(names)}
    before, start = peak_resident_bytes(), time.perf_counter()
    session = open_session(Path(path), provider=provider, threads=threads)
    loaded = time.perf_counter()
    run(session, feeds)
    first = time.perf_counter()
    for _ in range(TIMED_RUNS):
        run(session, feeds)
    peak = peak_resident_bytes()
    return Footprint((loaded - start) * 1e3, (first - loaded) * 1e3, peak, peak - before)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(vars(_measure_here(*json.loads(sys.argv[1])))))
