"""Transformers against onnxruntime's own tools.

Recipes `fuse` and `int8`; onnxruntime's transformer optimizer at its defaults (types bert, vit; gpt2 and qwen3 for the
decoder) and its quantizers (static: U8S8 per channel, QDQ; dynamic: per channel). `minilm_sentiment` and `digits_vit`
are trained; ViT-S/16 and the decoder's block (SmolLM-135M's size, grouped queries, rotary positions, past) have random
weights in the operators of PyTorch's exporters. Latency as a share of the original's, one thread, batch 1, all of a row
group interleaved. Goals: minilm float at most 0.93 at 64 tokens and never above 1, int8 0.35; ViT-S int8 0.42; the
block faster than the optimizer's.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.models import Subject, subjects
from benchmarks.table import ROOT, compress, table
from benchmarks.transformer_models import write_llama_block, write_vit
from modelopt_cli.data.binding import bind
from modelopt_cli.data.dataset import Sample
from modelopt_cli.data.files import open_dataset
from modelopt_cli.errors import ModelOptError
from modelopt_cli.graph.io import load_model
from modelopt_cli.profiling.feeds import feeds_for
from modelopt_cli.profiling.timing import compare_many

SECONDS = 5.0
TOKENS = (16, 64, 128, 256)
INT8_TOKENS = 64
PICTURES = 16  # of noise, to calibrate a model of random weights
PAST = 128
HEAD = ("model", "input", "result", "latency:", "95 %:")
Row = tuple[object, ...]


@dataclass(frozen=True)
class Peer:
    """What onnxruntime's transformer optimizer is told: the kinds of model to try, heads and their size together."""

    kinds: tuple[str, ...]
    heads: int
    size: int


def run() -> str:
    known = {subject.name: subject for subject in subjects()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = _minilm(known.get("minilm_sentiment"), folder) + _digits(known["digits_vit"], folder)
        return table(HEAD, [*rows, *_vit(folder), *_llama(folder)])


def _minilm(subject: Subject | None, folder: Path) -> list[Row]:
    if subject is None:
        return []
    calib = subject.write_data("calib", folder / "minilm.npz")
    results = _results(subject.model, folder, Peer(("bert",), 12, 384), calib)
    rows = []
    for tokens in TOKENS:
        feeds = {name: np.ones((1, tokens), np.int64) for name in ("input_ids", "attention_mask")}
        made = {tool: path for tool, path in results.items() if tokens == INT8_TOKENS or "int8" not in tool}
        rows += _timed("minilm_sentiment", f"{tokens} tokens", subject.model, made, feeds)
    return rows


def _digits(subject: Subject, folder: Path) -> list[Row]:
    calib = subject.write_data("calib", folder / "digits.npz")
    results = _results(subject.model, folder, Peer(("vit",), 4, 64), calib)
    model = load_model(subject.model).model
    feeds = feeds_for(model, next(iter(bind(open_dataset(calib), model)))).arrays
    return _timed("digits_vit", "a picture", subject.model, results, feeds)


def _vit(folder: Path) -> list[Row]:
    model, calib = write_vit(folder / "vit_s.onnx"), folder / "noise.npz"
    pictures = np.random.default_rng(0).standard_normal((PICTURES, 3, 224, 224)).astype(np.float32)
    np.savez(calib, pixels=pictures)
    results = _results(model, folder, Peer(("vit",), 6, 384), calib)
    return _timed("ViT-S/16, random", "a picture", model, results, {"pixels": pictures[:1]})


def _llama(folder: Path) -> list[Row]:
    model = write_llama_block(folder / "llama.onnx")
    results = _results(model, folder, Peer(("gpt2", "qwen3"), 9, 576))
    rows = []
    for words, new, past in (("64 tokens", 64, 0), (f"1 token after {PAST}", 1, PAST)):
        rows += _timed("decoder block, random", words, model, results, _llama_feeds(new, past))
    return rows


def _llama_feeds(new: int, past: int) -> Sample:
    rng = np.random.default_rng(0)
    mask = np.triu(np.full((new, new + past), -1e9, np.float32), past + 1)
    return {
        "x": rng.standard_normal((1, new, 576)).astype(np.float32),
        "positions": np.arange(past, past + new)[None],
        "mask": mask[None, None],
        "past_key": rng.standard_normal((1, 3, past, 64)).astype(np.float32),
        "past_value": rng.standard_normal((1, 3, past, 64)).astype(np.float32),
    }


def _results(model: Path, folder: Path, peer: Peer, calib: Path | None = None) -> dict[str, Path]:
    """What each tool makes of a model; a tool that fails is left out."""
    stem = model.stem if model.stem != "model" else model.parent.name
    made = {"**modelopt fuse**": folder / f"{stem}.fused.onnx"}
    compress(model, "fuse", made["**modelopt fuse**"], "--set", "profile.seconds=0.2")
    for kind in peer.kinds:
        made[f"ort optimizer, {kind}"] = folder / f"{stem}.{kind}.onnx"
        _peer("peers_transformers.py", model, made[f"ort optimizer, {kind}"], kind, peer.heads, peer.size)
    if calib is not None:
        made["**modelopt int8**"] = folder / f"{stem}.int8.onnx"
        compress(model, "int8", made["**modelopt int8**"], "--calib", calib, "--set", "profile.seconds=0.2")
        for mode in ("static", "dynamic"):
            made[f"ort {mode}, int8"] = folder / f"{stem}.{mode}.onnx"
            _peer("peers_int8.py", model, calib, made[f"ort {mode}, int8"], mode)
    return {tool: path for tool, path in made.items() if path.exists()}


def _peer(script: str, *arguments: object) -> None:
    command = [sys.executable, Path(__file__).with_name(script), *map(str, arguments)]
    subprocess.run(command, capture_output=True, check=False, cwd=ROOT)


def _timed(name: str, words: str, model: Path, results: Mapping[str, Path], feeds: Sample) -> list[Row]:
    try:
        timings = compare_many(model, list(results.values()), feeds, budget_s=SECONDS)
    except ModelOptError as error:
        return [(name, words, "all", str(error)[:60], "")]
    return [
        (name, words, tool, f"{each.ratio:.3f}", f"{each.ratio_low:.3f}-{each.ratio_high:.3f}")
        for tool, each in zip(results, timings, strict=True)
    ]
