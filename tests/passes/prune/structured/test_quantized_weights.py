"""Networks that are quantized already: integer weights, their scales and their zero points shrink together."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from channel_models import groups, named, reasons, w

from modelopt_cli.graph.edit import constant, replace_weight
from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.prune.structured.analysis import find_dependencies
from modelopt_cli.passes.prune.structured.prune_channels import PruneChannels
from modelopt_cli.passes.prune.structured.quantized import stored_weight
from modelopt_cli.passes.prune.structured.timetable import cut
from modelopt_cli.testing import ArrayDataset, assert_same_outputs, model_from_text, random_feeds, run_pass


def integers(*shape: int, dtype: str = "int8") -> np.ndarray:
    low, high = (-127, 128) if dtype == "int8" else (0, 256)
    return np.random.default_rng(shape).integers(low, high, shape).astype(dtype)


def scales(size: int) -> np.ndarray:
    return np.random.default_rng(size).uniform(0.002, 0.01, size).astype(np.float32)


def quantized(channels: int = 32, hidden: int = 48) -> ir.Model:
    """Conv per channel, depthwise, MatMul per tensor with a zero point, Gemm, with quantized activations between."""
    text = """m (float[N,3,8,8] x) => (float[N,4] y) {
        w1 = DequantizeLinear <axis=0> (q1, s1, z1)  b1 = DequantizeLinear <axis=0> (c1, t1)
        a = Conv <pads=[1,1,1,1]> (x, w1, b1)  r = Relu (a)
        ra = QuantizeLinear (r, sa, za)  rd = DequantizeLinear (ra, sa, za)
        w2 = DequantizeLinear <axis=0> (q2, s2)  d = Conv <group=32, pads=[1,1,1,1]> (rd, w2)
        p = GlobalAveragePool (d)  f = Flatten (p)
        w3 = DequantizeLinear (q3, s3, z3)  m = MatMul (f, w3)  e = Relu (m)
        ea = QuantizeLinear (e, sa, za)  ed = DequantizeLinear (ea, sa, za)
        w4 = DequantizeLinear <axis=0> (q4, s4)  y = Gemm <transB=1> (ed, w4, b4) }"""
    weights: dict[str, np.ndarray] = {
        **{"q1": integers(channels, 3, 3, 3), "s1": scales(channels), "z1": np.zeros(channels, np.int8)},
        **{"c1": integers(channels).astype(np.int32), "t1": scales(channels)},
        **{
            "sa": np.full((), 0.05, np.float32),
            "za": np.full((), 3, np.uint8),
            "q2": integers(channels, 1, 3, 3),
            "s2": scales(channels),
        },
        **{
            "q3": integers(channels, hidden, dtype="uint8"),
            "s3": np.full((), 0.005, np.float32),
            "z3": np.full((), 128, np.uint8),
        },
        **{"q4": integers(4, hidden), "s4": scales(4), "b4": w(4)},
    }
    return named(model_from_text(text, **weights))


def silence(model: ir.Model, name: str, axis: int, gone: list[int], zero: int) -> None:
    """Whoever reads these channels multiplies them by nothing."""
    value = model.graph.initializers[name]
    array = np.array(constant(value))
    np.moveaxis(array, axis, 0)[gone] = zero
    replace_weight(value, array)


def stored(model: ir.Model) -> int:
    """Elements of all constants."""
    return sum(array.size for v in model.graph.initializers.values() if (array := constant(v)) is not None)


def test_integers_scales_and_zero_points_leave_together_and_exactly() -> None:
    model = quantized()
    assert groups(model) == [32, 48]
    channels, units = sorted(find_dependencies(model).groups, key=lambda group: group.size)
    silence(model, "q3", 0, list(range(0, 32, 2)), 128)
    silence(model, "q4", 1, list(range(16)), 0)
    after = cut(model, [*channels.labels[::2], *units.labels[:16]], [])
    onnx.checker.check_model(onnx.load_from_string(model_bytes(after)), full_check=True)
    assert_same_outputs(model, after, random_feeds(model, np.random.default_rng(0), N=2), rtol=1e-4, atol=1e-5)
    shapes = {name: value.const_value.shape.numpy() for name, value in after.graph.initializers.items()}
    assert [shapes[name] for name in ("q1", "s1", "z1", "c1", "t1")] == [(16, 3, 3, 3), *[(16,)] * 4]
    assert [shapes[name] for name in ("q2", "s2", "q3", "s3", "q4", "s4")] == [
        *[(16, 1, 3, 3), (16,), (16, 32), (), (4, 32), (4,)]
    ]


@pytest.mark.parametrize("budget", ["macs", "parameters"])
def test_the_pass_shrinks_a_quantized_network(budget: str) -> None:
    data = ArrayDataset({"x": np.random.default_rng(1).standard_normal((16, 3, 8, 8)).astype(np.float32)})
    model = quantized()
    result = run_pass(PruneChannels.model_validate({budget: 0.7, "seconds": 0}), model, calibration=data)
    assert result.details[budget] <= 0.7
    integer = {name: v.dtype for name, v in result.model.graph.initializers.items() if name.startswith("q")}
    assert integer == {name: v.dtype for name, v in model.graph.initializers.items() if name.startswith("q")}
    assert stored(result.model) < stored(model)


@pytest.mark.parametrize("name", ["w1", "w3"])
def test_a_stored_weight_is_what_the_runtime_multiplies_by(name: str) -> None:
    model = quantized()
    value = next(v for node in model.graph for v in node.outputs if v.name == name)
    q, s = (np.asarray(constant(v)) for v in value.producer().inputs[:2])
    zero, scale = (128, s) if name == "w3" else (0, s.reshape(-1, 1, 1, 1))
    found = stored_weight(value)
    assert found is not None
    np.testing.assert_allclose(found, (q.astype(np.float32) - zero) * scale, rtol=1e-6)


def test_a_weight_that_the_graph_computes_stays() -> None:
    text = """m (float[N,3,8,8] x) => (float[N,4] y) {
        v = Mul (w1, k)  a = Conv (x, v)  r = Relu (a)  p = GlobalAveragePool (r)  f = Flatten (p)
        u = Mul (w2, k)  y = MatMul (f, u) }"""
    model = named(model_from_text(text, w1=w(6, 3, 1, 1), w2=w(6, 4), k=np.full(1, 2, np.float32)))
    assert groups(model) == []


def test_a_computed_weight_is_named_as_the_reason() -> None:
    text = """m (float[N,3,8,8] x) => (float[N,4] y) {
        a = Conv (x, w1)  v = Mul (w2, k)  b = Conv (a, v)  p = GlobalAveragePool (b)  f = Flatten (p)
        y = MatMul (f, w3) }"""
    model = named(model_from_text(text, w1=w(6, 3, 1, 1), w2=w(6, 6, 1, 1), w3=w(6, 4), k=np.full(1, 2, np.float32)))
    assert reasons(model)["a"] == "its weight is computed by the graph"


def test_scales_by_block_stay_and_say_why() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]> m (float[N,8] x) => (float[N,4] y) {
        h = MatMul (x, w1)  r = Relu (h)  v = DequantizeLinear <axis=0, block_size=4> (q, s)  y = MatMul (r, v) }"""
    model = named(model_from_text(text, w1=w(8, 16), q=integers(16, 4), s=np.full((4, 4), 0.01, np.float32)))
    assert groups(model) == []
    assert reasons(model)["h"] == "it is quantized by block"
