"""Branches that only one rank fits, and axes that are dropped and brought back."""

from __future__ import annotations

import numpy as np
import pytest
from fuse_checks import check_pass, random

from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.testing import model_from_text, op_types

IO = "(float[n,4,6] x) => (float[a,b,c] y)"
INTEGERS = {"i0": np.array([0]), "i1": np.array([1]), "i2": np.array([2]), "one": np.array(1), "size": np.array(3)}


def simplified(body: str, io: str = IO, **weights: np.ndarray) -> list[str]:
    used = {name: array for name, array in INTEGERS.items() if f"{name})" in body or f"{name}," in body}
    source = model_from_text(f'<ir_version: 8, opset_import: ["" : 18]> g {io} {{ {body} }}', **used, **weights)
    return op_types(check_pass(Simplify(), source, n=2, t=1).model)


# As PyTorch's exporter writes x.squeeze(-1) before a cell that may be given one step or a batch of them.
SQUEEZED = """s = Shape(x) d = Gather(s, {axis}) c = Equal(d, one)
  z = If (c) <then_branch = a () => (float[p,q] t) {{ t = Squeeze(x, i2) }}, else_branch = b () => (float[p,q,r] e) {{
  e = Identity(x) }}> """
RECURRENT = SQUEEZED + "u = Unsqueeze(z, i0) h, hn = LSTM <hidden_size = 3> (u, w, r) y = Squeeze(h, i1)"


def lstm() -> dict[str, np.ndarray]:
    return {"w": random(1, 12, 4), "r": random(1, 12, 3, seed=1), "axis": np.array(2)}


def test_of_two_branches_the_one_stays_whose_rank_can_be_read() -> None:
    io = "(float[n,4,t] x) => (float[a,b,c] y)"
    assert simplified(RECURRENT.format(axis="axis"), io, **lstm())[-2:] == ["LSTM", "Squeeze"]
    assert "If" not in simplified(RECURRENT.format(axis="axis"), io, **lstm())


def test_both_branches_stay_when_both_can_be_read() -> None:
    io = "(float[n,4,t] x) => (int64[a] y)"
    assert "If" in simplified(SQUEEZED.format(axis="axis") + "y = Shape(z)", io, axis=np.array(2))


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("r = ReduceMean <keepdims = 0> (x, i1) y = Unsqueeze(r, i1)", ["ReduceMean"]),
        ("r = ReduceMean <keepdims = 0> (x, i1) y = Unsqueeze(r, i2)", ["ReduceMean", "Unsqueeze"]),
        ("r = ReduceMax (x, i1) q = Squeeze(r, i1) y = Unsqueeze(q, i0)", ["ReduceMax", "Unsqueeze"]),
        ("r = Gather <axis = 1> (x, one) y = Unsqueeze(r, i1)", ["Gather"]),
        ("r = Gather <axis = 1> (x, one) y = Unsqueeze(r, i0)", ["Gather", "Unsqueeze"]),
        (
            "r = Gather <axis = 1> (x, i2) q = Squeeze(r, i1) z = Relu(q) y = Unsqueeze(z, i1)",
            ["Gather", "Relu", "Unsqueeze"],
        ),
    ],
)
def test_an_axis_is_kept_or_dropped_where_it_is_reduced(body: str, left: list[str]) -> None:
    assert simplified(body) == left


def test_a_shape_that_is_undone_is_not_made() -> None:
    body = "r = Reshape(x, flat) u = Unsqueeze(r, i0) a = Relu(r) b = Squeeze(u, i0) c = Reshape(b, back) y = Relu(c)"
    ops = simplified(f"{body} z = Neg(a)", flat=np.array([-1, 24]), back=np.array([-1, 4, 6]))
    assert ops.count("Reshape") + ops.count("Unsqueeze") + ops.count("Squeeze") <= 1
