"""Around the pattern of each rule: broadcast constants, values read twice, outputs in the middle, free sizes.

Whatever a rule makes of such a graph, outputs stay, in onnxruntime and in the reference evaluator.
"""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from fuse_checks import check_pass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.rules.table import ALL, rule_names
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.testing import model_from_text, random_feeds

SIZES = {"n": 2, "c": 4, "h": 6, "w": 8}
SAME = "<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>"
NORM = "BatchNormalization({}, gain, bias, mean, variance)"
# Of other families, whose tests hold them: attention and norms.
ELSEWHERE = {"recognise-instance-norm", "recognise-norm", "recognise-l2", "recognise-rotary", "group-queries"}
ELSEWHERE |= {"fuse-attention", "part-residual", "scale-part-backward", "known-truths", "drop-nan-guard"}
ELSEWHERE |= {
    "recognise-moments",
    "transpose-through-reshape",
    "inline-if",
    "drop-zero-state",
    "sink-weights",
    "last-state",
}

# One clean graph for each rule; x is [n, c, h, w], and s a constant of a drawn broadcast shape over it.
PATTERNS: dict[str, str] = {
    "recognise-gelu": "d = Mul(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)",
    "recognise-mish": "p = Softplus(x) t = Tanh(p) y = Mul(x, t)",
    "recognise-hard-sigmoid": "a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six)",
    "recognise-hard-swish": "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
    "recognise-leaky-relu": "c = Greater(x, zero) l = Mul(x, slope) y = Where(c, x, l)",
    "recognise-sigmoid": "m = Neg(x) e = Exp(m) a = Add(e, one) y = Div(one, a)",
    "recognise-softplus": "e = Exp(x) a = Add(e, one) y = Log(a)",
    "recognise-softsign": "b = Abs(x) a = Add(b, one) y = Div(x, a)",
    "recognise-clip": "t = Min(x, six) y = Max(t, one)",
    "merge-clips": "t = Clip(x, zero, six) u = Relu(t) y = Clip(u, zero, three)",
    "einsum-to-matmul": 'y = Einsum <equation = "nabc,cd->nabd"> (x, last)',
    "bias-before-reshape": "t = MatMul(x, wide) u = Reshape(t, heads) y = Add(u, pairs)",
    "fold-pad": f"p = Pad(x, pads) y = Conv {SAME} (p, k3)",
    "fold-pad-pool": "r = Relu(x) p = Pad(r, pads) y = MaxPool <kernel_shape = [3, 3]> (p)",
    "fold-affine-after": f"t = Conv {SAME} (x, k3, bias) u = Mul(t, s) v = Sub(s, u) y = Relu(v)",
    "merge-affine": "r = Relu(x) t = Mul(r, s) y = Mul(half, t)",
    "pool-first": "t = Conv (x, k1, bias) y = GlobalAveragePool(t)",
    "merge-branches": f"t = Conv {SAME} (x, k3, bias) u = Conv (x, k1) y = Add(t, u)",
    "merge-linear": "t = Conv (x, k1, bias) y = Conv (t, k1b)",
    "hard-sigmoid-to-clip": "t = Conv (x, k1, bias) y = HardSigmoid(t)",
    "merge-gated-residual": "p = GlobalAveragePool(x) g = Conv (p, k1, bias) c = Clip(g, zero, one) m = Mul(x, c)"
    " y = Add(x, m)",
    "factor-residual": "p = GlobalAveragePool(x) g = Sigmoid(p) m = Mul(x, g) y = Add(m, x)",
    "move-affine-forward": f"t = Mul(x, s) r = AveragePool <kernel_shape = [2, 2]> (t) y = Conv {SAME} (r, k3)",
    "move-affine-backward": "t = Conv (x, k1, bias) u = Transpose <perm = [0, 2, 1, 3]> (t) v = Add(u, half)"
    " y = Mul(v, half)",
    "merge-batch-norm": f"r = Relu(x) t = {NORM.format('r')} y = Mul(t, s)",
    "matmul-to-gemm": "f = ReduceMean <axes = [2, 3], keepdims = 0> (x) t = MatMul(f, square) y = Add(t, bias)",
    "known-integers": "d = Shape(x) e = Gather(d, index) f = Cast <to = 1> (e) y = Mul(x, f)",
    "static-reshape": "d = Shape(x) e = Gather(d, zeroth) g = Concat <axis = 0> (e, minus) y = Reshape(x, g)",
    "drop-no-op": "i = Identity(x) t = Transpose <perm = [0, 1, 2, 3]> (i) u = Mul(t, one) y = Relu(u)",
    "cast-like-to-cast": "c = CastLike(count, x) y = Mul(x, c)",
    "merge-casts": "c = Cast <to = 11> (x) d = Cast <to = 1> (c) y = Relu(d)",
    "drop-expand": "m = GlobalAveragePool(x) d = Shape(x) e = Expand(m, d) y = Sub(x, e)",
    "sequence-to-split": "q = SplitToSequence <axis = 1> (x, two) a = SequenceAt(q, nought) b = SequenceAt(q, single)"
    " y = Mul(a, b)",
    "keep-axes": "r = ReduceMean <axes = [1], keepdims = 0> (x) y = Unsqueeze(r, index)",
    "merge-transposes": "t = Transpose <perm = [0, 2, 3, 1]> (x) y = Transpose <perm = [0, 2, 3, 1]> (t)",
    "cancel-transposes": "t = Transpose <perm = [0, 2, 3, 1]> (x) r = Relu(t) m = MatMul(r, square)"
    " y = Transpose <perm = [0, 3, 1, 2]> (m)",
    "gather-before-transpose": "t = Transpose <perm = [1, 0, 2, 3]> (x) u = Gather <axis = 1> (t, nought) y = Relu(u)",
    "batched-matmul": "t = Reshape(x, joined) v = Transpose <perm = [0, 2, 1]> (t) m = MatMul(t, v)"
    " y = Reshape(m, apart)",
    "squeeze-before-transpose": "u = Unsqueeze(x, index) t = Transpose <perm = [0, 1, 3, 2, 4]> (u)"
    " y = Squeeze(t, index)",
    "merge-reshapes": "t = Reshape(x, flat) y = Reshape(t, rows)",
    "merge-slices": "t = Slice(x, zeroth, index, index) y = Slice(t, zeroth, four, second)",
    "select-first": "t = MatMul(x, last) u = Mul(t, three) r = Tanh(u) y = Gather <axis = 2> (r, single)",
    "slice-to-gather": "t = Slice(x, zeroth, index, index) y = Squeeze(t, index)",
    "merge-concats": "t = Concat <axis = 1> (x, x) u = Relu(x) y = Concat <axis = 1> (u, t)",
}
NUMBERS = {"root": np.sqrt(0.5), "one": 1, "half": 0.5, "zero": 0, "three": 3, "six": 6, "slope": 0.1}
INTEGERS = {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "index": [1], "zeroth": [0], "minus": [-1], "four": [4], "second": [2]}
INTEGERS |= {
    "two": 2,
    "nought": 0,
    "single": 1,
    "count": 3,
    "flat": [0, -1],
    "rows": [-1, 4, 48],
    "joined": [-1, 6, 8],
    "apart": [-1, 4, 6, 6],
    "heads": [0, 0, 0, 2, 2],
}
SHAPES = {
    "k3": (4, 4, 3, 3),
    "k1": (4, 4, 1, 1),
    "k1b": (4, 4, 1, 1),
    "square": (4, 4),
    "last": (8, 3),
    "wide": (8, 4),
    "pairs": (2, 2),
}
SHAPES |= {name: (4,) for name in ("gain", "bias", "mean", "variance")}
NOT_FLOAT = {"Shape", "Greater", "SplitToSequence", "Gather", "Cast", "Concat"}
BROADCAST = [(), (1,), (4, 1, 1), (1, 4, 1, 1), (1, 1, 1), (8,), (6, 1), (1, 1, 6, 8)]


