"""Zeros in one layer alone: what is measured is what happens, and the model stays what it was."""

from __future__ import annotations

import math
import time

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.prune.layer_study import study_layers
from modelopt_cli.progress import Silent
from modelopt_cli.testing import ArrayDataset, model_from_text

RNG = np.random.default_rng(2)
TEXT = "m (float[N,16] x) => (float[N,4] y) { h = Gemm (x, w, b)  r = Relu (h)  y = MatMul (r, v) }"
WEIGHTS = {"w": (16, 24), "b": (24,), "v": (24, 4)}
MODEL = model_from_text(TEXT, **{n: RNG.standard_normal(s).astype(np.float32) for n, s in WEIGHTS.items()})
DATA = ArrayDataset({"x": RNG.standard_normal((64, 16)).astype(np.float32)})


def test_levels_of_each_layer_and_nothing_is_changed() -> None:
    before = model_bytes(MODEL)
    seen: list[tuple[str, ...]] = []

    def accuracy(candidate: ir.Model) -> float:
        holed = [name for name in ("w", "v") if not candidate.graph.initializers[name].const_value.numpy().all()]
        seen.append(tuple(holed))
        return 0.5

    found = study_layers(MODEL, DATA, (0.5, 0.8), accuracy, deadline=math.inf, progress=Silent())
    assert [(layer.op_type, layer.weights) for layer in found.layers] == [("Gemm", 384), ("MatMul", 96)]
    assert seen == [("w",)] * 2 + [("v",)] * 2
    assert all(level.accuracy == 0.5 for layer in found.layers for level in layer.levels)
    assert model_bytes(MODEL) == before


def test_the_last_layers_error_is_that_of_the_output() -> None:
    *_, last = study_layers(MODEL, DATA, (0.6,), None, deadline=math.inf, progress=Silent()).layers
    (level,) = last.levels
    assert math.isclose(10 ** (-level.outputs[0].sqnr_db / 10), level.layer_error, rel_tol=1e-3)


def test_a_deadline_leaves_layers_out_but_never_all() -> None:
    found = study_layers(MODEL, DATA, (0.5,), None, deadline=time.monotonic() - 1, progress=Silent())
    assert (len(found.layers), found.total) == (1, 2)
