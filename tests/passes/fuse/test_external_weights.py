"""Weights beside the model stay there unless a rule changes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from fuse_checks import random

from modelopt_cli.graph.io import load_model
from modelopt_cli.passes.base import PassContext
from modelopt_cli.passes.fuse.duplicates import merge_duplicates
from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import assert_same_outputs, model_from_text, op_types

WIDTH = 64
TEXT = f"""g (float[n,{WIDTH}] x) => (float[n,{WIDTH}] y) {{
    a = MatMul(x, u) b = Relu(a) i = Identity(b) c = MatMul(i, v) d = Relu(c) e = MatMul(d, w) y = Mul(e, s) }}"""


def external(folder: Path) -> Path:
    weights = {name: random(WIDTH, WIDTH, seed=seed) / 8 for seed, name in enumerate("uvw")}
    proto = ir.to_proto(model_from_text(TEXT, **weights, s=np.float32(2)))
    onnx.save(proto, folder / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=1024)
    return folder / "m.onnx"


def test_only_what_a_rule_changes_is_read_into_memory(tmp_path: Path) -> None:
    source = load_model(external(tmp_path)).model
    model = source.clone()
    for step in (Simplify(), Fuse()):
        model = step.apply(model, PassContext(Target())).model
    assert op_types(model) == ["MatMul", "Relu", "MatMul", "Relu", "MatMul"]
    mapped = [isinstance(value.const_value, ir.ExternalTensor) for value in model.graph.initializers.values()]
    assert sorted(mapped) == [False, True, True]
    feeds = {"x": random(3, WIDTH)}
    assert_same_outputs(source, model, feeds, rtol=1e-5, atol=1e-5)


def test_equal_weights_become_one_and_those_that_differ_late_do_not() -> None:
    late = random(2000)
    late[-1] += 1
    model = model_from_text(
        "g (float[2000] x) => (float[2000] y) { a = Add(x, p) b = Relu(a) c = Add(b, q) d = Relu(c) y = Add(d, r) }",
        p=random(2000),
        q=late,
        r=random(2000),
    )
    assert not merge_duplicates(model, limit=1999)
    assert merge_duplicates(model, limit=2000)
    assert list(model.graph.initializers) == ["p", "q"]
    assert not merge_duplicates(model, limit=2000)
