"""Any Einsum that is a product, and attention that is spelled with them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from fuse_checks import check_pass, fused
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.testing import model_from_text, op_types

SIZES = dict(zip("abcdefgh", (2, 3, 4, 5, 2, 3, 4, 2), strict=True))
HEADER = '<ir_version: 10, opset_import: ["" : 23]>'


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) / 3).astype(np.float32)


def einsum(words: tuple[str, str], out: str, constant: int | None, fixed: bool) -> ir.Model:
    arrays = [random(*(SIZES[letter] for letter in word), seed=index) for index, word in enumerate(words)]
    names = ("x", "z")
    inputs = ", ".join(
        f"float[{', '.join(str(SIZES[letter]) if fixed else letter for letter in word)}] {name}"
        for index, (name, word) in enumerate(zip(names, words, strict=True))
        if index != constant
    )
    known = {} if constant is None else {names[constant]: arrays[constant]}
    result = ", ".join(f"o{letter}" for letter in out)
    equation = f"{','.join(words)}->{out}"
    text = f'{HEADER} g ({inputs}) => (float[{result}] y) {{ y = Einsum <equation = "{equation}"> (x, z) }}'
    return model_from_text(text, **known)


@given(
    letters=st.permutations("abcdefgh"),
    counts=st.tuples(st.integers(0, 2), st.integers(1, 2), st.integers(1, 2), st.integers(1, 2)),
    order=st.randoms(use_true_random=False),
    constant=st.sampled_from([None, 0, 1]),
    fixed=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_product_stays_what_it_is(letters, counts, order, constant, fixed) -> None:
    """Of batch, rows, columns and inner axes in any order, one operand constant or none."""
    parts, rest = [], list(letters)
    for count in counts:
        parts.append(rest[:count])
        rest = rest[count:]
    batch, rows, columns, inner = parts
    words = [[*batch, *rows, *inner], [*batch, *inner, *columns], [*batch, *rows, *columns]]
    for word in words:
        order.shuffle(word)
    left, right, out = ("".join(word) for word in words)
    found, _ = fused(einsum((left, right), out, constant, fixed), atol=1e-4, **SIZES)
    if counts[1:] == (1, 1, 1):
        assert found["MatMul"] == 1 and not found["Einsum"]


KERAS = """
    q0 = Einsum <equation = "abc,cde->abde"> (x, wq) q1 = Add (q0, bq) q = Mul (q1, scale)
    k0 = Einsum <equation = "abc,cde->abde"> (x, wk) k = Add (k0, bk)
    v0 = Einsum <equation = "abc,cde->abde"> (x, wv) v = Add (v0, bv)
    s = Einsum <equation = "aecd,abcd->acbe"> (k, q)
    p = Softmax <axis = -1> (s)
    m = Einsum <equation = "acbe,aecd->abcd"> (p, v)
    o = Einsum <equation = "abcd,cde->abe"> (m, wo) y = Add (o, bo)"""
TORCH = """
    q0 = MatMul (x, wq) q1 = Add (q0, bq) q = Reshape (q1, split)
    k0 = MatMul (x, wk) k1 = Add (k0, bk) k = Reshape (k1, split)
    v0 = MatMul (x, wv) v1 = Add (v0, bv) v = Reshape (v1, split)
    s0 = Einsum <equation = "bqhd,bkhd->bhqk"> (q, k) s = Mul (s0, scale)
    p = Softmax <axis = -1> (s)
    m0 = Einsum <equation = "bhqk,bkhd->bqhd"> (p, v) m = Reshape (m0, join)
    o = MatMul (m, wo) y = Add (o, bo)"""


@pytest.mark.parametrize("body", [KERAS, TORCH], ids=["keras", "torch"])
def test_attention_of_einsums_is_attention(body: str) -> None:
    shapes = {"q": (16, 2, 8), "k": (16, 2, 8), "v": (16, 2, 8), "o": (2, 8, 16)}
    weights = {f"w{key}": random(*shape, seed=index) for index, (key, shape) in enumerate(shapes.items())}
    weights |= {f"b{key}": random(2, 8, seed=9) for key in "qkv"} | {"bo": random(16), "scale": np.float32(0.35)}
    if body is TORCH:
        weights = {
            k: v.reshape(16, 16) if k[0] == "w" else v.reshape(-1) if v.ndim > 1 else v for k, v in weights.items()
        }
        weights |= {"split": np.array([0, 0, 2, 8]), "join": np.array([0, 0, 16])}
    weights["scale"] = np.array(weights["scale"])
    model = model_from_text(f"{HEADER} g (float[n, s, 16] x) => (float[n, s, 16] y) {{ {body} }}", **weights)
    found, _ = fused(model, n=2, s=5, atol=1e-4)
    assert found["Attention"] == 1
    assert not found.keys() & {"Einsum", "Reshape", "Transpose", "Softmax"}


def test_the_equation_tells_the_rank_where_no_shape_is_known() -> None:
    body = 't = Reshape (x, sizes) y = Einsum <equation = "nab,nbc->nca"> (t, z)'
    text = f"{HEADER} g (float[n, 12] x, float[n, 4, 5] z) => (float[n, 5, 3] y) {{ {body} }}"
    model = model_from_text(text, sizes=np.array([0, 3, 4]))
    assert model.graph[0].outputs[0].shape is None
    assert op_types(check_pass(Fuse(), model, n=2).model) == ["Reshape", "MatMul", "Transpose"]
