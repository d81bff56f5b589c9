"""Random affine arithmetic between linear nodes and nodes that move, join and drop elements: outputs stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from fuse_checks import check_pass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from modelopt_cli.passes.fuse.fuse import Fuse
from modelopt_cli.passes.fuse.simplify import Simplify
from modelopt_cli.testing import model_from_text, random_feeds

BATCH = 2
Shape = tuple[int, ...]  # the batch is symbolic in the model, and BATCH here


class Builder:
    """Nodes as text, their weights, and the shape of each value."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.lines: list[str] = []
        self.weights: dict[str, np.ndarray] = {}
        self.shapes: dict[str, Shape] = {"x": (BATCH, 4, 6, 4)}

    def weight(self, *shape: int, positive: bool = False) -> str:
        array = self.rng.uniform(0.5, 1.5, shape) * (1 if positive else self.rng.choice([-1, 1, 1]))
        return self.keep(array.astype(np.float32))

    def integers(self, *numbers: int) -> str:
        return self.keep(np.array(numbers, np.int64))

    def keep(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = array
        return name

    def node(self, shape: Shape, text: str) -> str:
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        self.shapes[name] = shape
        return name


def affine(b: Builder, draw: st.DrawFn, value: str) -> str:
    shape = b.shapes[value]
    kept = [draw(st.booleans()) for _ in shape[1:]] if draw(st.booleans()) else [True] + [False] * (len(shape) - 2)
    constant = [1, *(size if keep else 1 for size, keep in zip(shape[1:], kept, strict=True))]
    cut = next((i for i, size in enumerate(constant) if size != 1), len(constant))
    array = b.weight(*constant[draw(st.integers(0, cut)) :])
    template = draw(
        st.sampled_from(["Mul({v}, {c})", "Mul({c}, {v})", "Add({v}, {c})", "Sub({c}, {v})", "Div({v}, {c})"])
    )
    return b.node(shape, template.format(v=value, c=array))


def norm(b: Builder, draw: st.DrawFn, value: str) -> str:
    shape = b.shapes[value]
    parts = ", ".join([b.weight(shape[1]), b.weight(shape[1]), b.weight(shape[1]), b.weight(shape[1], positive=True)])
    return b.node(shape, f"BatchNormalization({value}, {parts})")


def linear(b: Builder, draw: st.DrawFn, value: str) -> str:
    shape = b.shapes[value]
    if len(shape) == 4 and draw(st.booleans()):
        pad = draw(st.integers(0, 1))
        bias = f", {b.weight(3)}" if draw(st.booleans()) else ""
        kernel = b.weight(3, shape[1], 1 + 2 * pad, 1 + 2 * pad)
        return b.node((shape[0], 3, *shape[2:]), f"Conv <pads = {[pad] * 4}> ({value}, {kernel}{bias})")
    product = b.node((*shape[:-1], 6), f"MatMul({value}, {b.weight(shape[-1], 6)})")
    return b.node(b.shapes[product], f"Add({product}, {b.weight(6)})") if draw(st.booleans()) else product


def moved(b: Builder, draw: st.DrawFn, value: str) -> str:
    shape = b.shapes[value]
    perm = [0, *draw(st.permutations(range(1, len(shape))))]
    return b.node(tuple(shape[p] for p in perm), f"Transpose <perm = {perm}> ({value})")


def reshaped(b: Builder, draw: st.DrawFn, value: str) -> str:
    rest = int(np.prod(b.shapes[value][1:]))
    ways = [(rest,), (rest // 2, 2), *[(4, rest // 4)] * (rest % 4 == 0), *[(2, rest // 4, 2)] * (rest % 4 == 0)]
    ways = [way for way in ways if int(np.prod(way)) == rest]
    target = draw(st.sampled_from(ways))
    return b.node((BATCH, *target), f"Reshape({value}, {b.integers(0, *target)})")


def taken(b: Builder, draw: st.DrawFn, value: str) -> str:
    shape = b.shapes[value]
    axis = draw(st.integers(1, len(shape) - 1))
    start = draw(st.integers(0, shape[axis] - 1))
    if draw(st.booleans()):
        index = b.keep(np.array(start if len(shape) > 2 and draw(st.booleans()) else [start], np.int64))
        rest = (1,) if b.weights[index].ndim else ()
        return b.node((*shape[:axis], *rest, *shape[axis + 1 :]), f"Gather <axis = {axis}> ({value}, {index})")
    cut = [b.integers(number) for number in (start, shape[axis], axis)]
    return b.node((*shape[:axis], shape[axis] - start, *shape[axis + 1 :]), f"Slice({value}, {', '.join(cut)})")


def parted(b: Builder, draw: st.DrawFn, value: str) -> str:
    """Split, one part changed, and joined again or not."""
    shape = b.shapes[value]
    axis = draw(st.integers(1, len(shape) - 1))
    if shape[axis] < 2:
        return value
    first = draw(st.integers(1, shape[axis] - 1))
    sizes = [first, shape[axis] - first]
    names = [f"p{len(b.lines)}_{i}" for i in (0, 1)]
    b.lines.append(f"{', '.join(names)} = Split <axis = {axis}> ({value}, {b.integers(*sizes)})")
    for name, size in zip(names, sizes, strict=True):
        b.shapes[name] = (*shape[:axis], size, *shape[axis + 1 :])
    changed = affine(b, draw, names[0])
    return b.node(shape, f"Concat <axis = {axis}> ({changed}, {names[1]})") if draw(st.booleans()) else changed


def pooled(b: Builder, draw: st.DrawFn, value: str) -> str:
    shape = b.shapes[value]
    if len(shape) != 4 or min(shape[2:]) < 2:
        return b.node(shape, f"Relu({value})")
    pools = [
        "MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]>",
        "AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]>",
    ]
    pools += ["AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1>"]
    return b.node(shape, f"{draw(st.sampled_from(pools))} ({value})")


def reduced(b: Builder, draw: st.DrawFn, value: str) -> str:
    shape = b.shapes[value]
    if len(shape) < 3:
        return value
    axis, keep = draw(st.integers(1, len(shape) - 1)), draw(st.integers(0, 1))
    op = draw(st.sampled_from(["ReduceMean", "ReduceMax"]))
    return b.node(
        (*shape[:axis], *[1] * keep, *shape[axis + 1 :]), f"{op} <axes = [{axis}], keepdims = {keep}> ({value})"
    )


def padded(b: Builder, draw: st.DrawFn, value: str) -> str:
    shape = b.shapes[value]
    axis = draw(st.integers(1, len(shape) - 1))
    pads = [0] * (2 * len(shape))
    pads[axis] = 1
    return b.node((*shape[:axis], shape[axis] + 1, *shape[axis + 1 :]), f"Pad({value}, {b.integers(*pads)})")


def spread(b: Builder, draw: st.DrawFn, value: str) -> str:
    shape = b.shapes[value]
    if len(shape) == 4 and shape[1] % 4 == 0:
        mode = draw(st.sampled_from(["DCR", "CRD"]))
        text = f'DepthToSpace <blocksize = 2, mode = "{mode}"> ({value})'
        return b.node((shape[0], shape[1] // 4, 2 * shape[2], 2 * shape[3]), text)
    if len(shape) == 4 and shape[2] % 2 == 0 and shape[3] % 2 == 0:
        return b.node((shape[0], 4 * shape[1], shape[2] // 2, shape[3] // 2), f"SpaceToDepth <blocksize = 2> ({value})")
    return value


def joined(b: Builder, draw: st.DrawFn, value: str) -> str:
    """With a value of the same shape: added, multiplied or set beside it."""
    shape = b.shapes[value]
    other = draw(st.sampled_from([name for name, size in b.shapes.items() if size == shape]))
    axis = draw(st.integers(1, len(shape) - 1))
    ways = [(shape, f"Add({value}, {other})"), (shape, f"Mul({other}, {value})")]
    ways += [((*shape[:axis], 2 * shape[axis], *shape[axis + 1 :]), f"Concat <axis = {axis}> ({other}, {value})")]
    return b.node(*draw(st.sampled_from(ways)))


STEPS: list[Callable[[Builder, st.DrawFn, str], str]] = [affine, affine, norm, linear, linear, moved, reshaped, taken]
STEPS += [parted, pooled, reduced, padded, spread, joined]


@st.composite
def graphs(draw: st.DrawFn) -> ir.Model:
    b = Builder(draw(st.integers(0, 2**16)))
    value, outputs = "x", []
    steps = draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=6))
    place = draw(st.integers(0, len(steps)))
    for step in [linear, *steps[:place], affine, *steps[place:], linear]:
        value = step(b, draw, value)
        if max(b.shapes[value]) > 500:
            break
        if draw(st.integers(0, 15)) == 0:
            outputs.append(value)
    outputs = [name for name in dict.fromkeys([*outputs, value]) if name != "x"]
    declared = ", ".join(
        f"float[{', '.join(f'd{i}_{axis}' for axis in range(len(b.shapes[name])))}] {name}"
        for i, name in enumerate(outputs)
    )
    text = f"g (float[n,4,6,4] x) => ({declared}) {{ {' '.join(b.lines)} }}"
    return model_from_text(text, **b.weights)


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_outputs_stay(model: ir.Model) -> None:
    check(model)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_outputs_stay_in_many_more(model: ir.Model) -> None:
    check(model)


def check(model: ir.Model) -> Counter[str]:
    """In onnxruntime, which `check_pass` asks, and in the reference evaluator."""
    simplified = check_pass(Simplify(), model, rtol=1e-3, atol=1e-3, n=BATCH).model
    result = check_pass(Fuse(), simplified, rtol=1e-3, atol=1e-3, n=BATCH)
    feeds = random_feeds(model, np.random.default_rng(1), n=BATCH)
    expected = ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)
    for before, after in zip(expected, ReferenceEvaluator(ir.to_proto(result.model)).run(None, feeds), strict=True):
        scale = max(1.0, float(np.abs(before).max()))
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-3 * scale)
    return Counter(result.details["rules"])
