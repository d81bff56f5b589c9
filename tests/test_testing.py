"""The helpers themselves, each fed something wrong: a helper that cannot fail proves nothing."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.graph.edit import replace_weight
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.base import Pass, PassContext, PassResult
from modelopt_cli.testing import (
    ArrayDataset,
    assert_same_outputs,
    model_from_text,
    op_types,
    random_feeds,
    run_model,
    run_pass,
)

LINEAR = "linear (float[N, 4] x) => (float[N, 2] y) { t = MatMul(x, w)  y = Relu(t) }"
WEIGHT = np.arange(8, dtype=np.float32).reshape(4, 2)


def test_text_becomes_a_model_of_the_default_opset() -> None:
    model = model_from_text(LINEAR, w=WEIGHT)
    assert model.opset_imports == {"": 17}
    assert op_types(model) == ["MatMul", "Relu"]


def test_a_header_of_its_own_is_kept() -> None:
    model = model_from_text(f'<ir_version: 9, opset_import: ["" : 13]> {LINEAR}', w=WEIGHT)
    assert (model.ir_version, model.opset_imports) == (9, {"": 13})


def test_a_declared_weight_takes_its_array_and_another_shape_is_refused() -> None:
    text = "linear (float[N, 4] x) => (float[N, 2] y) <float[4, 2] w> { y = MatMul(x, w) }"
    assert "w" in model_from_text(text, w=WEIGHT).graph.initializers
    with pytest.raises(ValueError, match="'w' is declared otherwise"):
        model_from_text(text, w=WEIGHT.T)


def test_text_that_does_not_parse_says_so() -> None:
    with pytest.raises(ValueError, match="does not parse"):
        model_from_text("linear (float[4] x) => (float[4] y) { y = Relu(x }")


def test_a_weight_that_nobody_reads_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing in the model reads v"):
        model_from_text(LINEAR, w=WEIGHT, v=WEIGHT)


def test_a_weight_read_in_a_subgraph_is_accepted() -> None:
    text = """branchy (bool c, float[N, 4] x) => (float[N, 2] y) {
        y = If (c) <then_branch = t () => (float[N, 2] a) { a = MatMul(x, w) },
                    else_branch = e () => (float[N, 2] b) { m = MatMul(x, w)  b = Neg(m) }>
    }"""
    model = model_from_text(text, w=WEIGHT)
    assert sorted(op_types(model)) == ["If", "MatMul", "MatMul", "Neg"]


def test_outputs_are_compared_and_a_wrong_weight_is_found() -> None:
    model, feeds = model_from_text(LINEAR, w=WEIGHT), {"x": np.ones((3, 4), np.float32)}
    assert_same_outputs(model, model.clone(), feeds, rtol=0, atol=0)
    with pytest.raises(AssertionError, match="output 'y' differs"):
        assert_same_outputs(model, model_from_text(LINEAR, w=WEIGHT * 1.001), feeds, rtol=1e-4, atol=1e-4)


def test_another_output_name_type_or_shape_is_found() -> None:
    feeds = {"x": np.ones((3, 4), np.float32)}
    plain = model_from_text("m (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }")
    named = model_from_text("m (float[N, 4] x) => (float[N, 4] z) { z = Relu(x) }")
    typed = model_from_text("m (float[N, 4] x) => (double[N, 4] y) { y = Cast<to = 11>(x) }")
    shaped = model_from_text("m (float[N, 4] x) => (float[4, N] y) { y = Transpose(x) }")
    for other, reason in ((named, "outputs are"), (typed, "is float64, was float32"), (shaped, "is .4, 3., was .3, 4")):
        with pytest.raises(AssertionError, match=reason):
            assert_same_outputs(plain, other, feeds, rtol=1, atol=1)


def test_optimizing_is_off_unless_asked_for() -> None:
    model, feeds = model_from_text(LINEAR, w=WEIGHT), {"x": np.ones((1, 4), np.float32)}
    np.testing.assert_allclose(run_model(model, feeds)["y"], run_model(model, feeds, optimize=True)["y"], rtol=1e-6)
    np.testing.assert_allclose(run_model(model, feeds)["y"], [[12, 16]])


class Doubling(Pass):
    """Write one weight twice as large, in the clone."""

    name = "doubling"
    family = "prune"
    effect = "lossy"

    def apply(self, model: ir.Model, ctx: PassContext) -> PassResult:
        replace_weight(model.graph.initializers["w"], WEIGHT * 2)
        return PassResult(model, changed=1)


def test_a_pass_runs_on_a_clone() -> None:
    model = model_from_text(LINEAR, w=WEIGHT)
    bytes_before = model_bytes(model)
    result = run_pass(Doubling(), model)
    assert model_bytes(model) == bytes_before != model_bytes(result.model)


def test_random_feeds_have_the_declared_types_and_named_sizes() -> None:
    model = model_from_text(
        "m (float[N, 3, H] x, int64[N, S] ids, bool[N] flag, float16[2] half)"
        " => (float[N, 3, H] y, int64[N, S] i, bool[N] f, float16[2] h)"
        " { y = Relu(x) i = Identity(ids) f = Not(flag) h = Identity(half) }"
    )
    feeds = random_feeds(model, np.random.default_rng(0), H=5, S=7)
    assert {name: (array.dtype.name, array.shape) for name, array in feeds.items()} == {
        "x": ("float32", (1, 3, 5)),
        "ids": ("int64", (1, 7)),
        "flag": ("bool", (1,)),
        "half": ("float16", (2,)),
    }
    assert set(run_model(model, feeds)) == {"y", "i", "f", "h"}


def test_random_feeds_refuse_what_they_cannot_make() -> None:
    model = model_from_text("m (string[2] s) => (string[2] t) { t = Identity(s) }")
    with pytest.raises(ValueError, match="'s' is of type STRING"):
        random_feeds(model, np.random.default_rng(0))


def test_samples_come_one_at_a_time_with_a_batch_axis() -> None:
    data = ArrayDataset({"x": np.arange(12).reshape(6, 2)}, labels=np.arange(6))
    assert [sample["x"].tolist() for sample in data][:2] == [[[0, 1]], [[2, 3]]]
    assert len(data) == 6


def test_taking_spreads_over_the_whole_with_its_labels() -> None:
    data = ArrayDataset({"x": np.arange(6)}, labels=np.arange(6))
    taken = data.take(3)
    assert taken.labels is not None
    assert taken.labels.tolist() == [0, 2, 4] == [int(sample["x"][0]) for sample in taken]
    assert len(data.take(99)) == 6


def test_the_digest_follows_the_content() -> None:
    arrays = {"x": np.arange(6.0)}
    assert ArrayDataset(arrays).digest() == ArrayDataset({"x": np.arange(6.0)}).digest()
    others = [
        ArrayDataset({"x": np.arange(6.0) + 1}),
        ArrayDataset({"z": np.arange(6.0)}),
        ArrayDataset({"x": np.arange(6.0).reshape(6, 1)}),
        ArrayDataset(arrays, labels=np.arange(6)),
    ]
    assert ArrayDataset(arrays).digest() not in {other.digest() for other in others}


@pytest.mark.parametrize(("arrays", "labels"), [({}, None), ({"x": np.ones(2), "z": np.ones(3)}, None)])
def test_ragged_data_is_refused(arrays: dict[str, np.ndarray], labels: np.ndarray | None) -> None:
    with pytest.raises(ValueError, match="one common first axis"):
        ArrayDataset(arrays, labels)
