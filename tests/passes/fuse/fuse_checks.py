from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir

from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.base import Pass, PassResult
from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import assert_same_outputs, op_types, random_feeds, run_pass


def check_pass(
    pass_: Pass, model: ir.Model, *, target: Target | None = None, rtol: float = 1e-5, atol: float = 1e-5, **dims: int
) -> PassResult:
    """Apply a pass and check its contract: valid, same outputs, honest count, nothing left for a second application."""
    source = model_bytes(model)
    result = run_pass(pass_, model, target=target)
    after = model_bytes(result.model)
    assert model_bytes(model) == source, "the source was edited"
    assert (result.changed == 0) == (after == source), "changed does not tell whether bytes changed"
    onnx.checker.check_model(after, full_check=True)
    again = run_pass(pass_, result.model, target=target)
    assert again.changed == 0 and model_bytes(again.model) == after, "a second application changed something"
    feeds = random_feeds(model, np.random.default_rng(0), **dims)
    assert_same_outputs(model, result.model, feeds, rtol=rtol, atol=atol)
    return result


def fused(
    model: ir.Model, *, max_opset: int | None = None, rtol: float = 1e-5, atol: float = 1e-5, **dims: int
) -> tuple[Counter[str], str]:
    """Operators after simplify and fuse, and all reasons of refusals in one text."""
    simplified = check_pass(Simplify(), model, rtol=rtol, atol=atol, **dims).model
    result = check_pass(Fuse(), simplified, target=Target(max_opset=max_opset), rtol=rtol, atol=atol, **dims)
    return Counter(op_types(result.model)), "\n".join(skip.reason for skip in result.skipped)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
