"""Transformers of random weights at the sizes people run, in the operators that PyTorch's exporters write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'
Weights = dict[str, np.ndarray]


def write_vit(
    path: Path, *, layers: int = 12, size: int = 384, heads: int = 6, picture: int = 224, patch: int = 16
) -> Path:
    """A vision transformer (Dosovitskiy et al. 2020, arXiv 2010.11929), ViT-S/16 by default.

    ``pixels`` [1, 3, picture, picture] -> ``logits`` [1, 1000]
    """
    rng, tokens = np.random.default_rng(0), (picture // patch) ** 2 + 1
    weights: Weights = {
        "patches": _normal(rng, size, 3, patch, patch),
        "token": _normal(rng, 1, 1, size),
        "positions": _normal(rng, 1, tokens, size),
        "flat": np.array([1, size, tokens - 1]),
        "split": np.array([1, tokens, heads, size // heads]),
        "join": np.array([1, tokens, size]),
        "root": np.array((size // heads) ** 0.5, np.float32),
        "two": np.array(2**0.5, np.float32),
        "one": np.array(1, np.float32),
        "half": np.array(0.5, np.float32),
        "first": np.array(0),
        "head": _normal(rng, size, 1000),
        "head_bias": np.zeros(1000, np.float32),
    }
    lines = [f"c = Conv <strides = [{patch}, {patch}]> (pixels, patches) f = Reshape (c, flat)"]
    lines.append("t = Transpose <perm = [0, 2, 1]> (f) s = Concat <axis = 1> (token, t) x0 = Add (s, positions)")
    for i in range(layers):
        lines += _vit_layer(i)
        weights |= {name: array for name, array in _layer_weights(rng, i, size)}
    lines.append(f"o = LayerNormalization <axis = -1> (x{layers}, gain0a, shift0a) g = Gather <axis = 1> (o, first)")
    lines.append("logits = Gemm (g, head, head_bias)")
    text = f"vit (float[1,3,{picture},{picture}] pixels) => (float[1,1000] logits) {{ {' '.join(lines)} }}"
    return _save(text, weights, path)


def _vit_layer(i: int) -> Iterator[str]:
    """x{i} -> x{i + 1}, the norm in front of each half."""
    yield f"n{i} = LayerNormalization <axis = -1> (x{i}, gain{i}a, shift{i}a)"
    for name, order in (("q", "0, 2, 1, 3"), ("k", "0, 2, 3, 1"), ("v", "0, 2, 1, 3")):
        yield f"{name}m{i} = MatMul (n{i}, w{name}{i}) {name}b{i} = Add (b{name}{i}, {name}m{i})"
        yield f"{name}r{i} = Reshape ({name}b{i}, split) {name}t{i} = Transpose <perm = [{order}]> ({name}r{i})"
    yield f"s{i} = MatMul (qt{i}, kt{i}) d{i} = Div (s{i}, root) p{i} = Softmax <axis = -1> (d{i})"
    yield f"m{i} = MatMul (p{i}, vt{i}) j{i} = Transpose <perm = [0, 2, 1, 3]> (m{i}) r{i} = Reshape (j{i}, join)"
    yield f"om{i} = MatMul (r{i}, wo{i}) ob{i} = Add (bo{i}, om{i}) a{i} = Add (ob{i}, x{i})"
    yield f"z{i} = LayerNormalization <axis = -1> (a{i}, gain{i}b, shift{i}b)"
    yield f"um{i} = MatMul (z{i}, wu{i}) ub{i} = Add (bu{i}, um{i})"
    yield f"ea{i} = Div (ub{i}, two) eb{i} = Erf (ea{i}) ec{i} = Add (eb{i}, one) ed{i} = Mul (ub{i}, ec{i})"
    yield f"e{i} = Mul (ed{i}, half) fm{i} = MatMul (e{i}, wf{i}) fb{i} = Add (bf{i}, fm{i})"
    yield f"x{i + 1} = Add (fb{i}, a{i})"


def _layer_weights(rng: np.random.Generator, i: int, size: int) -> Iterator[tuple[str, np.ndarray]]:
    for name, rows, columns in (
        *((name, size, size) for name in "qkvo"),
        ("u", size, 4 * size),
        ("f", 4 * size, size),
    ):
        yield f"w{name}{i}", _normal(rng, rows, columns)
        yield f"b{name}{i}", _normal(rng, columns)
    for half in "ab":
        yield f"gain{i}{half}", 1 + _normal(rng, size)
        yield f"shift{i}{half}", _normal(rng, size)


def write_llama_block(path: Path, *, size: int = 576, heads: int = 9, shared: int = 3, inner: int = 1536) -> Path:
    """A block of a decoder (Touvron et al. 2023, arXiv 2302.13971) with grouped queries; SmolLM-135M's by default.

    ``x`` [1, n, size], ``positions`` [1, n], ``mask`` [1, 1, n, t] (added), ``past_key`` and ``past_value``
    [1, shared, p, size / heads] -> ``y`` [1, n, size], ``key`` and ``value`` [1, shared, t, size / heads]
    """
    rng, each = np.random.default_rng(0), size // heads
    weights: Weights = {
        "frequencies": (1e4 ** (-np.arange(0, each, 2) / each)).astype(np.float32).reshape(1, 1, -1),
        "square": np.array(2, np.float32),
        "tiny": np.array(1e-5, np.float32),
        "one": np.array(1, np.float32),
        "scale": np.array(each**-0.5, np.float32),
        "gain1": 1 + _normal(rng, size),
        "gain2": 1 + _normal(rng, size),
        "split": np.array([1, -1, heads, each]),
        "split_few": np.array([1, -1, shared, each]),
        "join": np.array([1, -1, size]),
        "repeated": np.array([1, heads, -1, each]),
        "batch": np.array([1]),
        "few": np.array([shared]),
        "copies": np.array([heads // shared]),
        "channels": np.array([each]),
        **{name: np.array([number]) for name, number in {"a1": 1, "a2": 2, "a3": 3, "am1": -1}.items()},
        **{name: np.array([number]) for name, number in {"zero": 0, "middle": each // 2, "end": 2**62}.items()},
    }
    few = shared * each
    shapes = (("q", size, size), ("k", size, few), ("v", size, few), ("o", size, size))
    for name, rows, columns in (*shapes, ("g", size, inner), ("u", size, inner), ("d", inner, size)):
        weights[f"w{name}"] = _normal(rng, rows, columns)
    sides = f"float[1,{shared},p,{each}] past_key, float[1,{shared},p,{each}] past_value"
    made = f"float[1,{shared},t,{each}] key, float[1,{shared},t,{each}] value"
    inputs = f"float[1,n,{size}] x, int64[1,n] positions, float[1,1,n,t] mask, {sides}"
    text = f"block ({inputs}) => (float[1,n,{size}] y, {made}) {{ {' '.join(_llama())} }}"
    return _save(text, weights, path)


def _llama() -> Iterator[str]:
    yield "pf = Cast <to = 1> (positions) pu = Unsqueeze (pf, am1) fr = Mul (pu, frequencies)"
    yield "both = Concat <axis = -1> (fr, fr) c1 = Cos (both) s1 = Sin (both) c = Unsqueeze (c1, a1)"
    yield "s = Unsqueeze (s1, a1)"
    yield from _norm("x", "n1", "gain1")
    for name, split in (("q", "split"), ("k", "split_few"), ("v", "split_few")):
        yield f"{name}m = MatMul (n1, w{name}) {name}r = Reshape ({name}m, {split})"
        yield f"{name}t = Transpose <perm = [0, 2, 1, 3]> ({name}r)"
    for name in "qk":
        yield f"{name}1 = Mul ({name}t, c) {name}a = Slice ({name}t, zero, middle, a3)"
        yield f"{name}b = Slice ({name}t, middle, end, a3) {name}n = Neg ({name}b)"
        yield f"{name}c = Concat <axis = -1> ({name}n, {name}a) {name}2 = Mul ({name}c, s)"
        yield f"{name}p = Add ({name}1, {name}2)"
    yield "key = Concat <axis = 2> (past_key, kp) value = Concat <axis = 2> (past_value, vt)"
    for name, source in (("k", "key"), ("v", "value")):
        yield f"{name}l = Shape <start = 2, end = 3> ({source}) {name}u = Unsqueeze ({source}, a2)"
        yield f"{name}s = Concat <axis = 0> (batch, few, copies, {name}l, channels)"
        yield f"{name}e = Expand ({name}u, {name}s) {name}h = Reshape ({name}e, repeated)"
    yield "kx = Transpose <perm = [0, 1, 3, 2]> (kh) sc = MatMul (qp, kx) sd = Mul (sc, scale) sm = Add (sd, mask)"
    yield "pr = Softmax <axis = -1> (sm) mx = MatMul (pr, vh) mt = Transpose <perm = [0, 2, 1, 3]> (mx)"
    yield "mr = Reshape (mt, join) om = MatMul (mr, wo) h = Add (x, om)"
    yield from _norm("h", "n2", "gain2")
    yield "g = MatMul (n2, wg) sg = Sigmoid (g) si = Mul (g, sg) u = MatMul (n2, wu) gu = Mul (si, u)"
    yield "d = MatMul (gu, wd) y = Add (h, d)"


def _norm(source: str, result: str, gain: str) -> Iterator[str]:
    """RMS normalization as exporters spell it out."""
    yield f"{result}a = Pow ({source}, square) {result}b = ReduceMean <axes = [-1]> ({result}a)"
    yield f"{result}c = Add ({result}b, tiny) {result}d = Sqrt ({result}c) {result}e = Div (one, {result}d)"
    yield f"{result}f = Mul ({source}, {result}e) {result} = Mul ({gain}, {result}f)"


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (0.02 * rng.standard_normal(shape)).astype(np.float32)


def _save(text: str, weights: Weights, path: Path) -> Path:
    proto = onnx.parser.parse_model(f"{HEADER} {text}")
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
    return path