def build(body: str, declared: dict[str, bool], constant: tuple[int, ...], outputs: list[str], seed: int) -> ir.Model:
    """The graph with its constants; ``declared`` says which sizes of x are numbers."""
    rng = np.random.default_rng(seed)
    words = set(re.findall(r"\w+", body))
    arrays = {name: np.array(value, np.float32) for name, value in NUMBERS.items()}
    arrays |= {name: np.array(value, np.int64) for name, value in INTEGERS.items()}
    arrays |= {name: (rng.random(shape) + 0.25).astype(np.float32) for name, shape in SHAPES.items()}
    arrays["s"] = (rng.random(constant) + 0.25).astype(np.float32)
    used = {name: array for name, array in arrays.items() if re.search(rf"[(,] ?{name}[,)]", body) and name in words}
    sizes = ", ".join(str(SIZES[axis]) if declared.get(axis, axis != "n") else axis for axis in "nchw")
    text = f'<ir_version: 8, opset_import: ["" : 17]> g (float[{sizes}] x) => ({{}}) {{{{ {body} }}}}'
    feeds = {"x": np.ones(tuple(SIZES.values()), np.float32)}
    proto = onnx.parser.parse_model(text.format(", ".join(f"float[] {name}" for name in outputs)))
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in used.items())
    ranks = [array.ndim for array in ReferenceEvaluator(proto).run(None, feeds)]
    kinds = [[f"{name}{axis}" for axis in range(rank)] for name, rank in zip(outputs, ranks, strict=True)]
    declarations = (
        f"float[{', '.join(dims)}] {name}" if dims else f"float {name}"
        for name, dims in zip(outputs, kinds, strict=True)
    )
    return model_from_text(text.format(", ".join(declarations)), **used)


