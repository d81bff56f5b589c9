"""One layer of each kind of transformer, as PyTorch's two exporters and tf2onnx write it (``transformers/*.py``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.name_dims import NameDims
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import assert_same_outputs, op_types, run_pass

FOLDER = Path(__file__).parent / "transformers"
FILES = sorted(path.name.removesuffix(".onnx") for path in FOLDER.glob("*.onnx"))
COUNTED = ("Attention", "Softmax", "LayerNormalization", "RMSNormalization", "Gelu", "RotaryEmbedding")
COUNTED = (*COUNTED, "IsNaN", "ReduceMean")
# The counts of these operators that are not 0, and the reason for a Softmax that stays.
EXPECTED: dict[str, tuple[dict[str, int], str]] = {
    "bert.old": ({"Attention": 1, "LayerNormalization": 3, "Gelu": 1}, ""),
    "bert.new": ({"Attention": 1, "LayerNormalization": 3, "Gelu": 1}, ""),
    # tf2onnx gives each input names of its own for batch and length: the mask may be of another length (but see NAMED)
    "bert.tf": ({"Softmax": 1, "LayerNormalization": 3, "Gelu": 1}, "known shape"),
    "decoder.tf": ({"Softmax": 1, "LayerNormalization": 3, "Gelu": 1}, "known shape"),
    "gpt2.tf": ({"Attention": 1, "LayerNormalization": 3, "Gelu": 1}, ""),
    "vit.tf": ({"Attention": 1, "LayerNormalization": 3, "Gelu": 1}, ""),
    "gpt2.old": ({"Attention": 1, "LayerNormalization": 3, "Gelu": 1}, ""),
    "gpt2.new": ({"Attention": 1, "LayerNormalization": 3, "Gelu": 1}, ""),
    "vit.old": ({"Attention": 1, "LayerNormalization": 3, "Gelu": 1}, ""),
    "vit.new": ({"Attention": 1, "LayerNormalization": 3, "Gelu": 1}, ""),
    "swin.old": ({"Attention": 1, "Softmax": 1, "LayerNormalization": 6, "Gelu": 2}, "known shape"),
    "swin.new": ({"Attention": 2, "LayerNormalization": 6, "Gelu": 2}, ""),
    "t5_decoder.old": ({"Attention": 2, "RMSNormalization": 4}, ""),
    "t5_decoder.new": ({"Attention": 2, "RMSNormalization": 4}, ""),
    "whisper_encoder.old": ({"Attention": 1, "LayerNormalization": 3, "Gelu": 3}, ""),
    "whisper_encoder.new": ({"Attention": 1, "LayerNormalization": 3, "Gelu": 3}, ""),
    "whisper_decoder.new": ({"Attention": 2, "LayerNormalization": 4, "Gelu": 1}, ""),
    "llama.old": ({"Softmax": 1, "RMSNormalization": 3, "RotaryEmbedding": 2}, ""),
    "llama.new": ({"Softmax": 1, "RMSNormalization": 3, "RotaryEmbedding": 2}, ""),
    "llama_past.old": ({"Softmax": 1, "RMSNormalization": 3, "RotaryEmbedding": 2}, ""),
    "llama_past.new": ({"Softmax": 1, "RMSNormalization": 3, "RotaryEmbedding": 2}, ""),
}


NAMED: dict[str, dict[str, tuple[str | int, ...]]] = {
    "bert.tf": {"ids": ("batch", "seq"), "mask": ("batch", "seq")},
    "decoder.tf": {"ids": ("batch", "seq"), "hidden": ("batch", "seq", 16)},
}


def feeds(model: ir.Model, batch: int, length: int) -> dict[str, np.ndarray]:
    """Inputs of one size; masks with padding on the right in the second sample and on the left in the third."""
    rng = np.random.default_rng(length)
    found: dict[str, np.ndarray] = {}
    past = 4 if any("past" in str(value.name) for value in model.graph.inputs) else 0
    for value in model.graph.inputs:
        shape = [size if isinstance(size, int) else length for size in value.shape or ()]
        shape[0] = batch
        name = str(value.name)
        if value.dtype is not ir.DataType.INT64:
            shape = [past if "past" in name and axis == 2 else size for axis, size in enumerate(shape)]
            found[name] = rng.standard_normal(shape).astype(np.float32)
        elif name == "mask":
            mask = np.ones((batch, length + past), np.int64)
            mask[1:2, mask.shape[1] // 2 :] = 0
            mask[2:3, : mask.shape[1] // 3] = 0
            found[name] = mask
        else:
            found[name] = rng.integers(0, 20, shape)
    return found


def sizes(model: ir.Model) -> Iterator[tuple[int, int]]:
    tokens = any(value.dtype is ir.DataType.INT64 for value in model.graph.inputs)
    yield from ((1, 1), (2, 6), (3, 9), (1, 20)) if tokens else ((1, 1), (3, 1))


@pytest.mark.parametrize("name", FILES)
def test_a_layer_is_recognised_and_computes_the_same_for_every_size(name: str) -> None:
    model = ir.load(FOLDER / f"{name}.onnx")
    simple = run_pass(Simplify(), model).model
    result = run_pass(Fuse(), simple)
    found = Counter(op_types(result.model))
    expected, reason = EXPECTED[name]
    assert {op: found[op] for op in COUNTED if found[op]} == expected
    reasons = [skip.reason for skip in result.skipped if skip.reason.startswith("fuse-attention")]
    assert not reason or any(reason in each for each in reasons)
    for batch, length in sizes(model):
        assert_same_outputs(model, result.model, feeds(model, batch, length), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(NAMED))
def test_what_inputs_share_may_be_said(name: str) -> None:
    model = ir.load(FOLDER / f"{name}.onnx")
    simple = run_pass(Simplify(), run_pass(NameDims(inputs=NAMED[name]), model).model).model
    result = run_pass(Fuse(), simple).model
    assert "Attention" in op_types(result) and "Softmax" not in op_types(result)
    for batch, length in sizes(model):
        assert_same_outputs(model, result, feeds(model, batch, length), rtol=1e-4, atol=1e-4)


def test_what_needs_no_operator_of_onnxruntime_is_standard_onnx() -> None:
    for name in ("llama_past.new", "vit.new"):
        simple = run_pass(Simplify(), ir.load(FOLDER / f"{name}.onnx")).model
        result = run_pass(Fuse(), simple, target=Target(dialect="onnx")).model
        assert {node.domain for node in result.graph} == {""}
        onnx.checker.check_model(ir.to_proto(result), full_check=True)


def test_every_file_is_expected() -> None:
    assert set(FILES) == set(EXPECTED)
