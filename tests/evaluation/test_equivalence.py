from __future__ import annotations

import numpy as np
import pytest

from modelopt_cli.evaluation.equivalence import check_equivalence, drifts
from modelopt_cli.testing import model_from_text

GRAPH = "g (float[n,2] x) => (float[n,2] y, float[n,2] z) <float c = {1.0}> { y = Add(x, c) z = Neg(x) }"
FEED = {"x": np.array([[1, -3]], np.float32)}


def test_the_same_model_does_not_drift() -> None:
    model = model_from_text(GRAPH)
    assert [(d.output, d.absolute, d.within) for d in check_equivalence(model, model, [FEED, FEED])] == [
        ("y", 0.0, True),
        ("z", 0.0, True),
    ]
    assert drifts(model, model, FEED) == []


def test_the_output_that_moved_is_named_with_how_far() -> None:
    moved = model_from_text(GRAPH.replace("1.0", "1.5"))
    (drift,) = drifts(model_from_text(GRAPH), moved, FEED)
    assert drift.output == "y"
    assert drift.absolute == pytest.approx(0.5)
    assert drift.relative == pytest.approx(0.25)  # of the largest magnitude before: |-3 + 1|
    assert not drifts(model_from_text(GRAPH), moved, FEED, rtol=0.3)


@pytest.mark.parametrize("body", ["y = Transpose(x)", "y = Log(x)"])
def test_another_shape_or_new_nans_are_infinitely_far(body: str) -> None:
    before = model_from_text("g (float[n,m] x) => (float[a,b] y) { y = Identity(x) }")
    after = model_from_text(f"g (float[n,m] x) => (float[a,b] y) {{ {body} }}")
    assert [d.absolute for d in drifts(before, after, FEED, rtol=1e9)] == [np.inf]


def test_nans_in_the_same_places_are_the_same() -> None:
    model = model_from_text("g (float[n,m] x) => (float[n,m] y) { y = Log(x) }")
    assert drifts(model, model, FEED) == []
