"""What every pass promises, for every registered pass on every sample model and on small models of the odd kinds.

A failure names the pass and the model in the test's id, and shows digests and a short diff, never a serialized model.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modelopt_cli.errors import UsageError
from modelopt_cli.graph.edit import all_nodes
from modelopt_cli.graph.io import load_model, model_bytes
from modelopt_cli.passes.base import Pass, PassResult
from modelopt_cli.passes.registry import get_pass, pass_names
from modelopt_cli.testing import ArrayDataset, assert_same_outputs, model_from_text, random_feeds, run_model, run_pass

SAMPLES = Path(__file__).resolve().parents[2] / "sample_models"
CALIBRATION_SAMPLES = 4
SEED = 11
DIFF_LINES = 20

# The relative error of one float32 product sum re-ordered, times the depth of the deepest sample.
EXACT_RTOL, EXACT_ATOL = 1e-3, 1e-4


def _rng() -> np.random.Generator:
    return np.random.default_rng(5)


def _weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = _rng()
    return {name: (rng.standard_normal(shape) / 3).astype(np.float32) for name, shape in shapes.items()}


def convolutional() -> ir.Model:
    """Conv + BatchNormalization + Relu with a residual branch and a depthwise Conv, fixed sizes."""
    text = """m (float[1,3,16,16] x) => (float[1,5] y) {
        c = Conv <pads=[1,1,1,1]> (x, w1, b1)
        n = BatchNormalization (c, scale, shift, mean, variance)
        r = Relu (n)
        d = Conv <group=8, pads=[1,1,1,1]> (r, w2)
        s = Add (d, r)
        k = Clip (s, zero, six)
        p = GlobalAveragePool (k)
        f = Flatten (p)
        y = Gemm <transB=1> (f, w3, b3) }"""
    weights = _weights(w1=(8, 3, 3, 3), b1=(8,), scale=(8,), shift=(8,), mean=(8,), w2=(8, 1, 3, 3), w3=(5, 8), b3=(5,))
    numbers = {"variance": np.full(8, 0.7), "zero": np.array(0), "six": np.array(6)}
    return model_from_text(text, **weights, **{name: array.astype(np.float32) for name, array in numbers.items()})


def attention() -> ir.Model:
    """Token ids to a softmax over a product of activations, dynamic batch and sequence, weights in Constant nodes."""
    text = """m (int64[N,S] ids, int64[N,S] mask) => (float[N,S,8] y) {
        e = Gather (table, ids)
        q = MatMul (e, wq)
        k = MatMul (e, wk)
        t = Transpose <perm=[0,2,1]> (k)
        a = MatMul (q, t)
        half = Constant <value = float {0.35}> ()
        h = Mul (a, half)
        m = Cast <to=1> (mask)
        one = Constant <value = float {1.0}> ()
        off = Sub (m, one)
        big = Constant <value = float {10000.0}> ()
        far = Mul (off, big)
        axis = Constant <value = int64[1] {1}> ()
        far1 = Unsqueeze (far, axis)
        z = Add (h, far1)
        p = Softmax <axis=-1> (z)
        v = MatMul (p, e)
        o = MatMul (v, wo)
        y = Add (o, bo) }"""
    return model_from_text(text, **_weights(table=(2, 8), wq=(8, 8), wk=(8, 8), wo=(8, 8), bo=(8,)))


def recurrent() -> ir.Model:
    """A bidirectional LSTM and a GRU over batch-first data."""
    text = """m (float[N,T,6] x) => (float[N,T,4] y) {
        i = Transpose <perm=[1,0,2]> (x)
        l, lh, lc = LSTM <hidden_size=5, direction="bidirectional"> (i, w, r, b)
        f = Transpose <perm=[0,2,1,3]> (l)
        to = Constant <value = int64[3] {0, 0, 10}> ()
        g = Reshape (f, to)
        h, hh = GRU <hidden_size=4> (g, gw, gr)
        axis = Constant <value = int64[1] {1}> ()
        s = Squeeze (h, axis)
        y = Transpose <perm=[1,0,2]> (s) }"""
    shapes = {"w": (2, 20, 6), "r": (2, 20, 5), "b": (2, 40), "gw": (1, 12, 10), "gr": (1, 12, 4)}
    return model_from_text(text, **_weights(**shapes))


def branching() -> ir.Model:
    """Weights of its own and of the outer graph in an If, an unused node, an Identity, an output that is read again."""
    text = """m (float[N,4] x) => (float[N,4] y, float[N,4] z) {
        same = Identity (x)
        z = MatMul (same, w)
        unused = Relu (z)
        top = ReduceMax <keepdims=0> (x)
        one = Constant <value = float {1.0}> ()
        c = Greater (top, one)
        y = If (c) <then_branch = t () => (float[N,4] a) { a = MatMul (z, w) },
                    else_branch = e () => (float[N,4] b)
                        <float[4] v = {0.5, -1.0, 2.0, 0.25}> { u = Mul (z, v)  b = Add (u, v) }> }"""
    return model_from_text(text, **_weights(w=(4, 4)))


def weightless() -> ir.Model:
    """Nothing to improve."""
    return model_from_text("m (float[N,4] x) => (float[N,4] y) { y = Sigmoid (x) }")


TEXT_MODELS = {f.__name__: f for f in (convolutional, attention, recurrent, branching, weightless)}
SAMPLE_MODELS = [path.parent.name for path in sorted(SAMPLES.glob("*/model.onnx"))]
MODELS = [*TEXT_MODELS, *SAMPLE_MODELS]


@dataclass(frozen=True)
class Outcome:
    """One pass on one model, twice from the start; and, when it is exact, once more on its own result."""

    effect: str
    source: ir.Model
    source_before: bytes
    first: PassResult
    repeated: PassResult
    again: PassResult | None


def pass_by_its_table(name: str) -> Pass:
    """The pass at its defaults, without the seconds that it may spend on measuring: a clock is no contract."""
    found = get_pass(name)
    return found(budget=0) if "budget" in found.model_fields else found()


@cache
def source(name: str) -> ir.Model:
    return TEXT_MODELS[name]() if name in TEXT_MODELS else load_model(SAMPLES / name / "model.onnx").model


@cache
def data(name: str) -> ArrayDataset:
    types = {value.name or "": value.dtype.numpy() for value in source(name).graph.inputs if value.dtype}
    if name in TEXT_MODELS:
        rng = _rng()
        samples = [random_feeds(source(name), rng, S=6, T=6) for _ in range(CALIBRATION_SAMPLES)]
        return ArrayDataset({key: np.concatenate([sample[key] for sample in samples]) for key in types})
    with np.load(SAMPLES / name / "calib.npz") as arrays:
        return ArrayDataset({key: arrays[key][:CALIBRATION_SAMPLES].astype(types[key]) for key in types})


def outcome(pass_name: str, model_name: str, with_data: bool) -> Outcome:
    applied = pass_by_its_table(pass_name)
    model = source(model_name)
    # Both are pairs that the runner never makes: it raises the opset, and asks for data, before a pass is applied.
    if model.opset_imports[""] < applied.min_opset:
        pytest.skip(f"the runner raises opset {model.opset_imports['']} to {applied.min_opset} first")
    if not with_data and "calibration" in applied.needs:
        pytest.skip(f"{pass_name} needs calibration data")
    calibration = data(model_name) if with_data else None
    before = model_bytes(model)
    first = run_pass(applied, model, calibration=calibration, seed=SEED)
    repeated = run_pass(applied, model, calibration=calibration, seed=SEED)
    exact = applied.effect == "exact"
    again = run_pass(applied, first.model, calibration=calibration, seed=SEED) if exact else None
    return Outcome(applied.effect, model, before, first, repeated, again)


def is_slow(pass_name: str, model_name: str) -> bool:
    """Pruning fits each layer of a sample model several times over: one of them is enough for a fast run."""
    return pass_name.startswith("prune") and model_name in SAMPLE_MODELS and model_name != "digits_resnet"


# Data or none are two ways through some passes; samples are run with data only, to keep the suite short.
CASES = [
    pytest.param(
        pass_name,
        model_name,
        with_data,
        id=f"{pass_name}-{model_name}{'' if with_data else '-no-data'}",
        marks=[pytest.mark.slow] if is_slow(pass_name, model_name) else [],
    )
    for pass_name in pass_names()
    for model_name in MODELS
    for with_data in (True, False)
    if with_data or model_name in TEXT_MODELS
]


def the_result_is_valid_and_keeps_inputs_and_outputs(found: Outcome, feeds_to_try: ArrayDataset) -> None:
    onnx.checker.check_model(model_bytes(found.first.model))
    assert signature(found.first.model) == signature(found.source)
    before, after = dict(found.source.metadata_props), dict(found.first.model.metadata_props)
    assert before == after, "metadata is the runner's to write"


def the_result_runs_and_gives_numbers_of_the_same_shapes(found: Outcome, feeds_to_try: ArrayDataset) -> None:
    for feeds in feeds_to_try:
        expected, got = run_model(found.source, feeds), run_model(found.first.model, feeds)
        assert {n: (a.dtype, a.shape) for n, a in got.items()} == {n: (a.dtype, a.shape) for n, a in expected.items()}
        assert all(np.isfinite(array).all() for array in got.values())


def changed_is_0_exactly_when_the_bytes_are_equal(found: Outcome, feeds_to_try: ArrayDataset) -> None:
    changed, same = found.first.changed, digest(model_bytes(found.first.model)) == digest(found.source_before)
    if (changed == 0) != same:
        what = "equal" if same else f"different:\n{difference(found.source, found.first.model)}"
        pytest.fail(f"changed={changed}, but the bytes are {what}")


def the_same_seed_gives_the_same_bytes(found: Outcome, feeds_to_try: ArrayDataset) -> None:
    assert_same_bytes(found.first.model, found.repeated.model)
    first, repeated = (found.first.changed, found.first.skipped), (found.repeated.changed, found.repeated.skipped)
    assert first == repeated


def the_source_is_untouched(found: Outcome, feeds_to_try: ArrayDataset) -> None:
    assert digest(model_bytes(found.source)) == digest(found.source_before)


def an_exact_pass_keeps_outputs_and_has_nothing_left_to_do(found: Outcome, feeds_to_try: ArrayDataset) -> None:
    if found.again is None:
        return  # a lossy one promises neither
    for feeds in feeds_to_try:
        assert_same_outputs(found.source, found.first.model, feeds, rtol=EXACT_RTOL, atol=EXACT_ATOL)
    assert_same_bytes(found.first.model, found.again.model)
    assert (again := found.again.changed) == 0, f"changed={again} and equal bytes"


CLAUSES = (
    the_result_is_valid_and_keeps_inputs_and_outputs,
    the_result_runs_and_gives_numbers_of_the_same_shapes,
    changed_is_0_exactly_when_the_bytes_are_equal,
    the_same_seed_gives_the_same_bytes,
    the_source_is_untouched,
    an_exact_pass_keeps_outputs_and_has_nothing_left_to_do,
)


@pytest.mark.parametrize(("pass_name", "model_name", "with_data"), CASES)
def test_a_pass_keeps_its_contract(pass_name: str, model_name: str, with_data: bool) -> None:
    found = outcome(pass_name, model_name, with_data)
    for clause in CLAUSES:
        clause(found, data(model_name).take(2))


@pytest.mark.parametrize("pass_name", pass_names())
def test_a_pass_refuses_without_data_exactly_when_it_says_that_it_needs_some(pass_name: str) -> None:
    applied = pass_by_its_table(pass_name)
    if "calibration" in applied.needs:
        with pytest.raises(UsageError, match="needs calibration data"):
            run_pass(applied, convolutional())
    else:
        run_pass(applied, convolutional())


@pytest.mark.parametrize("pass_name", pass_names())
def test_a_pass_describes_itself(pass_name: str) -> None:
    found = get_pass(pass_name)
    assert found.name == pass_name
    assert 20 <= len(found.summary()) <= 150, "one line for `modelopt passes`"
    undescribed = [name for name, option in found.model_fields.items() if not option.description]
    assert undescribed == []


def test_a_difference_is_short_and_names_what_changed() -> None:
    model = convolutional()
    changed = run_pass(get_pass("prune-magnitude")(), model).model
    lines = difference(model, changed).splitlines()
    assert len(lines) <= DIFF_LINES + 1
    assert any(line.startswith("-weight w1") for line in lines)
    with pytest.raises(AssertionError, match="weight w1"):
        assert_same_bytes(model, changed)


def assert_same_bytes(one: ir.Model, other: ir.Model) -> None:
    first, second = digest(model_bytes(one)), digest(model_bytes(other))
    assert first == second, f"\n{difference(one, other)}"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def signature(model: ir.Model) -> dict[str, list[tuple[str, str, str]]]:
    graph = model.graph
    sides = {"inputs": graph.inputs, "outputs": graph.outputs}
    return {side: [(v.name or "", str(v.type), str(v.shape)) for v in values] for side, values in sides.items()}


def difference(one: ir.Model, other: ir.Model) -> str:
    """The first lines in which two models differ, weights by digest."""
    lines = list(difflib.unified_diff(_described(one), _described(other), "before", "after", lineterm="", n=0))
    more = [f"... {len(lines) - DIFF_LINES} lines more"] if len(lines) > DIFF_LINES else []
    return (
        "\n".join([*lines[:DIFF_LINES], *more]) or "(only in what is not shown: names of tensors, shapes, doc strings)"
    )


def _described(model: ir.Model) -> list[str]:
    lines = [f"opset {domain or 'ai.onnx'} {version}" for domain, version in model.opset_imports.items()]
    for graph in model.graphs():
        for name, value in graph.initializers.items():
            assert value.const_value is not None
            content = digest(value.const_value.tobytes())
            lines.append(f"weight {name} {value.const_value.dtype.name} {value.const_value.shape} {content}")
    for node in all_nodes(model):
        inputs = ", ".join(value.name or "" if value is not None else "" for value in node.inputs)
        lines.append(f"{node.op_type} '{node.name}' ({inputs}) -> {', '.join(v.name or '' for v in node.outputs)}")
    return lines
