"""What the machine did while something was timed: who else ran, whether it throttled, what it drew."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from modelopt_cli.profiling.statistics import Latency

BUSY_SHARE = 0.1  # of the machine's processors, taken by others
STEAL_SHARE = 0.02
SLOWDOWN = 0.05
OUTLIER_SHARE = 0.05
_CGROUP = Path("/sys/fs/cgroup")
_CPUS = Path("/sys/devices/system/cpu")
_RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Snapshot:
    """Counters of the machine at one moment; None where the system does not tell.

    Attributes:
        seconds: Monotonic clock.
        process_s: CPU time of this process, all threads.
        ticks: Busy, stolen and all ticks of all processors.
        throttled_s: Time that the quota of our control group kept us waiting.
        thermal: How often a core was throttled for its heat.
        joules: Energy that the processor packages took (RAPL), each counter by its range.
    """

    seconds: float
    process_s: float
    ticks: tuple[int, int, int] | None
    throttled_s: float | None
    thermal: int | None
    joules: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Conditions:
    """What happened between two snapshots.

    Attributes:
        cpus: Processors that this process may run on.
        others: Share of the machine's processors that other processes took; None where unknown.
        steal: Share that the hypervisor gave to other machines.
        throttled: Share of the time that the quota of the control group kept us waiting.
        thermal: Times a core was throttled for its heat.
        cpu_use: Processors that this process kept busy, on average.
        joules: Energy of the processor packages, everybody's; None where it is not readable.
        governor: The frequency governor, where there is one.
    """

    cpus: tuple[int, ...]
    others: float | None
    steal: float | None
    throttled: float | None
    thermal: int | None
    cpu_use: float
    joules: float | None
    governor: str = ""


@dataclass(frozen=True)
class Finding:
    """Something that makes a figure doubtful, with advice; ``code`` is stable for machines."""

    code: str
    message: str
    advice: str


def snapshot() -> Snapshot:
    """Read the counters; a few file reads."""
    return Snapshot(time.perf_counter(), time.process_time(), _ticks(), _throttled(), _thermal(), _energy())


def between(before: Snapshot, after: Snapshot) -> Conditions:
    """What happened from one snapshot to the next."""
    wall = max(after.seconds - before.seconds, 1e-9)
    own = after.process_s - before.process_s
    others = steal = None
    if before.ticks is not None and after.ticks is not None and after.ticks[2] > before.ticks[2]:
        busy, stolen, total = (new - old for new, old in zip(after.ticks, before.ticks, strict=True))
        steal = stolen / total
        others = max(0.0, busy / total - own / (wall * (os.cpu_count() or 1)))
    throttled = None
    if before.throttled_s is not None and after.throttled_s is not None:
        throttled = (after.throttled_s - before.throttled_s) / wall
    thermal = None if before.thermal is None or after.thermal is None else after.thermal - before.thermal
    return Conditions(
        affinity(), others, steal, throttled, thermal, own / wall, _joules(before.joules, after.joules), _governor()
    )


def affinity() -> tuple[int, ...]:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def findings(conditions: Conditions, latencies: list[Latency], slowdown: float) -> Iterator[Finding]:
    """What makes the figures doubtful.

    Args:
        conditions: While they were taken.
        latencies: The figures.
        slowdown: How much longer everything took at the end than at the beginning; 0.05 is 5 %.
    """
    if conditions.steal is not None and conditions.steal >= STEAL_SHARE:
        message = f"the hypervisor took {conditions.steal:.0%} of the processor time for other machines"
        yield Finding("steal", message, "measure on a machine of its own, or compare ratios only")
    busy = conditions.others is not None and conditions.others >= BUSY_SHARE
    if busy:
        message = f"other processes kept {conditions.others:.0%} of the processors busy"
        yield Finding("busy-machine", message, "measure again when the machine is idle")
    if conditions.throttled:
        message = f"the CPU quota of this container held the process up for {conditions.throttled:.0%} of the time"
        yield Finding("quota", message, "raise the quota, or lower --threads to what it allows")
    if conditions.thermal:
        message = f"cores were throttled {conditions.thermal} times for their heat"
        yield Finding("thermal", message, "let it cool, or measure for longer with a fixed clock")
    elif slowdown >= SLOWDOWN and not busy:  # others come and go: that says nothing of the clock
        message = f"runs took {slowdown:.0%} longer at the end than at the beginning"
        yield Finding("slowdown", message, "the clock may be sinking: the ratio holds, the milliseconds may not")
    worst = max((each.outliers for each in latencies), default=0.0)
    if worst >= OUTLIER_SHARE:
        message = f"{worst:.0%} of the runs were far slower than the median"
        yield Finding("outliers", message, "the median holds; for percentiles measure on a quiet machine")
    if conditions.governor and conditions.governor not in ("performance", "schedutil"):
        message = f"the frequency governor is '{conditions.governor}'"
        yield Finding("governor", message, "cpupower frequency-set -g performance")


def _ticks() -> tuple[int, int, int] | None:
    """Busy without stolen, stolen, total: Linux, man 5 proc_stat."""
    try:
        fields = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    idle, stolen = fields[3] + fields[4], fields[7]
    return sum(fields) - idle - stolen, stolen, sum(fields)


def _throttled() -> float | None:
    with suppress(OSError, ValueError, StopIteration):
        group = Path("/proc/self/cgroup").read_text().strip().rsplit(":", 1)[-1].lstrip("/")
        for path in (_CGROUP / group / "cpu.stat", _CGROUP / "cpu.stat"):
            if path.is_file():
                lines = path.read_text().splitlines()
                return int(next(line for line in lines if line.startswith("throttled_usec")).split()[1]) / 1e6
    return None


def _thermal() -> int | None:
    counts = [path.read_text() for path in _CPUS.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    return sum(map(int, counts)) if counts else None


def _governor() -> str:
    with suppress(OSError):
        return (_CPUS / "cpu0/cpufreq/scaling_governor").read_text().strip()
    return ""


def _energy() -> dict[str, tuple[float, float]]:
    """Joules and range of each package counter; often readable by root only."""
    found = {}
    for zone in _RAPL.glob("intel-rapl:[0-9]*"):
        if zone.name.count(":") == 1:  # a package; sub-zones are part of it
            with suppress(OSError, ValueError):
                top = int((zone / "max_energy_range_uj").read_text())
                found[zone.name] = (int((zone / "energy_uj").read_text()) / 1e6, top / 1e6)
    return found


def _joules(before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]) -> float | None:
    """The counters wrap around at their range."""
    shared = before.keys() & after.keys()
    if not shared:
        return None
    return sum((after[zone][0] - before[zone][0]) % after[zone][1] for zone in shared)
