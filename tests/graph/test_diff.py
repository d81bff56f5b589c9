from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.graph.diff import count_edits, items
from modelopt_cli.graph.edit import replace_weight
from modelopt_cli.testing import model_from_text

TEXT = "g (float[n,4] x) => (float[n,4] y) { t = MatMul(x, w) y = LeakyRelu <alpha = 0.5> (t) }"


def model() -> ir.Model:
    return model_from_text(TEXT, w=np.ones((4, 4), np.float32))


def test_a_clone_is_no_edit() -> None:
    original = model()
    assert count_edits(items(original), items(original.clone())) == 0


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: replace_weight(m.graph.initializers["w"], np.zeros((4, 4), np.float32)),
        lambda m: m.graph.node(1).attributes.__setitem__("alpha", ir.AttrFloat32("alpha", 0.25)),
        lambda m: setattr(m.graph.node(0), "name", "other"),
        lambda m: setattr(m.graph.node(0).outputs[0], "shape", ir.Shape([1, 4])),
        lambda m: m.opset_imports.__setitem__("", 18),
    ],
)
def test_each_edit_counts_once(edit: Callable[[ir.Model], None]) -> None:
    original = model()
    edited = original.clone()
    edit(edited)
    assert count_edits(items(original), items(edited)) == 1
