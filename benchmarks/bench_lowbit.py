"""Weights in 16, 8 and 4 bits.

Recipes `fp16`, `int8-weights`, `int4-weights`, `codebook-4`, and `smallest` at a tenth of the weights, with calibration
data; all results and the original timed in one interleaved run, one thread, batch 1. Peers in italics: their figures
were taken once, on an idle machine of this kind. Latency and size are shares of the
original's; agreement is top-1, or the mean cosine where outputs are no scores, and like SQNR on held-out inputs. Goals
on minilm_sentiment: int8-weights 0.26 of the size, 0.65 of the latency, 99.2 %; int4-weights 0.145, 0.72, 96 %;
codebook-4 0.14, 1.03, 96 %. On efficientnet_lite0: int8-weights 0.27, 1.02, 99 %; codebook-4 0.15, 1.05, 96 %.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.models import Subject, subjects
from benchmarks.table import Run, compress, table
from modelopt_cli.data.binding import bind
from modelopt_cli.data.files import open_dataset
from modelopt_cli.evaluation.compare import compare
from modelopt_cli.graph.io import load_model
from modelopt_cli.profiling.feeds import feeds_for
from modelopt_cli.profiling.timing import compare_many

# Shares of the original and agreement on minilm_sentiment and efficientnet_lite0, measured once with each peer's own
# defaults on an idle machine of this kind (onnxruntime on CPU, one thread): size, latency, agreement.
PEERS: dict[str, dict[str, tuple[str, str, str]]] = {
    "minilm_sentiment": {
        "float16 converters": ("0.50, or does not load", "1.07", "99.9 %"),
        "onnxruntime MatMulNBits, 8 bits, block 128": ("0.65", "0.69", "98.5 %"),
        "onnxruntime MatMulNBits, 8 bits, block 32": ("0.66", "0.83", "99.1 %"),
        "onnxruntime MatMulNBits, 4 bits, block 128": ("0.59", "0.72", "93.5 %"),
        "onnxruntime MatMulNBits, 4 bits, block 32": ("0.60", "0.88", "94.5 %"),
        "Olive, int4": ("0.135", "1.06", "92.9 %"),
        "NNCF, 8 bits": ("0.255", "2.4", "99.5 %"),
        "NNCF, 4 bits": ("0.20", "1.34", "85.3 %"),
        "another tool, 8 bits": ("1.12", "0.85", "99.0 %"),
    },
    "efficientnet_lite0": {"another tool, 8 bits": ("1.25", "2.65", "")},
}
RECIPES: dict[str, tuple[str, ...]] = {
    "fp16": (),
    "int8-weights": (),
    "int4-weights": (),
    "codebook-4": (),
    "smallest": ("--set", "steps.codebook.max_size=0.1"),
}
SECONDS = 6.0
HEAD = ("model", "recipe", "size:", "latency:", "95 %:", "agreement:", "SQNR dB:", "s:", "MB:")


def run() -> str:
    return table(HEAD, [row for subject in subjects() for row in _rows(subject)])


def _rows(subject: Subject) -> list[tuple[object, ...]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calib, held = (subject.write_data(which, folder / f"{which}.npz") for which in ("calib", "eval"))
        made: dict[str, tuple[Path, Run]] = {}
        for recipe, more in RECIPES.items():
            out = folder / f"{recipe}.onnx"
            done, _ = compress(subject.model, recipe, out, "--calib", calib, *more)
            made[recipe] = out, done
        return _measure(subject, made, held)


def _measure(subject: Subject, made: dict[str, tuple[Path, Run]], held: Path) -> list[tuple[object, ...]]:
    source = load_model(subject.model).model
    data = bind(open_dataset(held), source)
    feeds = feeds_for(source, next(iter(data)), shapes=subject.spec.get("latency_shape"))
    timings = compare_many(subject.model, [path for path, _ in made.values()], feeds.arrays, budget_s=SECONDS)
    rows: list[tuple[object, ...]] = []
    for (recipe, (path, done)), timing in zip(made.items(), timings, strict=True):
        (output, *_) = compare(subject.model, path, data).agreement
        agreement = output.top1 if output.top1 is not None else output.cosine
        share = path.stat().st_size / subject.model.stat().st_size
        interval = f"{timing.ratio_low:.3f}-{timing.ratio_high:.3f}"
        figures = (f"{share:.3f}", f"{timing.ratio:.3f}", interval, f"{agreement:.1%}", f"{output.sqnr_db:.1f}")
        rows.append((subject.name, f"**{recipe}**", *figures, f"{done.seconds:.1f}", f"{done.peak_mb:.0f}"))
    for peer, (size, latency, agreement) in PEERS.get(subject.name, {}).items():
        rows.append((subject.name, f"*{peer}*", size, latency, "", agreement, "", "", ""))
    return rows
