"""Int8 against onnxruntime's own quantizer.

Recipe `int8` and `onnxruntime.quantization` (static: U8S8, per channel, QDQ, pre-processed; dynamic: per channel) on
the same samples; all results and the original timed in one interleaved run, one thread, batch 1. Latency and size are
shares of the original's; agreement (top-1, or mean cosine where outputs are no scores) and SQNR on held-out inputs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.models import Subject, subjects
from benchmarks.table import Run, compress, table
from benchmarks.table import run as run_command
from modelopt_cli.data.binding import bind
from modelopt_cli.data.files import open_dataset
from modelopt_cli.errors import ModelOptError
from modelopt_cli.evaluation.compare import compare
from modelopt_cli.graph.io import load_model
from modelopt_cli.profiling.feeds import feeds_for
from modelopt_cli.profiling.timing import compare_many

PEERS = {"ort static": "static", "ort dynamic": "dynamic"}
SECONDS = 8.0
HEAD = ("model", "tool", "latency:", "95 %:", "size:", "agreement:", "SQNR dB:", "int8 MACs:", "s:", "MB:")


def run() -> str:
    return table(HEAD, [row for subject in subjects() for row in _rows(subject)])


def _rows(subject: Subject) -> list[tuple[object, ...]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calib, held = (subject.write_data(which, folder / f"{which}.npz") for which in ("calib", "eval"))
        made: dict[str, tuple[Path, Run, str]] = {}
        ours = folder / "ours.onnx"
        done, report = compress(subject.model, "int8", ours, "--calib", calib)
        made["**modelopt**"] = (ours, done, f"{report['audit']['integer_mac_share']:.0%}")
        for tool, mode in PEERS.items():
            out = folder / f"{mode}.onnx"
            script = str(Path(__file__).with_name("peers_int8.py"))
            done = run_command([sys.executable, script, subject.model, calib, out, mode])
            if done.code == 0:
                made[tool] = (out, done, "")
        return _measure(subject, made, held) + [
            (subject.name, tool, "failed", *[""] * 7) for tool in PEERS if tool not in made
        ]


def _measure(subject: Subject, made: dict[str, tuple[Path, Run, str]], held: Path) -> list[tuple[object, ...]]:
    source = load_model(subject.model).model
    data = bind(open_dataset(held), source)
    feeds = feeds_for(source, next(iter(data)), shapes=subject.spec.get("latency_shape"))
    rows: list[tuple[object, ...]] = []
    try:
        timings = compare_many(subject.model, [path for path, _, _ in made.values()], feeds.arrays, budget_s=SECONDS)
    except ModelOptError as error:
        return [(subject.name, "all", str(error)[:60], *[""] * 7)]
    for (tool, (path, done, share)), timing in zip(made.items(), timings, strict=True):
        (output, *_) = compare(subject.model, path, data).agreement
        agreement = output.top1 if output.top1 is not None else output.cosine
        size = path.stat().st_size / subject.model.stat().st_size
        interval = f"{timing.ratio_low:.3f}-{timing.ratio_high:.3f}"
        figures = (f"{timing.ratio:.3f}", interval, f"{size:.3f}", f"{agreement:.1%}", f"{output.sqnr_db:.1f}", share)
        rows.append((subject.name, tool, *figures, f"{done.seconds:.1f}", f"{done.peak_mb:.0f}"))
    return rows
