"""What each method of int8 adds.

Recipe `int8` with one method switched off at a time: signal to noise in dB and agreement on at most 200 held-out
inputs, in brackets the CPU seconds of the quantizing step without its search. A method stays on because of the line
that lacks it, and stays off (option ``equalize``) because of the line that has it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest.mock import patch

import onnx_ir as ir

from benchmarks.models import Subject, subjects
from benchmarks.table import table
from modelopt_cli.data.binding import bind
from modelopt_cli.data.files import open_dataset
from modelopt_cli.evaluation.compare import compare
from modelopt_cli.graph.io import load_model
from modelopt_cli.graph.opset import raise_opset
from modelopt_cli.passes.base import PassContext
from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.passes.quantize import builder, dynamic_matmul, dynamic_rounding, range_choice
from modelopt_cli.passes.quantize.quantize import Quantize
from modelopt_cli.passes.quantize.second_order import Rounding
from modelopt_cli.passes.quantize.weights import quantize_weight
from modelopt_cli.targets.target import resolve_target

MODELS = ("digits_mobilenet", "digits_vit", "efficientnet_lite0", "minilm_sentiment", "ppocr_det")
CHOSEN = "MODELOPT_ABLATION_MODELS"  # names between commas, of fewer models
HELD_OUT = 200
Variant = tuple[str, dict[str, str | bool], Callable[[], AbstractContextManager[object]]]


def _nearest(matrix, known, scales, *, per_channel, reduce_range):
    matrix = matrix if scales is None else matrix * scales[:, None]
    return quantize_weight(matrix, axis=1 if per_channel else None, reduce_range=reduce_range)


VARIANTS: tuple[Variant, ...] = (
    ("everything", {}, nullcontext),
    ("and channels equalized", {"equalize": True}, nullcontext),
    ("ranges by minmax only", {"calibrator": "minmax"}, nullcontext),
    ("ranges by mse only", {"calibrator": "mse"}, nullcontext),
    ("ranges of scores chosen like the others", {}, lambda: patch.object(builder, "TAIL_READERS", ())),
    ("no ranges of single tensors", {}, lambda: patch.object(range_choice, "MOST_TRIES", 0)),
    ("no search behind second-order rounding", {}, lambda: patch.object(dynamic_rounding, "_searched", _unsearched)),
    ("static weights to the nearest step", {}, lambda: patch.object(builder, "round_products", _no_products)),
    ("no bias correction", {}, lambda: patch.object(Rounding, "bias_shift", lambda *_: None)),
    ("added numbers not given back by biases", {}, lambda: patch.object(builder, "missing_offsets", lambda *_: {})),
    ("no smoothing", {}, lambda: patch.object(dynamic_matmul, "choose_scales", lambda *_, **__: None)),
    ("dynamic weights to the nearest step", {}, lambda: patch.object(dynamic_matmul, "round_product_weight", _nearest)),
)


def _unsearched(matrix, values, *_):
    return values


def _no_products(known, **_):
    for _node in known:
        pass  # the statistics are taken all the same, so that seconds compare
    return Rounding({}, {})


def run() -> str:
    chosen = [name for name in os.environ.get(CHOSEN, ",".join(MODELS)).split(",") if name]
    found = {subject.name: _column(subject) for subject in subjects() if subject.name in chosen}
    names = [name for name in chosen if name in found]
    rows = [(label, *(found[name][index] for name in names)) for index, (label, _, _) in enumerate(VARIANTS)]
    return table(("", *(f"{name}:" for name in names)), rows)


def _column(subject: Subject) -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = load_model(subject.model).model
        calib, held = (
            bind(open_dataset(subject.write_data(which, folder / f"{which}.npz")), source)
            for which in ("calib", "eval")
        )
        context = PassContext(resolve_target(), calibration=calib.take(256))
        fused = _fused(source, context)
        return list(_cells(source, fused, context, held.take(HELD_OUT)))


def _cells(source: ir.Model, fused: ir.Model, context: PassContext, held: object) -> Iterator[str]:
    for _, options, switched_off in VARIANTS:
        started = time.process_time()
        with switched_off():
            result = Quantize(budget=0, min_sqnr=0, **options).apply(fused.clone(), context)
        seconds = time.process_time() - started
        (output, *_) = compare(source, result.model, held).agreement
        agreement = "" if output.top1 is None else f", {output.top1:.1%}"
        yield f"{output.sqnr_db:.1f}{agreement} ({seconds:.0f})"


def _fused(source: ir.Model, context: PassContext) -> ir.Model:
    model = source.clone()
    if model.opset_imports.get("", 0) < Quantize.min_opset:
        raise_opset(model, Quantize.min_opset)
    for step in (Simplify(), Fuse()):
        model = step.apply(model, context).model
    return model
