"""The last output of recurrent nodes, and slices that are taken before a Transpose."""

from __future__ import annotations

import numpy as np
import pytest
from fuse_checks import check_pass, random

from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.testing import model_from_text, op_types

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TAKE = "s = Squeeze(h, one) t = Transpose <perm = [1, 0, 2]> (s) y = Gather <axis = 1> (t, last)"


def left(body: str, more: str = "", steps: str = "t", **arrays: np.ndarray) -> list[str]:
    op = next((op for op in GATES if op in body), "RNN")
    known = {
        "w": random(1, 3 * GATES[op], 4),
        "r": random(1, 3 * GATES[op], 3, seed=1),
        "one": np.array([1]),
        "last": np.array(-1),
    } | arrays
    used = {name: array for name, array in known.items() if f"{name})" in body or f"{name}," in body}
    graph = f"g (float[{steps},n,4] x{', int32[n] lengths' if 'lengths' in body else ''}) => (float[a,b] y{more})"
    model = model_from_text(f"{graph} {{ {body} }}", **used)
    feeds = {"n": 2, "t": 5}
    return op_types(check_pass(Simplify(), model, **feeds).model)


@pytest.mark.parametrize("op", GATES)
def test_the_last_output_is_the_state(op: str) -> None:
    assert left(f"h = {op} <hidden_size = 3> (x, w, r) {TAKE}") == [op, "Squeeze"]


@pytest.mark.parametrize(
    ("steps", "direction", "index", "found"),
    [
        ("t", "reverse", 0, True),
        ("t", "reverse", -1, False),
        ("t", "forward", 0, False),
        ("t", "forward", 4, False),  # of as many steps as there are
        ("5", "forward", 4, True),
        ("5", "reverse", -5, True),
    ],
)
def test_only_the_step_that_is_computed_last(steps: str, direction: str, index: int, found: bool) -> None:
    body = f'h = LSTM <hidden_size = 3, direction = "{direction}"> (x, w, r) {TAKE}'
    assert ("Gather" not in left(body, steps=steps, last=np.array(index))) is found


def test_a_state_that_is_an_output_and_outputs_that_are_read_stay() -> None:
    body = f"h, state = GRU <hidden_size = 3> (x, w, r) {TAKE} z = Relu(h)"
    more = ", float[1,n,3] state, float[t,1,n,3] z"
    assert left(body, more) == ["GRU", "Relu", "Squeeze"] or left(body, more) == ["GRU", "Squeeze", "Relu"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"h = LSTM <hidden_size = 3> (x, w, r, , lengths) {TAKE}", ["LSTM", "Squeeze", "Gather"]),
        (
            "h = LSTM <hidden_size = 3> (x, w, r) s = Squeeze(h, one) y = ReduceMax <keepdims = 0, axes = [0]> (s)",
            ["LSTM", "Squeeze", "ReduceMax"],
        ),
        # two axes change places all the same
        ("t = Transpose <perm = [2, 1, 0]> (x) y = Gather <axis = 1> (t, last)", ["Transpose", "Gather"]),
    ],
)
def test_what_is_something_else_stays(body: str, expected: list[str]) -> None:
    assert left(body) == expected


def test_a_transpose_that_others_read_too_stays_in_front() -> None:
    body = "t = Transpose <perm = [1, 0, 2]> (x) y = Gather <axis = 1> (t, last) z = Relu(t)"
    assert left(body, ", float[n,t,4] z")[:2] == ["Transpose", "Gather"]
