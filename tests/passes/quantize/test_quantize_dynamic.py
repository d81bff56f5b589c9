from __future__ import annotations

import numpy as np
import pytest

from modelopt_cli.graph.io import model_bytes
from modelopt_cli.passes.quantize.quantize_dynamic import QuantizeDynamic
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import ArrayDataset, model_from_text, op_types, run_model, run_pass

RNG = np.random.default_rng(0)
BLOCK = """
g (int64[N, S] ids) => (float[N, S, 10] y) {
    e = Gather(table, ids)
    h = LayerNormalization<axis=-1>(e, gamma, beta)
    u = MatMul(h, w1)
    a = Add(u, b1)
    r = Relu(a)
    d = MatMul(r, w2)
    s = Add(h, d)
    y = MatMul(s, w3)
}
"""


def block():
    shapes = {"table": (600, 48), "w1": (48, 96), "b1": (96,), "w2": (96, 48), "w3": (48, 10)}
    arrays = {name: (0.3 * RNG.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    gamma = np.ones(48, np.float32)
    gamma[7] = 60  # an outlier channel, as LayerNormalization makes them in trained transformers
    return model_from_text(BLOCK, gamma=gamma, beta=np.zeros(48, np.float32), **arrays)


def samples(count: int = 12) -> ArrayDataset:
    return ArrayDataset({"ids": RNG.integers(0, 600, (count, 9))})


def sqnr(model, result) -> float:
    feeds = {"ids": np.random.default_rng(5).integers(0, 600, (8, 9))}
    before, after = run_model(model, feeds)["y"], run_model(result, feeds)["y"]
    return float(10 * np.log10((before**2).sum() / ((before - after) ** 2).sum()))


def test_without_data_products_and_table_become_int8_and_the_small_one_stays() -> None:
    model = block()
    result = run_pass(QuantizeDynamic(), model)
    assert result.changed == 3 and result.details == {"smoothed_inputs": 0, "lstm": 0, "embeddings": 1}
    assert [skip.reason for skip in result.skipped] == ["a side of its weight is below 16: integer kernels lose"]
    assert sqnr(model, result.model) > 15


def test_calibration_data_brings_it_closer() -> None:
    model, data = block(), samples()
    plain = run_pass(QuantizeDynamic(), model)
    aided = run_pass(QuantizeDynamic(), model, calibration=data)
    rough = run_pass(QuantizeDynamic(smooth=False), model, calibration=data)
    assert aided.details["smoothed_inputs"] >= 1 and rough.details["smoothed_inputs"] == 0
    assert sqnr(model, aided.model) > sqnr(model, plain.model) + 6
    assert sqnr(model, aided.model) > sqnr(model, rough.model) + 3


def test_same_input_same_bytes_and_a_second_time_changes_nothing() -> None:
    model, data = block(), samples()
    once, again = (run_pass(QuantizeDynamic(), model, calibration=data).model for _ in range(2))
    assert model_bytes(once) == model_bytes(again)
    twice = run_pass(QuantizeDynamic(), once, calibration=data)
    assert twice.changed == 0 and model_bytes(twice.model) == model_bytes(once)


def test_include_and_exclude_take_node_names() -> None:
    model = block()
    names = {"u": "enc/up", "d": "enc/down"}
    for node in model.graph:
        node.name = names.get(node.outputs[0].name or "", node.outputs[0].name)
    only = run_pass(QuantizeDynamic(include=("enc/*",), exclude=("*/down",)), model)
    assert only.changed == 1
    assert op_types(only.model).count("MatMul") == 2


def test_parts_can_be_left_out() -> None:
    kept = run_pass(QuantizeDynamic(ops=("Gemm",), embeddings=False), block())
    assert kept.changed == 0


@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "openvino"])
def test_other_providers_are_refused_with_a_reason(provider: str) -> None:
    model = block()
    result = run_pass(QuantizeDynamic(), model, target=Target(provider=provider, isa="none"))
    assert result.changed == 0 and provider in result.skipped[0].reason
    assert model_bytes(result.model) == model_bytes(model)


def test_convolutions_and_gru_are_skipped_with_a_reason() -> None:
    text = """
    g (float[1, 16, 8, 8] x) => (float[1, 16, 8, 8] y) { y = Conv<kernel_shape=[1, 1]>(x, w) }
    """
    w = RNG.standard_normal((16, 16, 1, 1)).astype(np.float32)
    result = run_pass(QuantizeDynamic(), model_from_text(text, w=w))
    assert result.changed == 0 and "Conv" in result.skipped[0].reason
    assert "com.microsoft" not in result.model.opset_imports
