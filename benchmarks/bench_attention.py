"""Forms of attention.

What the rules and the int8 planner choose among, one thread, random numbers, shares of the time that the float parts
take. First: `Attention` of opset 23, and the parts with both products as static integers (U8S8, QDQ), over sizes of
heads and lengths. Then: attention as PyTorch's, JAX's and Keras' einsum spells it, and what `fuse` makes of it. Goal:
the operator is the fastest everywhere, for that is what `fuse` writes before anything is measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from benchmarks.table import table
from modelopt_cli.data.dataset import Sample
from modelopt_cli.graph.shapes import infer_shapes
from modelopt_cli.passes.base import PassContext
from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.passes.quantize.attention import write_attention_parts
from modelopt_cli.profiling.timing import compare_many
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import model_from_text

SECONDS = 1.5
HEADS = ((2, 64), (6, 64), (12, 32), (12, 64), (16, 128))
LENGTHS = ((1, 1, 16), (1, 1, 256), (1, 16, 16), (1, 64, 64), (8, 64, 64), (1, 197, 197), (1, 512, 512))  # batch, q, k
MASKED = ((12, 32),)
EINSUM_HEADS = (12, 32)
EINSUM_LENGTHS = (64, 256)
HEADER = '<ir_version: 10, opset_import: ["" : 23]>'


def run() -> str:
    forms = table(("heads", "batch, queries, keys", "operator:", "95 %:", "integer products:", "95 %:"), _forms())
    spelled = table(("attention by Einsum", "tokens", "fused:", "95 %:"), _einsums())
    return f"{forms}\n\n{spelled}"


def _forms() -> Iterator[tuple[object, ...]]:
    for (heads, size), masked in itertools.product(HEADS, (False, True)):
        if masked and (heads, size) not in MASKED:
            continue
        operator = _operator(heads, size, masked)
        parts = operator.clone()
        write_attention_parts(parts.graph)
        words = f"{heads} of {size}" + (", mask" if masked else "")
        for batch, queries, keys in LENGTHS:
            feeds = _feeds(heads * size, batch, queries, keys, masked)
            timed = compare_many(parts, [operator, _integer(heads, size, masked)], feeds, budget_s=SECONDS)
            figures = [(f"{each.ratio:.3f}", f"{each.ratio_low:.3f}-{each.ratio_high:.3f}") for each in timed]
            yield words, f"{batch}, {queries}, {keys}", *figures[0], *figures[1]


def _operator(heads: int, size: int, masked: bool) -> ir.Model:
    width = heads * size
    more, mask = (", float[b,1,n,m] mask", ", mask") if masked else ("", "")
    model = model_from_text(f"""{HEADER} g (float[b,n,{width}] q, float[b,m,{width}] k, float[b,m,{width}] v{more})
        => (float[b,n,{width}] y) {{
        y = Attention <q_num_heads = {heads}, kv_num_heads = {heads}> (q, k, v{mask}) }}""")
    infer_shapes(model)
    return model


def _integer(heads: int, size: int, masked: bool) -> ir.Model:
    """The parts, whose two products have integer kernels: all four operands on grids."""
    width = heads * size
    more, add = (", float[b,1,n,m] mask", "t = Add (s2, mask)") if masked else ("", "t = Identity (s2)")
    grids = {
        "d": np.array(0.03, np.float32),
        "z": np.array(128, np.uint8),
        "zs": np.array(0, np.int8),
        "dp": np.array(1 / 255, np.float32),
        "zp": np.array(0, np.uint8),
        "ds": np.array(size**-0.5 / 4, np.float32),
        "heads": np.array([0, 0, heads, size]),
        "joined": np.array([0, 0, width]),
        "root": np.array(size**-0.5, np.float32),
    }
    return model_from_text(
        f"""{HEADER} g (float[b,n,{width}] q, float[b,m,{width}] k, float[b,m,{width}] v{more})
        => (float[b,n,{width}] y) {{
        q0 = QuantizeLinear (q, d, z) q1 = Reshape (q0, heads) q2 = Transpose <perm = [0, 2, 1, 3]> (q1)
        k0 = QuantizeLinear (k, d, zs) k1 = Reshape (k0, heads) k2 = Transpose <perm = [0, 2, 3, 1]> (k1)
        v0 = QuantizeLinear (v, d, zs) v1 = Reshape (v0, heads) v2 = Transpose <perm = [0, 2, 1, 3]> (v1)
        qf = DequantizeLinear (q2, d, z) kf = DequantizeLinear (k2, d, zs) vf = DequantizeLinear (v2, d, zs)
        s0 = MatMul (qf, kf) s1 = QuantizeLinear (s0, ds, z) sf = DequantizeLinear (s1, ds, z)
        s2 = Mul (sf, root) {add} p0 = Softmax <axis = -1> (t)
        p1 = QuantizeLinear (p0, dp, zp) pf = DequantizeLinear (p1, dp, zp)
        o0 = MatMul (pf, vf) o1 = QuantizeLinear (o0, d, z) o2 = Transpose <perm = [0, 2, 1, 3]> (o1)
        o3 = Reshape (o2, joined) y = DequantizeLinear (o3, d, z) }}""",
        **grids,
    )


def _feeds(width: int, batch: int, queries: int, keys: int, masked: bool) -> Sample:
    rng = np.random.default_rng(0)
    lengths = {"q": queries, "k": keys, "v": keys}
    feeds = {name: rng.standard_normal((batch, n, width)).astype(np.float32) for name, n in lengths.items()}
    return feeds | ({"mask": np.zeros((batch, 1, queries, keys), np.float32)} if masked else {})


def _einsums() -> Iterator[tuple[object, ...]]:
    heads, size = EINSUM_HEADS
    width, rng = heads * size, np.random.default_rng(0)
    weights = {
        name: rng.standard_normal(shape).astype(np.float32) / width**0.5
        for name, shape in (
            ("wq", (width, heads, size)),
            ("wk", (width, heads, size)),
            ("wv", (width, heads, size)),
            ("wo", (heads, size, width)),
        )
    }
    model = model_from_text(
        f"""<ir_version: 10, opset_import: ["" : 17]> g (float[b,n,{width}] x) => (float[b,n,{width}] y) {{
        q0 = Einsum <equation = "abc,cde->abde"> (x, wq) k = Einsum <equation = "abc,cde->abde"> (x, wk)
        v = Einsum <equation = "abc,cde->abde"> (x, wv) q = Mul (q0, root)
        s = Einsum <equation = "aecd,abcd->acbe"> (k, q) p = Softmax <axis = -1> (s)
        o = Einsum <equation = "acbe,aecd->abcd"> (p, v) y = Einsum <equation = "abcd,cde->abe"> (o, wo) }}""",
        root=np.array(size**-0.5, np.float32),
        **weights,
    )
    context, fused = PassContext(Target()), model.clone()
    for step in (Simplify(), Fuse()):
        fused = step.apply(fused, context).model
    for tokens in EINSUM_LENGTHS:
        feeds = {"x": rng.standard_normal((1, tokens, width)).astype(np.float32)}
        timed = compare_many(model, [fused], feeds, budget_s=2 * SECONDS)[0]
        yield f"{heads} heads of {size}", tokens, f"{timed.ratio:.3f}", f"{timed.ratio_low:.3f}-{timed.ratio_high:.3f}"
