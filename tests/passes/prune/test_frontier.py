"""A walk in parts sees what one run from the start sees, whatever is kept on the way."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.calibration.probe import Probe
from modelopt_cli.passes.prune.frontier import Frontier, live_before
from modelopt_cli.testing import ArrayDataset, model_from_text

RNG = np.random.default_rng(4)
TEXT = """m (float[N,4] x, float[N,4] m) => (float[N,4] y) {
    half = Constant <value = float {0.5}> ()
    twice = Add (half, half)
    a = MatMul (x, w1)
    b = Relu (a)
    c = MatMul (b, w2)
    d = Add (c, x)
    e = Mul (d, twice)
    top = ReduceMax <keepdims=0> (e)
    yes = Greater (top, half)
    f = If (yes) <then_branch = t () => (float[N,4] p) { p = Add (e, m) },
                  else_branch = g () => (float[N,4] q) { q = Sub (e, b) }>
    y = MatMul (f, w3) }"""


def network() -> ir.Model:
    arrays = {name: RNG.standard_normal((4, 4)).astype(np.float32) for name in ("w1", "w2", "w3")}
    return model_from_text(TEXT, **arrays)


def data(count: int = 5) -> ArrayDataset:
    return ArrayDataset({name: RNG.standard_normal((count, 4)).astype(np.float32) for name in "xm"})


def test_what_is_alive_is_what_is_read_later_and_varies() -> None:
    model = network()
    live = {node.outputs[0].name: names for node, names in live_before(model.graph).items()}
    assert live["c"] == ("x", "m", "b")
    assert live["top"] == ("m", "b", "e")
    assert live["y"] == ("f",)


@pytest.mark.parametrize("max_bytes", [10**6, 0], ids=["kept", "computed again"])
def test_values_are_those_of_the_whole_network(max_bytes: int) -> None:
    model, samples = network(), data()
    frontier = Frontier(model, samples, max_bytes=max_bytes)
    live = live_before(model.graph)
    for node in model.graph:
        if node.op_type == "Constant" or node.outputs[0].name == "twice":
            continue
        assert frontier.advance(live[node]) is (max_bytes > 0 or live[node] == ())
        names = [value.name for value in node.inputs if value.producer() is None or value.name in live[node]]
        names = [name for name in names if name not in model.graph.initializers] + [node.outputs[0].name]
        probe = Probe(model, names)
        for got, sample in zip(frontier.values(names), samples, strict=True):
            for name, wanted in probe.run(sample).items():
                np.testing.assert_allclose(got[name], wanted, rtol=1e-6, atol=1e-6)


def test_edits_before_the_frontier_count_and_those_behind_do_not() -> None:
    model, samples = network(), data()
    live = {node.outputs[0].name: names for node, names in live_before(model.graph).items()}
    frontier = Frontier(model, samples)
    frontier.advance(live["c"])
    before = [found["d"] for found in frontier.values(["d"])]
    model.graph.initializers["w1"].const_value = ir.Tensor(np.zeros((4, 4), np.float32), name="w1")
    assert all(np.array_equal(found["d"], old) for found, old in zip(frontier.values(["d"]), before, strict=True))
    model.graph.initializers["w2"].const_value = ir.Tensor(np.zeros((4, 4), np.float32), name="w2")
    assert all(
        np.array_equal(found["d"], sample["x"]) for found, sample in zip(frontier.values(["d"]), samples, strict=True)
    )
