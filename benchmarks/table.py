"""Markdown tables, and the commands whose figures go into them."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "sample_models"
ZOO = ROOT.parent / "shared" / "zoo"  # real models, where they lie beside the checkout

# A small process between us and the command: a child's peak memory starts at its parent's size, and ours is large.
_LAUNCH = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.run(sys.argv[2:], stdin=subprocess.DEVNULL).returncode
seconds, usage = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
facts = [code, seconds, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime]
json.dump(facts, open(sys.argv[1], "w"))
"""


@dataclass(frozen=True)
class Run:
    """A finished command: exit code, wall and processor seconds, peak resident megabytes, what it printed on stdout."""

    code: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    stdout: str


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; numbers are right-aligned by giving the column's title a trailing colon."""
    marks = ["--:" if title.endswith(":") else ":--" for title in head]
    lines = [[title.rstrip(":") for title in head], marks, *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def run(command: Sequence[str | Path]) -> Run:
    """Run a command alone and account for it; its stderr passes through."""
    with tempfile.TemporaryDirectory() as folder:
        facts = Path(folder) / "facts.json"
        done = subprocess.run(
            [sys.executable, "-c", _LAUNCH, str(facts), *map(str, command)],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        code, seconds, peak, cpu = json.loads(facts.read_text())
    return Run(code, seconds, cpu, peak, done.stdout)


def modelopt(*arguments: str | Path) -> Run:
    """Run this checkout's command line."""
    return run([sys.executable, "-m", "modelopt_cli", *arguments])


def compress(model: Path, recipe: str, output: Path, *more: str | Path) -> tuple[Run, dict[str, Any]]:
    """Run ``modelopt compress`` with a JSON report; the run and the report.

    Raises:
        RuntimeError: It failed for another reason than a missed gate.
    """
    report = output.with_suffix(".json")
    done = modelopt("compress", model, "--recipe", recipe, "-o", output, "--report", report, "--quiet", *more)
    if done.code not in (0, 1):
        raise RuntimeError(f"modelopt compress {model} ended with {done.code}")
    return done, json.loads(report.read_text())


def peak_of_this_process_mb() -> float:
    """Peak resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
