"""Normalisation that TensorFlow has folded into a scale and a shift: every spelling, and what is something else."""

from __future__ import annotations

import numpy as np
import pytest
from fuse_checks import fused, random
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.testing import model_from_text

WIDTH = 8
ARRAYS = {
    "eps": np.array(1e-3, np.float32),
    "one": np.array(1, np.float32),
    "two": np.array(2, np.float32),
    "gain": random(WIDTH),
    "bias": random(WIDTH, seed=1),
    "rows": random(5, 1, seed=2),
}
MOMENTS = """
    m = ReduceMean <axes = [-1]> (x) d = Sub (x, m) q = Mul (d, d) v = ReduceMean <axes = [-1]> (q)
    a = Add (v, eps) root = Sqrt (a) i = Reciprocal (root) r = Mul (i, gain) p = Mul (x, r)"""
PLAIN = "n = Mul (m, r) k = Sub (bias, n) y = Add (p, k)"


def found(body: str, shape: str = "n,5,8", more: str = "", **dims: int) -> tuple[dict[str, int], str]:
    used = {name: array for name, array in ARRAYS.items() if f"{name})" in body or f"({name}," in body}
    outputs = f"float[{shape}] y{more}"
    model = model_from_text(f"g (float[{shape}] x) => ({outputs}) {{ {body} }}", **used)
    return fused(model, rtol=1e-4, atol=1e-4, **({"n": 2} | dims))


@pytest.mark.parametrize(
    "end",
    [
        PLAIN,
        "n = Mul (m, r) y = Sub (p, n)",
        "h = Neg (m) n = Mul (h, r) y = Add (p, n)",
        "h = Neg (m) n = Mul (h, r) k = Add (n, bias) y = Add (k, p)",
        "n = Mul (m, r) h = Neg (n) k = Add (bias, h) y = Add (p, k)",
        "n = Mul (m, r) k = Sub (n, bias) y = Sub (p, k)",
    ],
)
def test_every_way_to_write_the_shift(end: str) -> None:
    operators, _ = found(MOMENTS + end)
    assert operators == {"LayerNormalization": 1}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("d = Sub (x, m)", "d = Sub (m, x)"),
        ("q = Mul (d, d)", "q = Pow (d, two)"),
        ("i = Reciprocal (root)", "i = Div (one, root)"),
        ("r = Mul (i, gain)", "r = Mul (gain, i)"),
        ("m = ReduceMean <axes = [-1]> (x)", "m = GlobalAveragePool (x)"),
    ],
)
def test_every_way_to_write_the_moments(old: str, new: str) -> None:
    assert old in MOMENTS
    assert found(MOMENTS.replace(old, new) + PLAIN)[0] == {"LayerNormalization": 1}


def test_without_a_gain_and_over_two_axes() -> None:
    assert found(MOMENTS.replace("r = Mul (i, gain)", "r = Identity (i)") + PLAIN)[0] == {"LayerNormalization": 1}
    pooled = MOMENTS.replace("ReduceMean <axes = [-1]>", "GlobalAveragePool")
    assert found(pooled + PLAIN, "n,3,5,8")[0] == {"LayerNormalization": 1}


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (MOMENTS.replace("d = Sub (x, m)", "d = Sub (x, one)") + PLAIN, ""),  # another centre
        (MOMENTS.replace("v = ReduceMean <axes = [-1]>", "v = ReduceMean <axes = [1]>") + PLAIN, ""),
        (MOMENTS + PLAIN.replace("(bias, n)", "(bias, m)"), ""),  # another shift
        (MOMENTS + "n = Mul (m, r) y = Add (p, n)", ""),  # of the wrong sign
        (MOMENTS.replace("(i, gain)", "(i, rows)") + PLAIN, ""),  # a gain along another axis
        (MOMENTS + PLAIN + " z = Exp (r)", ", float[n,5,8] z"),  # something else reads a part
    ],
)
def test_what_is_something_else_stays(body: str, more: str) -> None:
    assert "LayerNormalization" not in found(body, more=more)[0]


def test_an_older_target_keeps_the_pattern() -> None:
    model = model_from_text(
        f'<ir_version: 8, opset_import: ["" : 15]> g (float[n,5,8] x) => (float[n,5,8] y) {{ {MOMENTS + PLAIN} }}',
        **{name: ARRAYS[name] for name in ("eps", "gain", "bias")},
    )
    operators, reasons = fused(model, max_opset=16, rtol=1e-4, atol=1e-4, n=2)
    assert operators["Sqrt"] == 1
    assert "from opset 17 on" in reasons


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 4), st.integers(1, 6), st.booleans())
def test_it_is_exact_for_every_batch_and_length(batch: int, length: int, pooled: bool) -> None:
    body = MOMENTS.replace("ReduceMean <axes = [-1]>", "GlobalAveragePool") if pooled else MOMENTS
    assert found(body + PLAIN, "n,s,8", n=batch, s=length)[0] == {"LayerNormalization": 1}
