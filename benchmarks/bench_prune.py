"""Pruning of single weights.

Recipe `prune-50` with a share of zeros of all prunable weights, one shot, 128 calibration samples without labels, no
training. Top-1 on held-out samples; `gzip` is the compressed file and `packed` that of recipe `prune-packed` (bit
mask and int8 values; goal 0.16 at 70 %), both as shares of the original's bytes. CPU seconds and peak MB are of the
whole command, measuring included (goals: 3 minutes on 2 cores, 3 times the model). Magnitude is the drop at the same
share by plain magnitude, for comparison. A drop above its goal is set in bold. efficientnet_lite0 is judged on crops of
20 photos: one photo is five points.
"""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.models import Subject, subjects
from benchmarks.table import compress, table

GOALS: dict[str, dict[float, float]] = {  # points of top-1 that may be lost
    "digits_resnet": {0.5: 0.2, 0.7: 0.3, 0.8: 0.6},
    "digits_mobilenet": {0.5: 0.5, 0.7: 1.0},
    "digits_vit": {0.5: 0.5, 0.7: 2.0},
    "digits_lstm": {0.5: 0.5, 0.7: 2.0},
    "efficientnet_lite0": {0.5: 5.0},
    "minilm_sentiment": {0.5: 0.5, 0.7: 3.0},
}
ONLY = tuple(filter(None, os.environ.get("MODELOPT_BENCH_MODELS", "").split(",")))  # names; none: all
HEAD = ("model", "zeros:", "top-1:", "drop:", "goal:", "magnitude:", "agreement:", "gzip:", "packed:", "CPU s:", "MB:")


def run() -> str:
    chosen = [subject for subject in subjects() if subject.name in (ONLY or GOALS) and subject.name in GOALS]
    return table(HEAD, [row for subject in chosen for row in _rows(subject)])


def _rows(subject: Subject) -> list[tuple[object, ...]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = {which: subject.write_data(which, folder / f"{which}.npz") for which in ("calib", "eval")}
        return [_row(subject, share, goal, data, folder / "out.onnx") for share, goal in GOALS[subject.name].items()]


def _row(subject: Subject, share: float, goal: float, data: dict[str, Path], out: Path) -> tuple[object, ...]:
    flags = ("--eval", data["eval"], "--set", f"steps.prune.sparsity={share}")
    size = subject.model.stat().st_size
    plain = _drop(compress(subject.model, "prune-50", out, *flags)[1])
    compress(subject.model, "prune-packed", out, "--set", f"steps.prune.sparsity={share}")
    packed = out.stat().st_size / size
    done, report = compress(subject.model, "prune-50", out, "--calib", data["calib"], *flags)
    found: dict[str, Any] = report["fidelity"]
    drop = _drop(report)
    zipped = len(gzip.compress(out.read_bytes(), mtime=0)) / size
    step = next(step for step in report["steps"] if step["name"] == "prune")
    return (
        subject.name,
        f"{step['details']['sparsity']:.0%}",
        f"{100 * found['accuracy']['result']:.2f}",
        f"{'**' if drop > goal else ''}{drop:.2f}{'**' if drop > goal else ''}",
        f"{goal:.1f}",
        f"{plain:.2f}",
        f"{found['agreement'][0]['top1']:.1%}",
        f"{zipped:.3f}",
        f"{packed:.3f}",
        f"{done.cpu_seconds:.0f}",
        f"{done.peak_mb:.0f}",
    )


def _drop(report: dict[str, Any]) -> float:
    """Points of top-1 that were lost."""
    accuracy = report["fidelity"]["accuracy"]
    return 100 * float(accuracy["original"] - accuracy["result"])
