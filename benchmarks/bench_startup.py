"""Start-up.

How long `modelopt --help` takes, against the import of typer alone; interleaved, median of 15. Goal: within 2.5x.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.table import table

ROUNDS = 15
COMMANDS = {
    'python -c "import typer"': [sys.executable, "-c", "import typer"],
    "modelopt --help": [sys.executable, "-m", "modelopt_cli", "--help"],
    "modelopt compress --help": [sys.executable, "-m", "modelopt_cli", "compress", "--help"],
    "modelopt --version": [sys.executable, "-m", "modelopt_cli", "--version"],
}


def run() -> str:
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            taken[name].append(_seconds(command))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    base = next(iter(medians.values()))
    rows = [(f"`{name}`", f"{median * 1000:.0f}", f"{median / base:.2f}") for name, median in medians.items()]
    return table(("command", "ms:", "ratio:"), rows)


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started
