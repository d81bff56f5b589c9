from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from modelopt_cli.errors import ModelError
from modelopt_cli.profiling.audit import audit, is_integer_kernel
from modelopt_cli.targets.target import Target
from modelopt_cli.testing import model_from_text

RNG = np.random.default_rng(0)
X = {"x": RNG.standard_normal((1, 4, 8, 8)).astype(np.float32)}
W = {
    "w": RNG.standard_normal((8, 4, 3, 3)).astype(np.float32),
    "v": RNG.standard_normal((2, 8, 1, 1)).astype(np.float32),
}
MACS = 8 * 36 * 4 * 9, 2 * 36 * 8
FLOAT = model_from_text("g (float[1,4,8,8] x) => (float[1,2,6,6] y) { a = Conv(x, w) y = Conv(a, v) }", **W)


def first_conv_quantized(tail: str) -> ir.Model:
    """The first Conv between Q/DQ pairs as they fuse on the CPU, then ``tail`` from ``d`` to ``y``."""
    text = f"""g (float[1,4,8,8] x) => (float[1,2,6,6] y) {{
        q = QuantizeLinear(x, s, z)
        dx = DequantizeLinear(q, s, z)
        dw = DequantizeLinear<axis = 0>(wq, ws, wz)
        a = Conv(dx, dw)
        qa = QuantizeLinear(a, s, z)
        d = DequantizeLinear(qa, s, z)
        {tail}
    }}"""
    arrays = {
        "s": np.array(0.05, np.float32),
        "z": np.array(128, np.uint8),
        "wq": np.clip(W["w"] / 0.02, -127, 127).astype(np.int8),
        "ws": np.full(8, 0.02, np.float32),
        "wz": np.zeros(8, np.int8),
        "v": W["v"],
    }
    return model_from_text(text, **arrays)


def test_share_of_macs_in_integer_kernels() -> None:
    found = audit(first_conv_quantized("y = Conv(d, v)"), FLOAT, X, Target())
    assert found.integer_ops == {"QLinearConv": 1}
    assert found.float_ops == {"Conv": 1}
    assert found.leftover_qdq == 2  # into the first Conv, and out of it
    assert (found.macs_original, found.macs_result) == (sum(MACS), sum(MACS))
    assert found.integer_mac_share == pytest.approx(MACS[0] / sum(MACS))


def test_nothing_runs_as_integers_in_a_float_model() -> None:
    found = audit(FLOAT, FLOAT, X, Target())
    assert found.integer_mac_share == 0.0
    assert found.integer_ops == {}
    assert sum(found.float_ops.values()) == 2


def test_pairs_that_did_not_fuse_are_counted_as_left_over() -> None:
    tail = "t = Tanh(d) qt = QuantizeLinear(t, s, z) dt = DequantizeLinear(qt, s, z) y = Conv(dt, v)"
    assert audit(first_conv_quantized(tail), FLOAT, X, Target()).leftover_qdq == 4


def test_a_model_without_macs_has_no_share() -> None:
    relu = model_from_text("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = Relu(x) }")
    found = audit(relu, relu, X, Target())
    assert (found.integer_mac_share, found.macs_original, found.macs_result) == (0.0, 0, 0)


def test_inputs_that_do_not_fit_are_said() -> None:
    with pytest.raises(ModelError, match="fails when it runs"):
        audit(FLOAT, FLOAT, {"x": np.ones((1, 5, 8, 8), np.float32)}, Target())


def test_dynamic_quantization_is_integer_too() -> None:
    text = """g (float[2,16] x) => (float[2,8] y) {
        q, s, z = DynamicQuantizeLinear(x)
        i = MatMulInteger(q, w, z, wz)
        f = Cast<to = 1>(i)
        k = Mul(s, ws)
        y = Mul(f, k)
    }"""
    arrays = {"w": np.ones((16, 8), np.int8), "wz": np.array(0, np.int8), "ws": np.array(0.1, np.float32)}
    original = model_from_text(
        "g (float[2,16] x) => (float[2,8] y) { y = MatMul(x, w) }", w=np.ones((16, 8), np.float32)
    )
    found = audit(model_from_text(text, **arrays), original, {"x": np.ones((2, 16), np.float32)}, Target())
    assert found.integer_ops == {"DynamicQuantizeMatMul": 1}
    assert (found.integer_mac_share, found.macs_result, found.leftover_qdq) == (1.0, 256, 0)


def test_integer_kernels_by_name() -> None:
    assert all(map(is_integer_kernel, ("QLinearConv", "QLinearAdd", "QGemm", "DynamicQuantizeMatMul", "ConvInteger")))
    # four-bit weights are unpacked and multiplied as floats; quantizing and back computes nothing
    assert not any(map(is_integer_kernel, ("Conv", "MatMulNBits", "QuantizeLinear", "DequantizeLinear")))


@pytest.mark.zoo
def test_macs_of_a_real_model_are_the_published_ones(zoo: Path) -> None:
    path = zoo / "efficientnet_lite0" / "model.onnx"
    found = audit(path, path, {"input": np.zeros((1, 3, 224, 224), np.float32)}, Target())
    assert found.macs_original == found.macs_result
    assert found.macs_original / 1e6 == pytest.approx(385, abs=25)  # 407 M with pooling and additions
