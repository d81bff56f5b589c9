"""How long `modelopt --help` takes, against the import of typer alone; interleaved, median of 15."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 15
GOAL = 2.5
COMMANDS = {
    "python -c 'import typer'": [sys.executable, "-c", "import typer"],
    "modelopt --help": [sys.executable, "-m", "modelopt_cli", "--help"],
    "modelopt compress --help": [sys.executable, "-m", "modelopt_cli", "compress", "--help"],
    "modelopt --version": [sys.executable, "-m", "modelopt_cli", "--version"],
}


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            taken[name].append(seconds(command))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    base = next(iter(medians.values()))
    print("## Start-up")
    for name, median in medians.items():
        print(f"{name:28} {median * 1000:6.0f} ms   {median / base:4.2f}x")
    print(f"goal: modelopt --help within {GOAL}x\n")


if __name__ == "__main__":
    main()
