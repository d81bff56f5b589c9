"""The automatic pass: static where convolutions are, dynamic for the rest, stored where neither pays."""

import collections
import itertools

import numpy as np
import onnx
import pytest

from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.quantize.builder import Built
from modelopt_cli.passes.quantize.plan import Plan
from modelopt_cli.passes.quantize.quantize import Quantize
from modelopt_cli.passes.quantize.regions import Regions
from modelopt_cli.passes.quantize.search import Search, gate
from modelopt_cli.profiling.session import open_session
from modelopt_cli.testing import model_from_text, run_model, run_pass

TEXT = """
net (float[1,8,32,32] x, float[1,64,256] t) => (float[1,8,32,32] y, float[1,64,256] u)
{
    a = Conv <pads = [1,1,1,1]> (x, w1)
    r = Relu (a)
    y = Conv <pads = [1,1,1,1]> (r, w2)
    n = Tanh (t)
    u = MatMul (n, m)
}
"""


class Samples:
    source, labels, batch_size = "generated", None, 1

    def __init__(self):
        rng = np.random.default_rng(0)
        self.samples = [
            {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()} for _ in range(8)
        ]

    def __len__(self):
        return len(self.samples)

    def __iter__(self):
        return iter(self.samples)

    def take(self, count):
        return self


SHAPES = {"x": (1, 8, 32, 32), "t": (1, 64, 256)}


@pytest.fixture
def model():
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 8, 3, 3), "w2": (8, 8, 3, 3), "m": (256, 256)}
    return model_from_text(TEXT, **{n: (rng.standard_normal(s) * 0.1).astype(np.float32) for n, s in shapes.items()})


def kernels(model, tmp_path):
    path = tmp_path / "optimized.onnx"
    open_session(model_bytes(model), optimized_path=path)
    return collections.Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def test_with_data_convolutions_are_static_and_fed_by_float_is_dynamic(model, tmp_path):
    result = run_pass(Quantize(budget=0), model, calibration=Samples())
    onnx.checker.check_model(onnx.load_from_string(model_bytes(result.model)), full_check=True)
    found = kernels(result.model, tmp_path)
    assert found["QLinearConv"] == 2
    assert found["Conv"] == found["MatMul"] == 0
    sample = Samples().samples[0]
    exact, rounded = run_model(model, sample), run_model(result.model, sample, optimize=True)
    for name, array in exact.items():
        assert np.abs(array - rounded[name]).max() < 0.05 * np.abs(array).max()


def test_without_data_convolutions_are_stored_and_the_report_says_what_data_adds(model, tmp_path):
    result = run_pass(Quantize(budget=0), model)
    found = kernels(result.model, tmp_path)
    assert found["QLinearConv"] == 0
    assert found["MatMul"] == 0
    assert result.details["notices"][0]["code"] == "no-calibration-data"


def chain(length):
    """``length`` products of one input: time that grows with it."""
    names = ["x", *(f"a{index}" for index in range(length - 1)), "y"]
    body = " ".join(f"{new} = MatMul ({old}, w)" for old, new in itertools.pairwise(names))
    text = f"net (float[64,256] x) => (float[64,256] y) {{ {body} }}"
    return model_from_text(text, w=np.eye(256, dtype=np.float32))


@pytest.mark.parametrize(
    ("lengths", "worth", "kept"),
    [((1, 8), None, False), ((8, 1), None, True), ((8, 1), 0.85, True), ((8, 5), None, True), ((8, 5), 0.3, False)],
)
def test_what_is_slower_than_float_or_not_worth_its_error_is_undone(lengths, worth, kept):
    reference, candidate = map(chain, lengths)
    fallback = Built(reference, Regions({}, ()), ())
    plan = Plan(frozenset({"MatMul"}))
    search = Search(Built(candidate, Regions({}, ()), ()), plan)
    gate(search, reference, {"x": np.ones((64, 256), np.float32)}, lambda: fallback, 0.5, worth=worth)
    assert (search.built is not fallback) == kept
    assert search.plan == (plan if kept else Plan(frozenset(), float_only=True))
    assert "integer against float" in search.log[0]


def test_without_convolutions_nothing_is_missing(model):
    text = "net (float[8,256] x) => (float[8,256] y) { y = MatMul (x, w) }"
    small = model_from_text(text, w=np.ones((256, 256), np.float32))
    assert "notices" not in run_pass(Quantize(budget=0), small).details
