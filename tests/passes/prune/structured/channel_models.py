"""Small networks with channels, and the proof that removing some that nobody misses changes nothing."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from modelopt_cli.graph.edit import constant, replace_weight
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.prune.structured.analysis import Dependencies, find_dependencies
from modelopt_cli.passes.prune.structured.removal import kept_without, remove_channels
from modelopt_cli.testing import assert_same_outputs, model_from_text, random_feeds


def w(*shape: int) -> np.ndarray:
    """Weights of a shape, the same in each test whatever ran before."""
    return (np.random.default_rng(shape).standard_normal(shape) / 2).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def groups(model: ir.Model) -> list[int]:
    """Sizes of all groups, rising."""
    return sorted(group.size for group in find_dependencies(model).groups)


def reasons(model: ir.Model) -> dict[str, str]:
    return {skip.node: skip.reason for skip in find_dependencies(model).skipped}


def silenced(model: ir.Model, found: Dependencies, gone: list[int]) -> None:
    """Set the columns to zero that read the channels of some labels: nobody will miss them."""
    kept = kept_without(found, gone)
    for product in found.products:
        mask, value = kept.mask(product.columns), product.node.inputs[product.weight]
        array = constant(value)
        if mask.all() or value is None or array is None:
            continue
        place = next(i for i, axis in enumerate(found.flow.weights[value, None]) if axis is product.columns)
        shape = [-1 if i == place else 1 for i in range(array.ndim)]
        replace_weight(value, array * mask.reshape(shape).astype(array.dtype))


def assert_exact_removal(model: ir.Model, share: float = 0.5, **dims: int) -> ir.Model:
    """Remove a share of every group whose readers ignore it: the outputs stay what they were."""
    rng = np.random.default_rng(7)
    found = find_dependencies(model)
    gone = [
        int(label) for g in found.groups for label in rng.choice(g.labels, max(1, int(g.size * share)), replace=False)
    ]
    assert gone, reasons(model)
    before = model.clone()
    silenced(before, find_dependencies(before), gone)
    after = before.clone()
    again = find_dependencies(after)
    assert remove_channels(after, again, kept_without(again, gone))
    onnx.checker.check_model(onnx.load_from_string(model_bytes(after)), full_check=True)
    assert_same_outputs(before, after, random_feeds(before, rng, **dims), rtol=1e-4, atol=1e-5)
    return after


def named(model: ir.Model) -> ir.Model:
    for node in model.graph:
        node.name = node.outputs[0].name
    return model


def attention(heads: int = 4, size: int = 3) -> ir.Model:
    hidden = heads * size
    text = """m (float[N,S,8] x) => (float[N,S,8] y) {
        q0 = MatMul (x, wq)  q1 = Add (q0, bq)  q2 = Reshape (q1, split)  q = Transpose <perm=[0,2,1,3]> (q2)
        k0 = MatMul (x, wk)  k2 = Reshape (k0, split)  k = Transpose <perm=[0,2,3,1]> (k2)
        v0 = MatMul (x, wv)  v2 = Reshape (v0, split)  v = Transpose <perm=[0,2,1,3]> (v2)
        a = MatMul (q, k)  h = Mul (a, c)  p = Softmax <axis=-1> (h)  o = MatMul (p, v)
        t = Transpose <perm=[0,2,1,3]> (o)  m0 = Reshape (t, merge)  r = MatMul (m0, wo)
        s = Add (x, r)  n = LayerNormalization (s, g, z)
        u = MatMul (n, w1)  e = Relu (u)  d = MatMul (e, w2)  y = Add (n, d) }"""
    shapes = {"wq": (8, hidden), "bq": (hidden,), "wk": (8, hidden), "wv": (8, hidden), "wo": (hidden, 8)}
    weights = {
        name: w(*shape) for name, shape in {**shapes, "g": (8,), "z": (8,), "w1": (8, 10), "w2": (10, 8)}.items()
    }
    constants = {"split": ints(0, 0, heads, size), "merge": ints(0, 0, hidden), "c": np.float32(0.5)}
    return named(model_from_text(text, **weights, **constants))


def fused_attention(shared: int = 4, mask: str = "") -> ir.Model:
    """Four heads of attention as one operator, in a residual sum that is a Sum: what `fuse` makes of a transformer."""
    masked = f", {mask}" if mask else ""
    text = f"""<ir_version: 10, opset_import: ["" : 23]> m (float[N,5,8] x) => (float[N,5,8] y) {{
        q0 = MatMul (x, wq)  q = Add (q0, bq)  k = MatMul (x, wk)  v = MatMul (x, wv)
        a = Attention <q_num_heads=4, kv_num_heads={shared}, scale=0.5> (q, k, v{masked})
        r = MatMul (a, wo)  s = Sum (x, r)  n = LayerNormalization (s, g, z)  y = MatMul (n, w1) }}"""
    weights = {"wq": w(8, 12), "bq": w(12), "wk": w(8, shared * 3), "wv": w(8, shared * 2), "wo": w(8, 8)}
    weights |= {"g": w(8), "z": w(8), "w1": w(8, 8)}
    weights |= {mask: w(*(4, 5, 5) if mask == "each" else (5, 5))} if mask else {}
    return named(model_from_text(text, **weights))


def lstm(direction: str, initial: bool = False) -> ir.Model:
    ways = 2 if direction == "bidirectional" else 1
    state = "h0, h0" if initial else ","
    text = f"""m (float[5,N,3] x{f", float[{ways},N,6] h0" if initial else ""}) => (float[5,N,4] y) {{
        l, last, cell = LSTM <hidden_size=6, direction="{direction}"> (x, w1, r1, b1, , {state}, p1)
        t = Transpose <perm=[0,2,1,3]> (l)  f = Reshape (t, to)  y = MatMul (f, wy) }}"""
    weights = {"w1": w(ways, 24, 3), "r1": w(ways, 24, 6), "b1": w(ways, 48), "p1": w(ways, 18), "wy": w(6 * ways, 4)}
    return named(model_from_text(text, **weights, to=ints(0, 0, 6 * ways)))