def values(body: str) -> list[str]:
    """What the graph computes from x as floats, in order."""
    lines = re.findall(r"(?<![<,] )(?<!<)\b(\w+) = ([A-Z]\w+) ?[<(]", body)
    return [name for name, op in lines if op not in NOT_FLOAT]


@st.composite
def graphs(draw: st.DrawFn) -> ir.Model:
    """A pattern in which some values are outputs too, or are read once more, and sizes are free or fixed."""
    body = PATTERNS[draw(st.sampled_from(sorted(PATTERNS)))]
    outputs = ["y"]
    inner = values(body)[:-1]
    if inner and draw(st.booleans()):
        outputs.append(draw(st.sampled_from(inner)))
    if inner and draw(st.booleans()):
        body = f"{body} again = Exp({draw(st.sampled_from(inner))})"
        outputs.append("again")
    declared = {axis: draw(st.booleans()) for axis in "nhw"}
    declared["c"] = True
    return build(body, declared, draw(st.sampled_from(BROADCAST)), outputs, draw(st.integers(0, 99)))


def check(model: ir.Model) -> dict[str, int]:
    """Both passes hold to their contract, and both evaluators see no difference; the rules that were applied."""
    first = check_pass(Simplify(), model, rtol=1e-4, atol=1e-4, **SIZES)
    result = check_pass(Fuse(), first.model, rtol=1e-4, atol=1e-4, **SIZES)
    feeds = random_feeds(model, np.random.default_rng(1), **SIZES)
    expected = ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)
    for before, after in zip(expected, ReferenceEvaluator(ir.to_proto(result.model)).run(None, feeds), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-3)
    return {**first.details["rules"], **result.details["rules"]}


def test_every_rule_of_the_family_has_a_pattern() -> None:
    assert set(rule_names(ALL)) - ELSEWHERE == set(PATTERNS)


@pytest.mark.parametrize("rule", PATTERNS)
def test_the_rule_is_applied_to_its_pattern(rule: str) -> None:
    assert rule in check(build(PATTERNS[rule], {}, (4, 1, 1), ["y"], 0))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_outputs_stay_around_a_pattern(model: ir.Model) -> None:
    check(model)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_outputs_stay_around_a_pattern_in_many_more(model: ir.Model) -> None:
    check(model)
