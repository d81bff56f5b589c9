"""The first layer that differs: found where it is, and not where only a name changed its meaning."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.pipeline.divergence import find_divergence
from modelopt_cli.testing import ArrayDataset, model_from_text

TEXT = """g (float[1,4] x) => (float[1,4] y) {
    a = MatMul(x, w1)
    b = Mul(a, s)
    c = Relu(b)
    d = MatMul(c, w2)
    e = Relu(d)
    y = MatMul(e, w3)
}"""


DATA = ArrayDataset({"x": np.random.default_rng(0).uniform(0.5, 1, (3, 4)).astype(np.float32)})


def model(text: str = TEXT, **changed: np.ndarray) -> ir.Model:
    rng = np.random.default_rng(1)
    weights = {name: rng.uniform(0.1, 1, (4, 4)).astype(np.float32) for name in ("w1", "w2", "w3")}
    weights |= {"s": np.full(1, 3, np.float32)} | changed
    return model_from_text(text, **{name: array for name, array in weights.items() if name in text})


def test_the_same_model_nowhere() -> None:
    found = find_divergence(model(), model(), DATA)
    assert found is not None
    assert found.first is None
    assert [each.tensor for each in found.tensors] == ["a", "b", "c", "d", "e", "y"]
    assert found.largest_loss is None


@pytest.mark.parametrize(("weight", "tensor"), [("w1", "a"), ("w2", "d"), ("w3", "y")])
def test_the_layer_that_was_damaged(weight: str, tensor: str) -> None:
    found = find_divergence(model(), model(**{weight: np.eye(4, dtype=np.float32)}), DATA)
    assert found is not None
    assert found.first is not None
    assert found.first.tensor == tensor
    assert found.largest_loss is not None
    assert found.largest_loss[0].tensor == tensor


def test_a_tensor_that_was_rescaled_with_what_reads_it_loses_nothing() -> None:
    scales = np.float32([0.1, 1, 10, 3])
    first, second = (model().graph.initializers[name].const_value.numpy() for name in ("w1", "w2"))
    found = find_divergence(model(), model(w1=first * scales, w2=second / scales[:, None]), DATA)
    assert found is not None
    assert found.tensors[0].sqnr_db < found.below_db
    assert found.first is None
    assert found.largest_loss is None or found.largest_loss[0].tensor not in ("a", "b", "c")


def test_a_name_that_took_in_what_followed_is_no_divergence() -> None:
    """``a`` of the candidate is what ``b`` was: the scale went into the weight."""
    weight = model().graph.initializers["w1"].const_value
    assert weight is not None
    text = TEXT.replace("    b = Mul(a, s)\n", "").replace("Relu(b)", "Relu(a)")
    found = find_divergence(model(), model(text, w1=weight.numpy() * np.float32(3)), DATA)
    assert found is not None
    assert found.first is None
    assert min(each.sqnr_db for each in found.tensors) > 100


def test_models_without_a_shared_tensor() -> None:
    other = model_from_text("g (float[1,4] x) => (float[1,4] other) { other = Relu(x) }")
    assert find_divergence(model(), other, DATA) is None
