"""Structured pruning: what leaving channels out saves and costs.

Recipe steps `simplify`, `fuse` and then the budget shown, on calibration data without labels and without training; and
int8 (`quantize`) after it for one model; a budget of latency is one of the float model's. Latency is a share of the
source's, timed interleaved on one thread, batch 1, for the rows with int8 a share of int8 alone. Drop is points of
top-1 (held-out labels), or the overlap of maps.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.models import Subject, subjects
from benchmarks.table import compress, table
from modelopt_cli.data.binding import bind
from modelopt_cli.data.files import open_dataset
from modelopt_cli.evaluation.compare import compare
from modelopt_cli.graph.io import load_model
from modelopt_cli.profiling.feeds import feeds_for
from modelopt_cli.profiling.timing import compare_latency

SECONDS = 6.0
ONLY = tuple(filter(None, os.environ.get("MODELOPT_BENCH_MODELS", "").split(",")))  # names; none: all
HEAD = ("model", "budget", "MACs:", "parameters:", "latency:", "95 %:", "top-1:", "drop:", "overlap:", "SQNR dB:", "s:")
CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("digits_resnet", "30 % fewer MACs", {"macs": 0.7}),
    ("digits_resnet", "50 % fewer MACs", {"macs": 0.5}),
    ("digits_resnet", "62 % of the latency", {"latency": 0.62}),
    ("digits_mobilenet", "20 % fewer MACs", {"macs": 0.8}),
    ("digits_vit", "25 % fewer parameters, FFN and heads", {"parameters": 0.75, "heads": True}),
    ("digits_lstm", "25 % of units", {"parameters": 0.61}),
    ("efficientnet_lite0", "15 % fewer MACs", {"macs": 0.85}),
    ("minilm_sentiment", "30 % of FFN and heads", {"parameters": 0.8585, "heads": True}),
    ("ppocr_det", "20 % fewer MACs", {"macs": 0.8}),
)
THEN_INT8: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("digits_resnet", "30 % fewer MACs", {"macs": 0.7}),
    ("digits_resnet", "70 % of the latency", {"latency": 0.7}),
)


def run() -> str:
    known = {subject.name: subject for subject in subjects() if not ONLY or subject.name in ONLY}
    rows = [_row(known[name], label, options) for name, label, options in CASES if name in known]
    rows += [_int8(known[name], label, options) for name, label, options in THEN_INT8 if name in known]
    return table(HEAD, rows)


def _row(subject: Subject, label: str, options: dict[str, Any]) -> tuple[object, ...]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calib, held = (subject.write_data(which, folder / f"{which}.npz") for which in ("calib", "eval"))
        done, report = compress(subject.model, _recipe(folder, "pruned", options), folder / "o.onnx", "--calib", calib)
        details = report["steps"][-1]["details"]
        return (*_figures(subject, label, subject.model, folder / "o.onnx", held, details), f"{done.seconds:.0f}")


def _int8(subject: Subject, budget: str, options: dict[str, Any]) -> tuple[object, ...]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calib, held = (subject.write_data(which, folder / f"{which}.npz") for which in ("calib", "eval"))
        both, alone = folder / "both.onnx", folder / "alone.onnx"
        recipe = _recipe(folder, "both", options, "quantize")
        done, report = compress(subject.model, recipe, both, "--calib", calib)
        compress(subject.model, "int8", alone, "--calib", calib)
        details = report["steps"][-2]["details"]
        label = f"{budget}, then int8, against int8 alone"
        return (*_figures(subject, label, alone, both, held, details), f"{done.seconds:.0f}")


def _recipe(folder: Path, name: str, options: dict[str, Any], *more: str) -> str:
    steps = [{"pass": "simplify"}, {"pass": "fuse"}, {"pass": "prune-channels", "with": options}]
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps({"version": 1, "name": name, "steps": [*steps, *({"pass": each} for each in more)]}))
    return str(path)


def _figures(
    subject: Subject, label: str, source: Path, result: Path, held: Path, details: dict[str, Any]
) -> tuple[object, ...]:
    model = load_model(subject.model).model
    data = bind(open_dataset(held), model)
    feeds = feeds_for(model, next(iter(data)), shapes=subject.spec.get("latency_shape")).arrays
    timed = compare_latency(source, result, feeds, budget_s=SECONDS)
    metric = None if data.labels is None else "top1"
    found = compare(subject.model, result, data, metric, mask_threshold=subject.spec.get("threshold"))
    (output, *_), accuracy = found.agreement, found.accuracy
    return (
        subject.name,
        label,
        f"{details['macs']:.2f}",
        f"{details['parameters']:.2f}",
        f"{timed.ratio:.3f}",
        f"{timed.ratio_low:.3f}-{timed.ratio_high:.3f}",
        "" if accuracy is None else f"{accuracy.result:.2%}",
        "" if accuracy is None else f"{100 * accuracy.drop:.2f}",
        "" if output.mask_iou is None else f"{output.mask_iou:.3f}",
        f"{output.sqnr_db:.1f}",
    )
