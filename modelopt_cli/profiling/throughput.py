"""What a machine gets done of one model: runs per second of several streams, processors kept busy, energy per run."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from modelopt_cli.errors import UsageError
from modelopt_cli.profiling.conditions import between, snapshot
from modelopt_cli.profiling.nvml import device_joules, runs_on_nvidia
from modelopt_cli.profiling.session import Model, Session, loadable, run
from modelopt_cli.profiling.timing import Setting
from modelopt_cli.profiling.track import Feeds


@dataclass(frozen=True)
class Throughput:
    """One model running alone, as fast as it can.

    Attributes:
        streams: Requests in flight at once, on one session.
        runs_per_s: Runs that were finished in a second, all streams together.
        cpu_use: Processors that the process kept busy, on average.
        joules_per_run: Energy of the whole processor package for each run; None where it is not readable.
        device_joules_per_run: Energy of NVIDIA devices for each run; None on other providers, and where nobody counts.
    """

    streams: int
    runs_per_s: float
    cpu_use: float
    joules_per_run: float | None
    device_joules_per_run: float | None = None


def measure_throughput(
    model: Model, feeds: Feeds, setting: Setting | None = None, *, streams: int = 1, seconds: float = 0.5
) -> Throughput:
    """Run a model without pause from ``streams`` threads at once.

    Args:
        model: See `open_session`.
        feeds: One batch of inputs; a run is one such batch.
        setting: Default: one thread for each stream on the CPU.
        streams: Threads that call the session.
        seconds: How long.

    Raises:
        UsageError: No stream, or no time.
        ModelError: The model cannot be loaded or run.
        ProviderError: The provider is missing or did not take the model.
    """
    if streams < 1 or seconds <= 0:
        raise UsageError(f"cannot measure {streams} streams for {seconds:g} s", where="--streams")
    with loadable(model) as source:
        setting = setting or Setting()
        session = setting.open(source)
        on_device = runs_on_nvidia(setting.provider)
        run(session, feeds)
        with ThreadPoolExecutor(streams) as pool:
            drawn = device_joules() if on_device else None
            before = snapshot()
            end = before.seconds + seconds
            counts = list(pool.map(lambda _: _run_until(session, feeds, end), range(streams)))
            after = snapshot()
            drawn = None if drawn is None else (device_joules() or drawn) - drawn
    done = sum(counts)
    found = between(before, after)
    per_run = None if found.joules is None else found.joules / done
    on_device_per_run = None if drawn is None else drawn / done
    return Throughput(streams, done / (after.seconds - before.seconds), found.cpu_use, per_run, on_device_per_run)


def _run_until(session: Session, feeds: Feeds, end: float) -> int:
    done = 0
    while done == 0 or time.perf_counter() < end:
        session.run(None, feeds)
        done += 1
    return done
